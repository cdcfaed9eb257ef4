/* upsample_add: y[n,i,j,c] = top[n, i/2, j/2, c] + lateral[n,i,j,c] (nearest, factor 2); the top-down step of an
 * FPN.
 *
 *   top     [N,h,w,C]    real; rows behind top->rows are neither read nor written
 *   lateral [N,2h,2w,C]  real
 *   y       [N,2h,2w,C]
 *
 * Backward: d_lateral = d_y (may share its memory); d_top = sum of d_y over the four pixels. */
#ifndef KERNELS_UPSAMPLE_ADD_UPSAMPLE_ADD_H
#define KERNELS_UPSAMPLE_ADD_UPSAMPLE_ADD_H

#include "autograd/op.h"

struct tape;

enum { UPSAMPLE_ADD_TOP, UPSAMPLE_ADD_LATERAL };

extern const op_def upsample_add_op;
extern const op_kernel upsample_add_reference_f32, upsample_add_reference_f64, upsample_add_tiled;

tensor *upsample_add(struct tape *t, tensor *top, tensor *lateral);

#endif
