/* roi_pool: maximum in each of P x P bins of each region (Girshick, "Fast R-CNN"), as torchvision
 *
 *   x     [N,H,W,C]  real
 *   rois  [R,5]      real: image index, x1 y1 x2 y2 in input pixels; any order of images
 *   y     [R,P,P,C]  its rows are those of rois
 *
 * Corners are multiplied by spatial_scale and rounded (half away from zero), size = max(x2 - x1 + 1, 1), bin
 * p covers the pixels floor(p size / P) .. ceil((p+1) size / P) - 1 behind the corner, cut to the map; a bin
 * without pixels is 0 and has no gradient. Backward: a bin's gradient goes to the first of its largest
 * pixels; rois get none. */
#ifndef KERNELS_ROI_POOL_ROI_POOL_H
#define KERNELS_ROI_POOL_ROI_POOL_H

#include "autograd/op.h"

struct tape;

typedef struct roi_pool_params {
    int output_size;
    double spatial_scale;
} roi_pool_params;

enum { ROI_POOL_X, ROI_POOL_ROIS };

extern const op_def roi_pool_op;
extern const op_kernel roi_pool_reference_f32, roi_pool_reference_f64, roi_pool_rows;

tensor *roi_pool(struct tape *t, tensor *x, tensor *rois, const roi_pool_params *params);

#endif
