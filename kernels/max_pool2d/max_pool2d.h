/* max_pool2d: y[n,i,j,c] = max over r, s < kernel of x[n, i*stride - pad + r, j*stride - pad + s, c]; padding is
 * -inf.
 *
 *   x [N,H,W,C]    real; rows behind x->rows are neither read nor written
 *   y [N,Ho,Wo,C]  Ho = floor((H + 2 pad - kernel) / stride) + 1; pad <= kernel/2, so every window holds a pixel
 *
 * Backward: d_y goes to the window's maximum, to the first one (in row-major order) of equal ones, as in
 * PyTorch; it is found again from x. A NaN is a maximum. kernel 1, stride 2 takes every second pixel (FPN's P6). */
#ifndef KERNELS_MAX_POOL2D_MAX_POOL2D_H
#define KERNELS_MAX_POOL2D_MAX_POOL2D_H

#include "autograd/op.h"

struct tape;

typedef struct max_pool2d_params {
    int kernel, stride, pad;
} max_pool2d_params;

enum { MAX_POOL2D_X };
enum { MAX_POOL2D_MAX_KERNEL = 64, MAX_POOL2D_MAX_STRIDE = 32768 };

extern const op_def max_pool2d_op;
extern const op_kernel max_pool2d_reference_f32, max_pool2d_reference_f64, max_pool2d_tiled;

tensor *max_pool2d(struct tape *t, tensor *x, const max_pool2d_params *params);

#endif
