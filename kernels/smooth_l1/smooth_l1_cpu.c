/* smooth_l1 row by row, in double; built for pred in float and in double. */
#include "loss_rows.h"
#include "smooth_l1/smooth_l1.h"

#include <math.h>

static double row_loss(const op_call *call, int64_t i) {
    const smooth_l1_params *p = call->params;
    double weight = ((const REAL *)call->in[SMOOTH_L1_WEIGHTS]->data)[i], sum = 0;
    if (weight == 0) return 0;
    int64_t size = tensor_row_size(call->in[SMOOTH_L1_PRED]);
    const REAL *pred = (const REAL *)call->in[SMOOTH_L1_PRED]->data + i * size,
               *target = (const REAL *)call->in[SMOOTH_L1_TARGET]->data + i * size;
    for (int64_t k = 0; k < size; k++) {
        double d = fabs((double)pred[k] - (double)target[k]);
        sum += d < p->beta ? 0.5 * d * d / p->beta : d - 0.5 * p->beta;
    }
    return weight * sum;
}

static void row_gradient(const op_call *call, int64_t i, double scale) {
    const smooth_l1_params *p = call->params;
    double weight = ((const REAL *)call->in[SMOOTH_L1_WEIGHTS]->data)[i];
    int64_t size = tensor_row_size(call->in[SMOOTH_L1_PRED]);
    const REAL *pred = (const REAL *)call->in[SMOOTH_L1_PRED]->data + i * size,
               *target = (const REAL *)call->in[SMOOTH_L1_TARGET]->data + i * size;
    REAL *d_pred = (REAL *)call->d_in[SMOOTH_L1_PRED]->data + i * size;
    for (int64_t k = 0; k < size; k++) {
        double d = (double)pred[k] - (double)target[k];
        double slope = fabs(d) < p->beta ? d / p->beta : (double)((d > 0) - (d < 0));
        double g = weight == 0 ? 0 : weight * slope * scale;
        d_pred[k] = (REAL)((call->accumulate[SMOOTH_L1_PRED] ? d_pred[k] : 0) + g);
    }
}

static double normalizer_of(const op_call *call) {
    return ((const smooth_l1_params *)call->params)->normalizer;
}

static void forward(const op_call *call) {
    loss_rows_forward(call, normalizer_of(call), SMOOTH_L1_COUNT, row_loss);
}

static void backward(const op_call *call) {
    loss_rows_backward(call, normalizer_of(call), SMOOTH_L1_COUNT, row_gradient);
}

const op_kernel REAL_NAME(smooth_l1_reference) = {
    .name = REAL_KERNEL_NAME, .forward = forward, .backward = backward, .scratch_bytes = loss_rows_scratch};
