/* sigmoid in tiles over the compute threads. */
#include "sigmoid/sigmoid.h"

#include "base/thread_pool.h"

#include <math.h>

enum { TILE = 4096 };

typedef struct job {
    const op_call *call;
    int64_t count;
} job;

static job make_job(const op_call *call) {
    return (job){call, tensor_valid_rows(call->in[0]) * tensor_row_size(call->in[0])};
}

static void forward_tile(void *context, int64_t tile, int thread) {
    (void)thread;
    const job *j = context;
    int64_t first = tile * TILE, n = j->count - first < TILE ? j->count - first : TILE;
    const float *x = tensor_f32(j->call->in[0]) + first;
    float *y = tensor_f32(j->call->out[0]) + first;
    for (int64_t i = 0; i < n; i++) y[i] = 1.0f / (1.0f + expf(-x[i]));
}

static void backward_tile(void *context, int64_t tile, int thread) {
    (void)thread;
    const job *j = context;
    int64_t first = tile * TILE, n = j->count - first < TILE ? j->count - first : TILE;
    const float *y = tensor_f32(j->call->out[0]) + first, *d_y = tensor_f32(j->call->d_out[0]) + first;
    float *d_x = tensor_f32(j->call->d_in[0]) + first;
    bool add = j->call->accumulate[0];
    for (int64_t i = 0; i < n; i++) d_x[i] = (add ? d_x[i] : 0.0f) + d_y[i] * y[i] * (1.0f - y[i]);
}

static void forward(const op_call *call) {
    job j = make_job(call);
    parallel_for((j.count + TILE - 1) / TILE, forward_tile, &j);
}

static void backward(const op_call *call) {
    job j = make_job(call);
    parallel_for((j.count + TILE - 1) / TILE, backward_tile, &j);
}

const op_kernel sigmoid_tiled = {.name = "tiled", .forward = forward, .backward = backward};
