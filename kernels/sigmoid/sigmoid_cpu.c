/* sigmoid in plain loops; built for float and for double. */
#include "sigmoid/sigmoid.h"

#include <tgmath.h>

static int64_t valid_count(const op_call *call) {
    return tensor_valid_rows(call->in[0]) * tensor_row_size(call->in[0]);
}

static void forward(const op_call *call) {
    const REAL *x = call->in[0]->data;
    REAL *y = call->out[0]->data;
    for (int64_t i = 0; i < valid_count(call); i++) y[i] = 1 / (1 + exp(-x[i]));
}

static void backward(const op_call *call) {
    const REAL *y = call->out[0]->data, *d_y = call->d_out[0]->data;
    REAL *d_x = call->d_in[0]->data;
    for (int64_t i = 0; i < valid_count(call); i++)
        d_x[i] = (call->accumulate[0] ? d_x[i] : 0) + d_y[i] * y[i] * (1 - y[i]);
}

const op_kernel REAL_NAME(sigmoid_reference) = {
    .name = REAL_KERNEL_NAME, .forward = forward, .backward = backward};
