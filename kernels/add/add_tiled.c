/* add in cache-sized tiles over the compute threads; one pass over memory in each direction. */
#include "add/add.h"

#include "base/thread_pool.h"

#include <string.h>

enum { TILE = 32768 };

typedef struct job {
    const op_call *call;
    int64_t count;
} job;

static job make_job(const op_call *call) {
    return (job){call, tensor_valid_rows(call->in[ADD_A]) * tensor_row_size(call->in[ADD_A])};
}

static void forward_tile(void *context, int64_t tile, int thread) {
    (void)thread;
    const job *j = context;
    const add_params *p = j->call->params;
    int64_t first = tile * TILE, n = j->count - first < TILE ? j->count - first : TILE;
    const float *a = tensor_f32(j->call->in[ADD_A]) + first, *b = tensor_f32(j->call->in[ADD_B]) + first;
    float *y = tensor_f32(j->call->out[0]) + first;
    float floor_value = p->relu ? 0.0f : -__builtin_inff();
    for (int64_t i = 0; i < n; i++) {
        float sum = a[i] + b[i];
        y[i] = sum < floor_value ? floor_value : sum;
    }
}

static void backward_tile(void *context, int64_t tile, int thread) {
    (void)thread;
    const job *j = context;
    const add_params *p = j->call->params;
    int64_t first = tile * TILE, n = j->count - first < TILE ? j->count - first : TILE;
    const float *y = tensor_f32(j->call->out[0]) + first;
    float *g = tensor_f32(j->call->d_out[0]) + first;
    for (int64_t i = 0; p->relu && i < n; i++) g[i] = y[i] > 0.0f ? g[i] : 0.0f;
    for (int input = 0; input < 2; input++) {
        if (!j->call->d_in[input]) continue;
        float *d = tensor_f32(j->call->d_in[input]) + first;
        if (d == g) continue; /* shared memory: the gradient is there already */
        if (!j->call->accumulate[input])
            memcpy(d, g, (size_t)n * sizeof *d);
        else
            for (int64_t i = 0; i < n; i++) d[i] += g[i];
    }
}

static void forward(const op_call *call) {
    job j = make_job(call);
    parallel_for((j.count + TILE - 1) / TILE, forward_tile, &j);
}

static void backward(const op_call *call) {
    job j = make_job(call);
    parallel_for((j.count + TILE - 1) / TILE, backward_tile, &j);
}

const op_kernel add_tiled = {.name = "tiled", .forward = forward, .backward = backward};
