/* spatial_mean, a row per tile: whole rows of channels are added up, which the compiler turns into vectors. */
#include "spatial_mean/spatial_mean.h"

#include "base/thread_pool.h"

#include <string.h>

static void forward_row(void *context, int64_t row, int thread) {
    (void)thread;
    const op_call *call = context;
    const tensor *in = call->in[0];
    int64_t places = in->shape[1] * in->shape[2], channels = in->shape[3];
    const float *restrict x = tensor_f32(in) + row * places * channels;
    float *restrict y = tensor_f32(call->out[0]) + row * channels, count = (float)places;
    memcpy(y, x, (size_t)channels * sizeof *y);
    for (int64_t p = 1; p < places; p++)
        for (int64_t c = 0; c < channels; c++) y[c] += x[p * channels + c];
    for (int64_t c = 0; c < channels; c++) y[c] /= count;
}

static void backward_row(void *context, int64_t row, int thread) {
    (void)thread;
    const op_call *call = context;
    const tensor *in = call->in[0];
    int64_t places = in->shape[1] * in->shape[2], channels = in->shape[3];
    const float *restrict d_y = tensor_f32(call->d_out[0]) + row * channels;
    float *restrict d_x = tensor_f32(call->d_in[0]) + row * places * channels, count = (float)places;
    for (int64_t p = 0; p < places; p++, d_x += channels) {
        if (call->accumulate[0])
            for (int64_t c = 0; c < channels; c++) d_x[c] += d_y[c] / count;
        else if (p == 0)
            for (int64_t c = 0; c < channels; c++) d_x[c] = d_y[c] / count;
        else
            memcpy(d_x, d_x - channels, (size_t)channels * sizeof *d_x);
    }
}

static void forward(const op_call *call) {
    parallel_for(tensor_valid_rows(call->in[0]), forward_row, (void *)call);
}

static void backward(const op_call *call) {
    if (call->d_in[0]) parallel_for(tensor_valid_rows(call->in[0]), backward_row, (void *)call);
}

const op_kernel spatial_mean_threaded = {.name = "threaded", .forward = forward, .backward = backward};
