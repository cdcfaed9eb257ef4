/* One conv2d call on memory of its own, for tests and the bench. */
#ifndef TESTS_KERNELS_CONV_RUN_H
#define TESTS_KERNELS_CONV_RUN_H

#include "base/check.h"
#include "base/philox.h"
#include "conv2d/conv2d.h"

#include <stdlib.h>
#include <string.h>

typedef struct conv_run {
    conv2d_params params;
    tensor in[4], d_in[4], y, d_y;
    op_call call;
    void *memory[12];
    int blocks;
} conv_run;

typedef struct conv_run_size {
    int64_t n, h, w, c, k, r, s;
    conv2d_params params;
    bool bias, residual;
} conv_run_size;

static inline void *conv_run_block(conv_run *run, size_t bytes) {
    void *block = aligned_alloc(64, (bytes / 64 + 1) * 64);
    CHECK(block && run->blocks < 12, "out of memory for %zu bytes", bytes);
    return run->memory[run->blocks++] = block;
}

/* Uniform in [-1, 1), a function of `seed` and the index. */
static inline void conv_run_fill(tensor *t, uint64_t seed, float scale) {
    uint64_t state = seed * 0x9E3779B97F4A7C15u + 1;
    for (int64_t i = 0; i < tensor_count(t); i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        tensor_f32(t)[i] = scale * ((float)(state >> 40) / 8388608.0f - 1.0f);
    }
}

static inline void conv_run_tensor(conv_run *run, tensor *t, const char *name, int rank,
                                   const int64_t *shape) {
    *t = tensor_make(name, DTYPE_F32, rank, shape, NULL);
    t->data = conv_run_block(run, tensor_bytes(t));
}

static inline void conv_run_init(conv_run *run, const conv_run_size *size) {
    *run = (conv_run){.params = size->params};
    run->call = (op_call){.op = &conv2d_op, .params = &run->params};
    conv_run_tensor(run, &run->in[CONV2D_X], "x", 4, (int64_t[]){size->n, size->h, size->w, size->c});
    conv_run_tensor(run, &run->in[CONV2D_WEIGHT], "weight", 4,
                    (int64_t[]){size->k, size->r, size->s, size->c});
    conv_run_tensor(run, &run->in[CONV2D_BIAS], "bias", 1, (int64_t[]){size->k});
    run->call.in[CONV2D_X] = &run->in[CONV2D_X];
    run->call.in[CONV2D_WEIGHT] = &run->in[CONV2D_WEIGHT];
    run->call.in[CONV2D_BIAS] = size->bias ? &run->in[CONV2D_BIAS] : NULL;
    run->call.out[0] = &run->y;
    CHECK(!op_infer(&run->call), "shapes do not fit");
    run->y.data = conv_run_block(run, tensor_bytes(&run->y));
    if (size->residual) {
        conv_run_tensor(run, &run->in[CONV2D_RESIDUAL], "residual", 4, run->y.shape);
        run->call.in[CONV2D_RESIDUAL] = &run->in[CONV2D_RESIDUAL];
    }
    for (int i = 0; i < 4; i++) {
        if (!run->call.in[i]) continue;
        conv_run_fill(&run->in[i], (uint64_t)i + 1, i == CONV2D_WEIGHT ? 0.05f : 1.0f);
        run->d_in[i] = run->in[i];
        run->d_in[i].data = conv_run_block(run, tensor_bytes(&run->in[i]));
        run->call.d_in[i] = &run->d_in[i];
    }
    run->d_y = run->y;
    run->d_y.data = conv_run_block(run, tensor_bytes(&run->y));
    run->call.d_out[0] = &run->d_y;
    conv_run_fill(&run->d_y, 9, 1.0f);
}

static inline void conv_run_release(conv_run *run) {
    for (int i = 0; i < run->blocks; i++) free(run->memory[i]);
}

static inline void conv_run_kernel(conv_run *run, const op_kernel *kernel, bool backward) {
    size_t bytes = kernel->scratch_bytes ? kernel->scratch_bytes(&run->call, backward) : 0;
    run->call.scratch = bytes ? aligned_alloc(64, (bytes + 63) / 64 * 64) : NULL;
    CHECK(!bytes || run->call.scratch, "out of memory for %zu bytes of scratch", bytes);
    if (bytes) memset(run->call.scratch, 0xff, bytes); /* NaN: what is used must have been written */
    (backward ? kernel->backward : kernel->forward)(&run->call);
    free(run->call.scratch);
}

#endif
