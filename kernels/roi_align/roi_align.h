/* roi_align: mean of bilinear samples in each of P x P bins of each region (He et al., "Mask R-CNN"), as
 * torchvision
 *
 *   x     [N,H,W,C]  real
 *   rois  [R,5]      real: image index, x1 y1 x2 y2 in input pixels, continuous; any order of images
 *   y     [R,P,P,C]  its rows are those of rois
 *
 * start = coordinate * spatial_scale - (aligned ? 0.5 : 0); only aligned = 0 widens a region to 1 x 1. A bin
 * has sampling_ratio^2 samples, or ceil(size / P) per axis when that is 0. Pixel i is the sample place i; a
 * sample < -1 or > size is 0, else it is clamped to the map; all samples count. Backward: d_x is the
 * transpose; rois get no gradient. */
#ifndef KERNELS_ROI_ALIGN_ROI_ALIGN_H
#define KERNELS_ROI_ALIGN_ROI_ALIGN_H

#include "autograd/op.h"

struct tape;

typedef struct roi_align_params {
    int output_size;
    double spatial_scale;
    int sampling_ratio;
    bool aligned;
} roi_align_params;

enum { ROI_ALIGN_X, ROI_ALIGN_ROIS };

extern const op_def roi_align_op;
extern const op_kernel roi_align_reference_f32, roi_align_reference_f64, roi_align_bands;

tensor *roi_align(struct tape *t, tensor *x, tensor *rois, const roi_align_params *params);

#endif
