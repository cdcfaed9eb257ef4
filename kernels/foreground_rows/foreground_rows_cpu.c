/* foreground_rows in plain loops; built for float and for double. */
#include "foreground_rows/foreground_rows.h"

static void forward(const op_call *call) {
    const tensor *in = call->in[FOREGROUND_ROWS_X];
    const REAL *x = in->data;
    REAL *y = call->out[0]->data;
    int64_t size = tensor_row_size(in), to = 0;
    for (int64_t row = 0; row < tensor_valid_rows(in); row++) {
        if (tensor_i32(call->in[FOREGROUND_ROWS_LABELS])[row] <= 0) continue;
        for (int64_t i = 0; i < size; i++) y[to * size + i] = x[row * size + i];
        to++;
    }
}

static void backward(const op_call *call) {
    if (!call->d_in[FOREGROUND_ROWS_X]) return;
    const tensor *in = call->in[FOREGROUND_ROWS_X];
    const REAL *d_y = call->d_out[0]->data;
    REAL *d_x = call->d_in[FOREGROUND_ROWS_X]->data;
    int64_t size = tensor_row_size(in), from = 0;
    for (int64_t row = 0; row < tensor_valid_rows(in); row++) {
        bool taken = tensor_i32(call->in[FOREGROUND_ROWS_LABELS])[row] > 0;
        for (int64_t i = 0; i < size; i++) {
            REAL d = taken ? d_y[from * size + i] : 0, *to = d_x + row * size + i;
            *to = call->accumulate[FOREGROUND_ROWS_X] ? *to + d : d;
        }
        from += taken;
    }
}

const op_kernel REAL_NAME(foreground_rows_reference) = {
    .name = REAL_KERNEL_NAME, .forward = forward, .backward = backward};
