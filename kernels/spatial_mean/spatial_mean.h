/* spatial_mean: the mean over the places of each map (global average pooling)
 *
 *   x  [R,H,W,C]  real; rows behind x->rows are neither read nor written
 *   y  [R,C]      its rows are those of x
 *
 *   y[r,c] = sum over h,w of x[r,h,w,c] / (H W)
 *
 * Backward: d_x[r,h,w,c] = d_y[r,c] / (H W). */
#ifndef KERNELS_SPATIAL_MEAN_SPATIAL_MEAN_H
#define KERNELS_SPATIAL_MEAN_SPATIAL_MEAN_H

#include "autograd/op.h"

struct tape;

extern const op_def spatial_mean_op;
extern const op_kernel spatial_mean_reference_f32, spatial_mean_reference_f64, spatial_mean_threaded;

tensor *spatial_mean(struct tape *t, tensor *x);

#endif
