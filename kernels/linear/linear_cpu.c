/* Reference of linear in plain loops; built for float and for double. */
#include "linear/linear.h"

static void forward(const op_call *call) {
    const linear_params *p = call->params;
    const REAL *x = call->in[LINEAR_X]->data, *w = call->in[LINEAR_WEIGHT]->data;
    const REAL *bias = call->in[LINEAR_BIAS] ? call->in[LINEAR_BIAS]->data : NULL;
    REAL *y = call->out[0]->data;
    int64_t rows = tensor_valid_rows(call->in[LINEAR_X]), c = tensor_row_size(call->in[LINEAR_X]),
            k = call->in[LINEAR_WEIGHT]->shape[0];
    for (int64_t n = 0; n < rows; n++) {
        for (int64_t o = 0; o < k; o++) {
            REAL sum = bias ? bias[o] : 0;
            for (int64_t i = 0; i < c; i++) sum += x[n * c + i] * w[o * c + i];
            y[n * k + o] = p->relu && sum < 0 ? 0 : sum;
        }
    }
}

static void clear(const op_call *call, int input, int64_t count) {
    if (!call->d_in[input] || call->accumulate[input]) return;
    REAL *d = call->d_in[input]->data;
    for (int64_t i = 0; i < count; i++) d[i] = 0;
}

static void backward(const op_call *call) {
    const linear_params *p = call->params;
    const REAL *x = call->in[LINEAR_X]->data, *w = call->in[LINEAR_WEIGHT]->data, *y = call->out[0]->data,
               *d_y = call->d_out[0]->data;
    int64_t rows = tensor_valid_rows(call->in[LINEAR_X]), c = tensor_row_size(call->in[LINEAR_X]),
            k = call->in[LINEAR_WEIGHT]->shape[0];
    REAL *d_x = call->d_in[LINEAR_X] ? call->d_in[LINEAR_X]->data : NULL;
    REAL *d_w = call->d_in[LINEAR_WEIGHT] ? call->d_in[LINEAR_WEIGHT]->data : NULL;
    REAL *d_bias = call->d_in[LINEAR_BIAS] ? call->d_in[LINEAR_BIAS]->data : NULL;
    clear(call, LINEAR_X, rows * c);
    clear(call, LINEAR_WEIGHT, k * c);
    clear(call, LINEAR_BIAS, k);
    for (int64_t n = 0; n < rows; n++) {
        for (int64_t o = 0; o < k; o++) {
            REAL g = p->relu && !(y[n * k + o] > 0) ? 0 : d_y[n * k + o];
            if (d_bias) d_bias[o] += g;
            for (int64_t i = 0; i < c; i++) {
                if (d_x) d_x[n * c + i] += g * w[o * c + i];
                if (d_w) d_w[o * c + i] += g * x[n * c + i];
            }
        }
    }
}

const op_kernel REAL_NAME(linear_reference) = {
    .name = REAL_KERNEL_NAME, .forward = forward, .backward = backward};
