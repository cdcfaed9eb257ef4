/* smooth_l1:
 *   loss = sum over rows n of weights[n] * sum over j of f(pred[n,j] - target[n,j])
 *          / (normalizer * max(count, 1))
 *   f(d) = 0.5 d^2 / beta where |d| < beta, else |d| - 0.5 beta; beta 0 is |d|
 *
 *   pred    [N,D]     real; rows behind pred->rows are neither read nor written, nor their targets and weights
 *   target  [N,D]     real
 *   weights [N]       real; a row of weight 0 costs nothing and gets gradient 0, whatever it holds
 *   count   [] or [1] real, optional: see loss_rows.h
 *   loss    []
 *
 * pred may also be [N,...]; target then has the same shape but for axes of size 1.
 *
 * Backward: d_pred = weight * f'(d) * d_loss / (normalizer * max(count, 1)); for beta 0, f'(0) = 0. */
#ifndef KERNELS_SMOOTH_L1_SMOOTH_L1_H
#define KERNELS_SMOOTH_L1_SMOOTH_L1_H

#include "autograd/op.h"

struct tape;

typedef struct smooth_l1_params {
    double beta;       /* >= 0 */
    double normalizer; /* > 0 */
} smooth_l1_params;

enum { SMOOTH_L1_PRED, SMOOTH_L1_TARGET, SMOOTH_L1_WEIGHTS, SMOOTH_L1_COUNT };

extern const op_def smooth_l1_op;
extern const op_kernel smooth_l1_reference_f32, smooth_l1_reference_f64;

/* `in`: pred, target, weights, count (may be NULL). */
tensor *smooth_l1(struct tape *t, tensor *const in[4], const smooth_l1_params *params);

#endif
