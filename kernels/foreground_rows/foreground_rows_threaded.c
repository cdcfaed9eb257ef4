/* foreground_rows: the places of the rows are counted once, then each row is a tile. */
#include "foreground_rows/foreground_rows.h"

#include "base/thread_pool.h"

#include <string.h>

/* Scratch: for each row of x its place in y, or -1. */
static size_t scratch_bytes(const op_call *call, bool backward) {
    (void)backward;
    return (size_t)call->in[FOREGROUND_ROWS_LABELS]->shape[0] * sizeof(int32_t);
}

static void find_places(const op_call *call) {
    const int32_t *labels = tensor_i32(call->in[FOREGROUND_ROWS_LABELS]);
    int32_t *places = call->scratch, next = 0;
    for (int64_t row = 0; row < tensor_valid_rows(call->in[FOREGROUND_ROWS_X]); row++)
        places[row] = labels[row] > 0 ? next++ : -1;
}

static void forward_row(void *context, int64_t row, int thread) {
    (void)thread;
    const op_call *call = context;
    int64_t size = tensor_row_size(call->in[FOREGROUND_ROWS_X]),
            place = ((const int32_t *)call->scratch)[row];
    if (place >= 0)
        memcpy(tensor_f32(call->out[0]) + place * size, tensor_f32(call->in[FOREGROUND_ROWS_X]) + row * size,
               (size_t)size * sizeof(float));
}

static void backward_row(void *context, int64_t row, int thread) {
    (void)thread;
    const op_call *call = context;
    int64_t size = tensor_row_size(call->in[FOREGROUND_ROWS_X]),
            place = ((const int32_t *)call->scratch)[row];
    float *restrict d_x = tensor_f32(call->d_in[FOREGROUND_ROWS_X]) + row * size;
    bool adds = call->accumulate[FOREGROUND_ROWS_X];
    if (place < 0) {
        if (!adds) memset(d_x, 0, (size_t)size * sizeof *d_x);
        return;
    }
    const float *restrict d_y = tensor_f32(call->d_out[0]) + place * size;
    if (adds)
        for (int64_t i = 0; i < size; i++) d_x[i] += d_y[i];
    else
        memcpy(d_x, d_y, (size_t)size * sizeof *d_x);
}

static void forward(const op_call *call) {
    find_places(call);
    parallel_for(tensor_valid_rows(call->in[FOREGROUND_ROWS_X]), forward_row, (void *)call);
}

static void backward(const op_call *call) {
    if (!call->d_in[FOREGROUND_ROWS_X]) return;
    find_places(call);
    parallel_for(tensor_valid_rows(call->in[FOREGROUND_ROWS_X]), backward_row, (void *)call);
}

const op_kernel foreground_rows_threaded = {
    .name = "threaded", .forward = forward, .backward = backward, .scratch_bytes = scratch_bytes};
