/* Reference of max_pool2d in plain loops; built for float and for double. */
#include "max_pool2d/max_pool2d.h"

/* Index of the maximum of the window of y's pixel (i, j), channel c, in image n. */
static int64_t find_maximum(const op_call *call, int64_t n, int64_t i, int64_t j, int64_t c) {
    const max_pool2d_params *p = call->params;
    const tensor *in = call->in[MAX_POOL2D_X];
    const REAL *x = in->data;
    int64_t best = -1;
    for (int64_t r = i * p->stride - p->pad; r < i * p->stride - p->pad + p->kernel; r++) {
        for (int64_t s = j * p->stride - p->pad; s < j * p->stride - p->pad + p->kernel; s++) {
            if (r < 0 || r >= in->shape[1] || s < 0 || s >= in->shape[2]) continue;
            int64_t at = ((n * in->shape[1] + r) * in->shape[2] + s) * in->shape[3] + c;
            if (best < 0 || x[at] > x[best] || x[at] != x[at]) best = at;
        }
    }
    return best;
}

static void forward(const op_call *call) {
    const REAL *x = call->in[MAX_POOL2D_X]->data;
    REAL *y = call->out[0]->data;
    const int64_t *shape = call->out[0]->shape;
    int64_t images = tensor_valid_rows(call->out[0]), at = 0;
    for (int64_t n = 0; n < images; n++)
        for (int64_t i = 0; i < shape[1]; i++)
            for (int64_t j = 0; j < shape[2]; j++)
                for (int64_t c = 0; c < shape[3]; c++) y[at++] = x[find_maximum(call, n, i, j, c)];
}

static void backward(const op_call *call) {
    if (!call->d_in[MAX_POOL2D_X]) return;
    REAL *d_x = call->d_in[MAX_POOL2D_X]->data;
    const REAL *d_y = call->d_out[0]->data;
    const int64_t *shape = call->out[0]->shape;
    int64_t images = tensor_valid_rows(call->out[0]), at = 0;
    int64_t count = images * tensor_row_size(call->in[MAX_POOL2D_X]);
    for (int64_t k = 0; k < count && !call->accumulate[MAX_POOL2D_X]; k++) d_x[k] = 0;
    for (int64_t n = 0; n < images; n++)
        for (int64_t i = 0; i < shape[1]; i++)
            for (int64_t j = 0; j < shape[2]; j++)
                for (int64_t c = 0; c < shape[3]; c++) d_x[find_maximum(call, n, i, j, c)] += d_y[at++];
}

const op_kernel REAL_NAME(max_pool2d_reference) = {
    .name = REAL_KERNEL_NAME, .forward = forward, .backward = backward};
