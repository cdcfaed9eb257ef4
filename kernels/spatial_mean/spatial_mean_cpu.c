/* spatial_mean in plain loops; built for float and for double. */
#include "spatial_mean/spatial_mean.h"

static void forward(const op_call *call) {
    const tensor *in = call->in[0];
    const REAL *x = in->data;
    REAL *y = call->out[0]->data;
    int64_t places = in->shape[1] * in->shape[2], channels = in->shape[3];
    for (int64_t row = 0; row < tensor_valid_rows(in); row++)
        for (int64_t c = 0; c < channels; c++) {
            REAL sum = 0;
            for (int64_t p = 0; p < places; p++) sum += x[(row * places + p) * channels + c];
            y[row * channels + c] = sum / (REAL)places;
        }
}

static void backward(const op_call *call) {
    if (!call->d_in[0]) return;
    const tensor *in = call->in[0];
    const REAL *d_y = call->d_out[0]->data;
    REAL *d_x = call->d_in[0]->data;
    int64_t places = in->shape[1] * in->shape[2], channels = in->shape[3];
    for (int64_t i = 0; i < tensor_valid_rows(in) * places * channels; i++) {
        REAL d = d_y[i / (places * channels) * channels + i % channels] / (REAL)places;
        d_x[i] = call->accumulate[0] ? d_x[i] + d : d;
    }
}

const op_kernel REAL_NAME(spatial_mean_reference) = {
    .name = REAL_KERNEL_NAME, .forward = forward, .backward = backward};
