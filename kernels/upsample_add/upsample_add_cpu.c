/* Reference of upsample_add in plain loops; built for float and for double. */
#include "upsample_add/upsample_add.h"

/* Index in top of element `at` of y. */
static int64_t top_index(const op_call *call, int64_t at) {
    const int64_t *shape = call->out[0]->shape;
    int64_t c = at % shape[3], j = at / shape[3] % shape[2], i = at / shape[3] / shape[2] % shape[1],
            n = at / shape[3] / shape[2] / shape[1];
    return ((n * (shape[1] / 2) + i / 2) * (shape[2] / 2) + j / 2) * shape[3] + c;
}

static void forward(const op_call *call) {
    const REAL *top = call->in[UPSAMPLE_ADD_TOP]->data, *lateral = call->in[UPSAMPLE_ADD_LATERAL]->data;
    REAL *y = call->out[0]->data;
    int64_t count = tensor_valid_rows(call->out[0]) * tensor_row_size(call->out[0]);
    for (int64_t i = 0; i < count; i++) y[i] = top[top_index(call, i)] + lateral[i];
}

static void backward(const op_call *call) {
    const REAL *d_y = call->d_out[0]->data;
    REAL *d_top = call->d_in[UPSAMPLE_ADD_TOP] ? call->d_in[UPSAMPLE_ADD_TOP]->data : NULL;
    REAL *d_lateral = call->d_in[UPSAMPLE_ADD_LATERAL] ? call->d_in[UPSAMPLE_ADD_LATERAL]->data : NULL;
    int64_t count = tensor_valid_rows(call->out[0]) * tensor_row_size(call->out[0]);
    for (int64_t i = 0; d_top && i < count && !call->accumulate[UPSAMPLE_ADD_TOP]; i++)
        d_top[top_index(call, i)] = 0;
    for (int64_t i = 0; d_top && i < count; i++) d_top[top_index(call, i)] += d_y[i];
    if (!d_lateral || d_lateral == d_y) return;
    for (int64_t i = 0; i < count; i++)
        d_lateral[i] = call->accumulate[UPSAMPLE_ADD_LATERAL] ? d_lateral[i] + d_y[i] : d_y[i];
}

const op_kernel REAL_NAME(upsample_add_reference) = {
    .name = REAL_KERNEL_NAME, .forward = forward, .backward = backward};
