/* softmax_cross_entropy:
 *   loss = sum over rows n with label >= 0 of (log sum_c exp(logits[n,c]) - logits[n,label])
 *          / (normalizer * max(count, 1))
 *
 *   logits [N,C]      real; rows behind logits->rows are neither read nor written, nor are their labels
 *   labels [N]        i32, 0..C-1, or -1: the row is ignored
 *   count  [] or [1]  real, optional: see loss_rows.h
 *   loss   []
 *
 * Backward: d_logits = (softmax(logits) - [c = label]) * d_loss / (normalizer * max(count, 1)), and 0 for
 * ignored rows. */
#ifndef KERNELS_SOFTMAX_CROSS_ENTROPY_SOFTMAX_CROSS_ENTROPY_H
#define KERNELS_SOFTMAX_CROSS_ENTROPY_SOFTMAX_CROSS_ENTROPY_H

#include "autograd/op.h"

struct tape;

typedef struct softmax_cross_entropy_params {
    double normalizer; /* > 0 */
} softmax_cross_entropy_params;

enum { SOFTMAX_CROSS_ENTROPY_LOGITS, SOFTMAX_CROSS_ENTROPY_LABELS, SOFTMAX_CROSS_ENTROPY_COUNT };

extern const op_def softmax_cross_entropy_op;
extern const op_kernel softmax_cross_entropy_reference_f32, softmax_cross_entropy_reference_f64;

/* `count` may be NULL. */
tensor *softmax_cross_entropy(struct tape *t, tensor *logits, tensor *labels, tensor *count,
                              const softmax_cross_entropy_params *params);

#endif
