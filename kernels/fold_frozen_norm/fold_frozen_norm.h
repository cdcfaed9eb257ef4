/* fold_frozen_norm: puts a batch norm with frozen statistics into the convolution before it.
 *
 *   weight                     [K,R,S,C]  real, the convolution's
 *   norm_weight, norm_bias     [K]        real, constants
 *   running_mean, running_var  [K]        real, constants
 *   folded_weight              [K,R,S,C]  weight * s, with s = norm_weight / sqrt(running_var + eps) per output channel
 *   folded_bias                [K]        norm_bias - running_mean * s
 *
 * conv2d(x, folded_weight, folded_bias) is then norm(conv2d(x, weight)). Backward: d_weight = s * d_folded_weight; the
 * norm's own tensors get no gradient. */
#ifndef KERNELS_FOLD_FROZEN_NORM_FOLD_FROZEN_NORM_H
#define KERNELS_FOLD_FROZEN_NORM_FOLD_FROZEN_NORM_H

#include "autograd/op.h"

struct tape;

typedef struct fold_frozen_norm_params {
    double eps;
} fold_frozen_norm_params;

enum { FOLD_WEIGHT, FOLD_NORM_WEIGHT, FOLD_NORM_BIAS, FOLD_RUNNING_MEAN, FOLD_RUNNING_VAR };

extern const op_def fold_frozen_norm_op;
extern const op_kernel fold_frozen_norm_reference_f32, fold_frozen_norm_reference_f64;

typedef struct folded_conv {
    tensor *weight, *bias;
} folded_conv;

/* inputs: in the order of the enum above. */
folded_conv fold_frozen_norm(struct tape *t, tensor *const inputs[5], const fold_frozen_norm_params *params);

#endif
