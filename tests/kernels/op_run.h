/* One forward call of an op, outside a tape, on memory of its own. */
#ifndef TESTS_KERNELS_OP_RUN_H
#define TESTS_KERNELS_OP_RUN_H

#include "autograd/op.h"
#include "base/check.h"
#include "data/safetensors.h"

#include <stdlib.h>
#include <string.h>

typedef struct op_run {
    op_call call;
    tensor in[OP_MAX_INPUTS], out[OP_MAX_OUTPUTS];
} op_run;

static inline void *op_run_alloc(size_t bytes) {
    void *block = aligned_alloc(64, (bytes / 64 + 1) * 64);
    CHECK(block, "out of memory for %zu bytes", bytes);
    return memset(block, 0, (bytes / 64 + 1) * 64);
}

static inline void op_run_init(op_run *run, const op_def *op, const void *params) {
    memset(run, 0, sizeof *run);
    run->call = (op_call){.op = op, .params = params};
}

/* A zeroed input, or a copy of `data`; returns its memory. */
static inline void *op_run_input(op_run *run, int i, dtype type, int rank, const int64_t *shape,
                                 const void *data) {
    run->in[i] = tensor_make(run->call.op->input_names[i], type, rank, shape, NULL);
    run->in[i].data = op_run_alloc(tensor_bytes(&run->in[i]));
    if (data) memcpy(run->in[i].data, data, tensor_bytes(&run->in[i]));
    run->call.in[i] = &run->in[i];
    return run->in[i].data;
}

/* Tensor `name` of a file as input i. */
static inline void op_run_input_from(op_run *run, int i, const safetensors *file, const char *name) {
    const safetensors_tensor *t = safetensors_find(file, name);
    CHECK(t, "%s has no tensor %s", safetensors_path(file), name);
    dtype type = t->dtype == SAFETENSORS_I32 ? DTYPE_I32 : t->dtype == SAFETENSORS_U8 ? DTYPE_U8 : DTYPE_F32;
    op_run_input(run, i, type, t->rank, t->shape, t->data);
}

/* Infers shapes and runs the kernel that ships. */
static inline void op_run_forward(op_run *run) {
    const op_def *op = run->call.op;
    for (int i = 0; i < op->n_outputs; i++) run->call.out[i] = &run->out[i];
    CHECK(op_infer(&run->call) == STATUS_OK, "%s", error_cause());
    for (int i = 0; i < op->n_outputs; i++) run->out[i].data = op_run_alloc(tensor_bytes(&run->out[i]));
    const op_kernel *kernel = op_cpu_kernel(&run->call);
    void *scratch = kernel->scratch_bytes ? op_run_alloc(kernel->scratch_bytes(&run->call, false)) : NULL;
    run->call.scratch = scratch;
    kernel->forward(&run->call);
    free(scratch);
}

static inline void op_run_release(op_run *run) {
    for (int i = 0; i < OP_MAX_INPUTS; i++) free(run->in[i].data);
    for (int i = 0; i < OP_MAX_OUTPUTS; i++) free(run->out[i].data);
}

#endif
