/* fold_frozen_norm in plain loops; built for float and for double. It moves a few MB once per step, so this
 * reference is also what ships. */
#include "fold_frozen_norm/fold_frozen_norm.h"

#include <math.h>

/* In double for both builds: the root of a small variance would otherwise lose digits twice. */
static REAL scale_of(const op_call *call, int64_t channel) {
    const fold_frozen_norm_params *p = call->params;
    const REAL *gamma = call->in[FOLD_NORM_WEIGHT]->data, *variance = call->in[FOLD_RUNNING_VAR]->data;
    return (REAL)((double)gamma[channel] / sqrt((double)variance[channel] + p->eps));
}

static void forward(const op_call *call) {
    const REAL *weight = call->in[FOLD_WEIGHT]->data, *beta = call->in[FOLD_NORM_BIAS]->data,
               *mean = call->in[FOLD_RUNNING_MEAN]->data;
    REAL *folded = call->out[0]->data, *bias = call->out[1]->data;
    int64_t channels = call->in[FOLD_WEIGHT]->shape[0], row = tensor_row_size(call->in[FOLD_WEIGHT]);
    for (int64_t k = 0; k < channels; k++) {
        REAL s = scale_of(call, k);
        for (int64_t i = 0; i < row; i++) folded[k * row + i] = weight[k * row + i] * s;
        bias[k] = beta[k] - mean[k] * s;
    }
}

static void backward(const op_call *call) {
    if (!call->d_in[FOLD_WEIGHT]) return;
    const REAL *g = call->d_out[0] ? call->d_out[0]->data : NULL;
    REAL *d = call->d_in[FOLD_WEIGHT]->data;
    int64_t channels = call->d_in[FOLD_WEIGHT]->shape[0], row = tensor_row_size(call->d_in[FOLD_WEIGHT]);
    for (int64_t k = 0; k < channels; k++) {
        REAL s = scale_of(call, k);
        for (int64_t i = 0; i < row; i++) {
            REAL v = g ? g[k * row + i] * s : 0;
            d[k * row + i] = call->accumulate[FOLD_WEIGHT] ? d[k * row + i] + v : v;
        }
    }
}

const op_kernel REAL_NAME(fold_frozen_norm_reference) = {
    .name = REAL_KERNEL_NAME, .forward = forward, .backward = backward};
