/* softmax_cross_entropy row by row, in double; built for logits in float and in double. */
#include "loss_rows.h"
#include "softmax_cross_entropy/softmax_cross_entropy.h"

#include <math.h>

/* log sum_c exp(x[c]) without overflow. */
static double log_sum_exp(const REAL *x, int64_t classes) {
    double largest = x[0], sum = 0;
    for (int64_t c = 1; c < classes; c++) largest = x[c] > largest ? x[c] : largest;
    for (int64_t c = 0; c < classes; c++) sum += exp(x[c] - largest);
    return largest + log(sum);
}

static double row_loss(const op_call *call, int64_t i) {
    const tensor *logits = call->in[SOFTMAX_CROSS_ENTROPY_LOGITS];
    int64_t classes = logits->shape[1];
    const REAL *x = (const REAL *)logits->data + i * classes;
    int32_t label = tensor_i32(call->in[SOFTMAX_CROSS_ENTROPY_LABELS])[i];
    return label < 0 ? 0 : log_sum_exp(x, classes) - x[label];
}

static void row_gradient(const op_call *call, int64_t i, double scale) {
    const tensor *logits = call->in[SOFTMAX_CROSS_ENTROPY_LOGITS];
    int64_t classes = logits->shape[1];
    const REAL *x = (const REAL *)logits->data + i * classes;
    REAL *d_x = (REAL *)call->d_in[SOFTMAX_CROSS_ENTROPY_LOGITS]->data + i * classes;
    int32_t label = tensor_i32(call->in[SOFTMAX_CROSS_ENTROPY_LABELS])[i];
    double total = label < 0 ? 0 : log_sum_exp(x, classes);
    for (int64_t c = 0; c < classes; c++) {
        double d = label < 0 ? 0 : (exp(x[c] - total) - (c == label)) * scale;
        d_x[c] = (REAL)((call->accumulate[SOFTMAX_CROSS_ENTROPY_LOGITS] ? d_x[c] : 0) + d);
    }
}

static double normalizer_of(const op_call *call) {
    return ((const softmax_cross_entropy_params *)call->params)->normalizer;
}

static void forward(const op_call *call) {
    loss_rows_forward(call, normalizer_of(call), SOFTMAX_CROSS_ENTROPY_COUNT, row_loss);
}

static void backward(const op_call *call) {
    loss_rows_backward(call, normalizer_of(call), SOFTMAX_CROSS_ENTROPY_COUNT, row_gradient);
}

const op_kernel REAL_NAME(softmax_cross_entropy_reference) = {
    .name = REAL_KERNEL_NAME, .forward = forward, .backward = backward, .scratch_bytes = loss_rows_scratch};
