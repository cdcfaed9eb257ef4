/* Reference of add in plain loops; built for float and for double. */
#include "add/add.h"

static int64_t valid_elements(const op_call *call) {
    return tensor_valid_rows(call->in[ADD_A]) * tensor_row_size(call->in[ADD_A]);
}

static void forward(const op_call *call) {
    const add_params *p = call->params;
    const REAL *a = call->in[ADD_A]->data, *b = call->in[ADD_B]->data;
    REAL *y = call->out[0]->data;
    int64_t count = valid_elements(call);
    for (int64_t i = 0; i < count; i++) {
        REAL sum = a[i] + b[i];
        y[i] = p->relu && sum < 0 ? 0 : sum;
    }
}

static void backward(const op_call *call) {
    const add_params *p = call->params;
    const REAL *y = call->out[0]->data;
    REAL *g = call->d_out[0]->data;
    int64_t count = valid_elements(call);
    for (int64_t i = 0; p->relu && i < count; i++)
        if (!(y[i] > 0)) g[i] = 0;
    for (int input = 0; input < 2; input++) {
        if (!call->d_in[input] || call->d_in[input]->data == (void *)g) continue;
        REAL *d = call->d_in[input]->data;
        for (int64_t i = 0; i < count; i++) d[i] = call->accumulate[input] ? d[i] + g[i] : g[i];
    }
}

const op_kernel REAL_NAME(add_reference) = {
    .name = REAL_KERNEL_NAME, .forward = forward, .backward = backward};
