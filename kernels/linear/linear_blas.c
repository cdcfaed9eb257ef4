/* linear on CBLAS. Forward and d_x are cut into tiles of rows, d_weight into tiles of its own rows; each
 * output element is written by one tile, whatever the number of threads. */
#include "linear/linear.h"

#include "base/thread_pool.h"
#include "gemm.h"

enum { ROW_TILE = 128, WEIGHT_TILE = 128 };

typedef struct job {
    const op_call *call;
    int64_t rows, c, k;
} job;

static int64_t tiles_of(int64_t size, int64_t tile) {
    return (size + tile - 1) / tile;
}

static int64_t tile_length(int64_t size, int64_t tile, int64_t index) {
    int64_t left = size - index * tile;
    return left < tile ? left : tile;
}

static job make_job(const op_call *call) {
    return (job){.call = call,
                 .rows = tensor_valid_rows(call->in[LINEAR_X]),
                 .c = tensor_row_size(call->in[LINEAR_X]),
                 .k = call->in[LINEAR_WEIGHT]->shape[0]};
}

static void forward_tile(void *context, int64_t tile, int thread) {
    (void)thread;
    const job *j = context;
    const linear_params *p = j->call->params;
    int64_t first = tile * ROW_TILE, rows = tile_length(j->rows, ROW_TILE, tile);
    const tensor *bias = j->call->in[LINEAR_BIAS];
    float *y = tensor_f32(j->call->out[0]) + first * j->k;
    gemm_matrix x = {tensor_f32(j->call->in[LINEAR_X]) + first * j->c, j->c, false};
    gemm_matrix w = {tensor_f32(j->call->in[LINEAR_WEIGHT]), j->c, true};
    gemm(y, j->k, x, w, (int64_t[]){rows, j->k, j->c}, 0.0f);
    for (int64_t n = 0; n < rows; n++) {
        for (int64_t o = 0; o < j->k; o++) {
            float v = y[n * j->k + o] + (bias ? tensor_f32(bias)[o] : 0.0f);
            y[n * j->k + o] = p->relu && v < 0.0f ? 0.0f : v;
        }
    }
}

static void forward(const op_call *call) {
    job j = make_job(call);
    parallel_for(tiles_of(j.rows, ROW_TILE), forward_tile, &j);
}

/* Masks d_y in place (the tape allows it), then d_x of these rows. */
static void rows_tile(void *context, int64_t tile, int thread) {
    (void)thread;
    const job *j = context;
    const linear_params *p = j->call->params;
    int64_t first = tile * ROW_TILE, rows = tile_length(j->rows, ROW_TILE, tile);
    const float *y = tensor_f32(j->call->out[0]) + first * j->k;
    float *g = tensor_f32(j->call->d_out[0]) + first * j->k;
    for (int64_t i = 0; p->relu && i < rows * j->k; i++)
        if (!(y[i] > 0.0f)) g[i] = 0.0f;
    if (!j->call->d_in[LINEAR_X]) return;
    gemm_matrix w = {tensor_f32(j->call->in[LINEAR_WEIGHT]), j->c, false};
    gemm(tensor_f32(j->call->d_in[LINEAR_X]) + first * j->c, j->c, (gemm_matrix){g, j->k, false}, w,
         (int64_t[]){rows, j->c, j->k}, j->call->accumulate[LINEAR_X] ? 1.0f : 0.0f);
}

static void weight_tile(void *context, int64_t tile, int thread) {
    (void)thread;
    const job *j = context;
    int64_t first = tile * WEIGHT_TILE, outputs = tile_length(j->k, WEIGHT_TILE, tile);
    const float *g = tensor_f32(j->call->d_out[0]) + first;
    if (j->call->d_in[LINEAR_WEIGHT]) {
        gemm_matrix x = {tensor_f32(j->call->in[LINEAR_X]), j->c, false};
        gemm(tensor_f32(j->call->d_in[LINEAR_WEIGHT]) + first * j->c, j->c, (gemm_matrix){g, j->k, true}, x,
             (int64_t[]){outputs, j->c, j->rows}, j->call->accumulate[LINEAR_WEIGHT] ? 1.0f : 0.0f);
    }
    if (!j->call->d_in[LINEAR_BIAS]) return;
    float *d_bias = tensor_f32(j->call->d_in[LINEAR_BIAS]) + first;
    for (int64_t o = 0; o < outputs; o++) {
        double sum = j->call->accumulate[LINEAR_BIAS] ? d_bias[o] : 0.0;
        for (int64_t n = 0; n < j->rows; n++) sum += g[n * j->k + o];
        d_bias[o] = (float)sum;
    }
}

static void backward(const op_call *call) {
    job j = make_job(call);
    parallel_for(tiles_of(j.rows, ROW_TILE), rows_tile, &j);
    parallel_for(tiles_of(j.k, WEIGHT_TILE), weight_tile, &j);
}

const op_kernel linear_blas = {.name = "blas", .forward = forward, .backward = backward};
