/* Reference of frozen_batch_norm in plain loops; built for float and for double. */
#include "frozen_batch_norm/frozen_batch_norm.h"

#include <math.h>

static REAL scale_of(const op_call *call, int64_t c) {
    const frozen_batch_norm_params *p = call->params;
    const REAL *weight = call->in[FROZEN_BATCH_NORM_WEIGHT]->data,
               *var = call->in[FROZEN_BATCH_NORM_VAR]->data;
    return (REAL)((double)weight[c] / sqrt((double)var[c] + p->eps));
}

static int64_t valid_pixels(const op_call *call) {
    const tensor *x = call->in[FROZEN_BATCH_NORM_X];
    return tensor_valid_rows(x) * x->shape[1] * x->shape[2];
}

static void forward(const op_call *call) {
    const frozen_batch_norm_params *p = call->params;
    const REAL *x = call->in[FROZEN_BATCH_NORM_X]->data, *bias = call->in[FROZEN_BATCH_NORM_BIAS]->data,
               *mean = call->in[FROZEN_BATCH_NORM_MEAN]->data;
    REAL *y = call->out[0]->data;
    int64_t pixels = valid_pixels(call), channels = call->in[FROZEN_BATCH_NORM_X]->shape[3];
    for (int64_t c = 0; c < channels; c++) {
        REAL scale = scale_of(call, c);
        for (int64_t i = 0; i < pixels; i++) {
            REAL v = (x[i * channels + c] - mean[c]) * scale + bias[c];
            y[i * channels + c] = p->relu && v < 0 ? 0 : v;
        }
    }
}

static void backward(const op_call *call) {
    const frozen_batch_norm_params *p = call->params;
    if (!call->d_in[FROZEN_BATCH_NORM_X]) return;
    const REAL *y = call->out[0]->data, *d_y = call->d_out[0]->data;
    REAL *d_x = call->d_in[FROZEN_BATCH_NORM_X]->data;
    bool add = call->accumulate[FROZEN_BATCH_NORM_X];
    int64_t pixels = valid_pixels(call), channels = call->in[FROZEN_BATCH_NORM_X]->shape[3];
    for (int64_t c = 0; c < channels; c++) {
        REAL scale = scale_of(call, c);
        for (int64_t i = c; i < pixels * channels; i += channels) {
            REAL g = p->relu && !(y[i] > 0) ? 0 : d_y[i];
            d_x[i] = (add ? d_x[i] : 0) + g * scale;
        }
    }
}

const op_kernel REAL_NAME(frozen_batch_norm_reference) = {
    .name = REAL_KERNEL_NAME, .forward = forward, .backward = backward};
