/* select_class in plain loops; built for float and for double. */
#include "select_class/select_class.h"

static void forward(const op_call *call) {
    const tensor *x = call->in[SELECT_X];
    int size = ((const select_class_params *)call->params)->size;
    int64_t channels = x->shape[x->rank - 1], places = channels ? tensor_row_size(x) / channels : 0,
            rows = tensor_valid_rows(x);
    REAL *y = call->out[0]->data;
    for (int64_t m = 0; m < rows; m++)
        for (int64_t s = 0; s < places; s++)
            for (int d = 0; d < size; d++)
                y[(m * places + s) * size + d] =
                    ((const REAL *)x->data)[(m * places + s) * channels +
                                            tensor_i32(call->in[SELECT_LABELS])[m] * size + d];
}

static void backward(const op_call *call) {
    const tensor *x = call->in[SELECT_X];
    int size = ((const select_class_params *)call->params)->size;
    int64_t channels = x->shape[x->rank - 1], places = channels ? tensor_row_size(x) / channels : 0,
            rows = tensor_valid_rows(x);
    const REAL *d_y = call->d_out[0]->data;
    REAL *d_x = call->d_in[SELECT_X]->data;
    for (int64_t i = 0; !call->accumulate[SELECT_X] && i < rows * places * channels; i++) d_x[i] = 0;
    for (int64_t m = 0; m < rows; m++)
        for (int64_t s = 0; s < places; s++)
            for (int d = 0; d < size; d++)
                d_x[(m * places + s) * channels + tensor_i32(call->in[SELECT_LABELS])[m] * size + d] +=
                    d_y[(m * places + s) * size + d];
}

const op_kernel REAL_NAME(select_class_reference) = {
    .name = REAL_KERNEL_NAME, .forward = forward, .backward = backward};
