/* sigmoid_bce:
 *   loss = sum over rows n of weights[n] * sum over the row's elements of (max(z, 0) - z t + log(1 + exp(-|z|)))
 *          / (normalizer * max(count, 1)),  with logit z and target t
 *
 *   logits  [N]       real; rows behind logits->rows are neither read nor written, nor their targets and weights
 *   targets [N]       real, 0..1 (soft ones allowed)
 *   weights [N]       real; a row of weight 0 costs nothing and gets gradient 0, whatever it holds
 *   count   [] or [1] real, optional: see loss_rows.h
 *   loss    []
 *
 * logits may also be [N,...]; targets then have the same shape (but for axes of size 1 at the end). `unweighted`:
 * weights are absent and count as 1.
 *
 * Backward: d_logits = weight * (sigmoid(z) - t) * d_loss / (normalizer * max(count, 1)). */
#ifndef KERNELS_SIGMOID_BCE_SIGMOID_BCE_H
#define KERNELS_SIGMOID_BCE_SIGMOID_BCE_H

#include "autograd/op.h"

struct tape;

typedef struct sigmoid_bce_params {
    double normalizer; /* > 0 */
    bool unweighted;   /* weights are absent and count as 1; not an attribute of the `op` command */
} sigmoid_bce_params;

enum { SIGMOID_BCE_LOGITS, SIGMOID_BCE_TARGETS, SIGMOID_BCE_WEIGHTS, SIGMOID_BCE_COUNT };

extern const op_def sigmoid_bce_op;
extern const op_kernel sigmoid_bce_reference_f32, sigmoid_bce_reference_f64;

/* `in`: logits, targets, weights (NULL if unweighted), count (may be NULL). */
tensor *sigmoid_bce(struct tape *t, tensor *const in[4], const sigmoid_bce_params *params);

#endif
