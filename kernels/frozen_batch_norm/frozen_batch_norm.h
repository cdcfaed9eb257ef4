/* frozen_batch_norm: y = relu?((x - running_mean) / sqrt(running_var + eps) * weight + bias); all but x is fixed.
 *
 *   x                         [N,H,W,C]  real; rows behind x->rows are neither read nor written
 *   weight, bias              [C]        real
 *   running_mean, running_var [C]        real
 *   y                         [N,H,W,C]
 *
 * Backward, with g = d_y (masked by y > 0 when relu): d_x = g * weight / sqrt(running_var + eps). No other
 * gradient. The network itself folds this norm into the convolution before it; the op is for norms that stand
 * alone. */
#ifndef KERNELS_FROZEN_BATCH_NORM_FROZEN_BATCH_NORM_H
#define KERNELS_FROZEN_BATCH_NORM_FROZEN_BATCH_NORM_H

#include "autograd/op.h"

struct tape;

typedef struct frozen_batch_norm_params {
    double eps; /* inside the root; >= 0 */
    bool relu;
} frozen_batch_norm_params;

enum {
    FROZEN_BATCH_NORM_X,
    FROZEN_BATCH_NORM_WEIGHT,
    FROZEN_BATCH_NORM_BIAS,
    FROZEN_BATCH_NORM_MEAN,
    FROZEN_BATCH_NORM_VAR
};

extern const op_def frozen_batch_norm_op;
extern const op_kernel frozen_batch_norm_reference_f32, frozen_batch_norm_reference_f64,
    frozen_batch_norm_tiled;

/* `in` holds the five inputs in the order above. */
tensor *frozen_batch_norm(struct tape *t, tensor *const in[5], const frozen_batch_norm_params *params);

#endif
