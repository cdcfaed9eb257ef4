/* sigmoid_bce row by row, in double; built for logits in float and in double. */
#include "loss_rows.h"
#include "sigmoid_bce/sigmoid_bce.h"

#include <math.h>

static double weight_of(const op_call *call, int64_t row) {
    const tensor *weights = call->in[SIGMOID_BCE_WEIGHTS];
    return weights ? ((const REAL *)weights->data)[row] : 1.0;
}

static double row_loss(const op_call *call, int64_t i) {
    double weight = weight_of(call, i), sum = 0;
    if (weight == 0) return 0;
    int64_t size = tensor_row_size(call->in[SIGMOID_BCE_LOGITS]);
    const REAL *logits = (const REAL *)call->in[SIGMOID_BCE_LOGITS]->data + i * size,
               *targets = (const REAL *)call->in[SIGMOID_BCE_TARGETS]->data + i * size;
    for (int64_t k = 0; k < size; k++) {
        double z = logits[k];
        sum += (z > 0 ? z : 0) - z * targets[k] + log1p(exp(-fabs(z)));
    }
    return weight * sum;
}

static void row_gradient(const op_call *call, int64_t i, double scale) {
    double weight = weight_of(call, i);
    int64_t size = tensor_row_size(call->in[SIGMOID_BCE_LOGITS]);
    const REAL *logits = (const REAL *)call->in[SIGMOID_BCE_LOGITS]->data + i * size,
               *targets = (const REAL *)call->in[SIGMOID_BCE_TARGETS]->data + i * size;
    REAL *d = (REAL *)call->d_in[SIGMOID_BCE_LOGITS]->data + i * size;
    for (int64_t k = 0; k < size; k++) {
        double e = exp(-fabs((double)logits[k])), sigmoid = logits[k] < 0 ? e / (1 + e) : 1 / (1 + e);
        double g = weight == 0 ? 0 : weight * (sigmoid - targets[k]) * scale;
        d[k] = (REAL)((call->accumulate[SIGMOID_BCE_LOGITS] ? d[k] : 0) + g);
    }
}

static double normalizer_of(const op_call *call) {
    return ((const sigmoid_bce_params *)call->params)->normalizer;
}

static void forward(const op_call *call) {
    loss_rows_forward(call, normalizer_of(call), SIGMOID_BCE_COUNT, row_loss);
}

static void backward(const op_call *call) {
    loss_rows_backward(call, normalizer_of(call), SIGMOID_BCE_COUNT, row_gradient);
}

const op_kernel REAL_NAME(sigmoid_bce_reference) = {
    .name = REAL_KERNEL_NAME, .forward = forward, .backward = backward, .scratch_bytes = loss_rows_scratch};
