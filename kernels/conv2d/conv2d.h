/* conv2d: y = relu?(conv(x, weight) + bias + residual)
 *
 *   x         [N,H,W,C]    real; images behind x->rows are neither read nor written
 *   weight    [K,R,S,C]    real
 *   bias      [K]          real, optional
 *   residual  [N,Ho,Wo,K]  real, optional
 *   y         [N,Ho,Wo,K]  Ho = floor((H + 2 pad - dilation (R-1) - 1) / stride) + 1, Wo alike from W and S
 *
 *   y[n,p,q,k] = relu?(bias[k] + residual[n,p,q,k]
 *                      + sum over r,s,c of x[n, p stride - pad + r dilation, q stride - pad + s dilation, c]
 *                                          weight[k,r,s,c])
 *
 * Backward, with g = d_y (masked by y > 0 when relu): d_residual = g, d_bias = sum over pixels of g,
 * d_weight[k,r,s,c] = sum over pixels of g[pixel,k] x[pixel at tap r,s; c], d_x = the transposed convolution
 * of g. d_residual may have the memory of d_y: the mask is applied there in place. */
#ifndef KERNELS_CONV2D_CONV2D_H
#define KERNELS_CONV2D_CONV2D_H

#include "autograd/op.h"

struct tape;

typedef struct conv2d_params {
    int stride, pad, dilation; /* in pixels, the same on both axes */
    bool relu;
    bool f32_output; /* y is F32 also where x has 16 bits: for what decides on ties (scores) */
    /* Backward: at most so many pixels of d_y (of all valid images) are not zero after the mask; 0: any number may be. A
     * kernel may compute what follows from those only, with room for no more: a broken promise gives the right
     * gradients or NaN, never wrong numbers. */
    int live_pixels;
} conv2d_params;

enum { CONV2D_X, CONV2D_WEIGHT, CONV2D_BIAS, CONV2D_RESIDUAL };

extern const op_def conv2d_op;
extern const op_kernel conv2d_reference_f32, conv2d_reference_f64, conv2d_direct;

/* inputs: x, weight, bias, residual in this order; the last two may be NULL. */
tensor *conv2d(struct tape *t, tensor *const inputs[4], const conv2d_params *params);

#endif
