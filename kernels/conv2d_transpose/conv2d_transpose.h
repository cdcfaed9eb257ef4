/* conv2d_transpose: y = relu?(transposed convolution of x + bias)
 *
 *   x       [N,H,W,C]    real; images behind x->rows are neither read nor written
 *   weight  [C,R,S,K]    real
 *   bias    [K]          real, optional
 *   y       [N,Ho,Wo,K]  Ho = (H-1) stride - 2 pad + R, Wo alike from W and S
 *
 *   y[n, h stride - pad + r, w stride - pad + s, k] += x[n,h,w,c] weight[c,r,s,k], then bias, then ReLU; no flip
 *
 * So it is conv2d's d_x, with its weight seen as [K',R,S,C'] = [C,R,S,K]. Backward, with g = d_y (masked by
 * y > 0 when relu): d_x = conv2d(g, weight), d_weight = conv2d's d_weight with g as input and x as output
 * gradient, d_bias = sum over pixels of g. */
#ifndef KERNELS_CONV2D_TRANSPOSE_CONV2D_TRANSPOSE_H
#define KERNELS_CONV2D_TRANSPOSE_CONV2D_TRANSPOSE_H

#include "autograd/op.h"

struct tape;

typedef struct conv2d_transpose_params {
    int stride, pad; /* in pixels, the same on both axes */
    bool relu;
} conv2d_transpose_params;

enum { CONV2D_TRANSPOSE_X, CONV2D_TRANSPOSE_WEIGHT, CONV2D_TRANSPOSE_BIAS };

extern const op_def conv2d_transpose_op;
extern const op_kernel conv2d_transpose_reference_f32, conv2d_transpose_reference_f64,
    conv2d_transpose_direct;

/* bias may be NULL. */
tensor *conv2d_transpose(struct tape *t, tensor *x, tensor *weight, tensor *bias,
                         const conv2d_transpose_params *params);

#endif
