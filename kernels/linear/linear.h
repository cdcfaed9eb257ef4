/* linear: y = relu?(x W^T + bias)
 *
 *   x       [N,C]  real; rows behind x->rows are neither read nor written
 *   weight  [K,C]  real
 *   bias    [K]    real, optional
 *   y       [N,K]
 *
 * With `flatten` x is [N,...]: the axes behind the first count as one.
 *
 * Backward, with g = d_y (masked by y > 0 when relu): d_x = g W, d_weight = g^T x, d_bias = sum over rows of g. */
#ifndef KERNELS_LINEAR_LINEAR_H
#define KERNELS_LINEAR_LINEAR_H

#include "autograd/op.h"

struct tape;

typedef struct linear_params {
    bool relu;
    bool flatten;    /* accept x of any rank >= 2, e.g. pooled maps [N,P,P,C] */
    bool f32_output; /* y is F32 also where x has 16 bits */
} linear_params;

enum { LINEAR_X, LINEAR_WEIGHT, LINEAR_BIAS };

extern const op_def linear_op;
extern const op_kernel linear_reference_f32, linear_reference_f64, linear_blas, linear_direct;

tensor *linear(struct tape *t, tensor *x, tensor *weight, tensor *bias, const linear_params *params);

#endif
