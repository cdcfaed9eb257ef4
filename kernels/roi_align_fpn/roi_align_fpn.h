/* roi_align_fpn: roi_align of each region on the pyramid level that fits its size
 *
 *   p2..p5  [N,H/4,W/4,C] .. [N,H/32,W/32,C]  real: maps of strides 4, 8, 16, 32; sizes need not divide
 *   rois    [R,5]      real: image index, x1 y1 x2 y2 in input pixels
 *   y       [R,P,P,C]  in the order of rois, its rows are those of rois
 *
 * level = floor(4 + log2(sqrt(area) / 224 + level_eps)) within 2..5, area = (x2-x1)(y2-y1) unclipped; no area
 * is level 2. The rest is roi_align with spatial_scale 1/stride. Backward: every map gets a gradient, zero
 * where nothing was read. */
#ifndef KERNELS_ROI_ALIGN_FPN_ROI_ALIGN_FPN_H
#define KERNELS_ROI_ALIGN_FPN_ROI_ALIGN_FPN_H

#include "autograd/op.h"

struct tape;

typedef struct roi_align_fpn_params {
    int output_size;
    int sampling_ratio;
    bool aligned;
    double level_eps; /* Detectron, torchvision: 1e-6; detectron2: 1e-8 */
} roi_align_fpn_params;

enum { ROI_ALIGN_FPN_P2, ROI_ALIGN_FPN_P3, ROI_ALIGN_FPN_P4, ROI_ALIGN_FPN_P5, ROI_ALIGN_FPN_ROIS };

extern const op_def roi_align_fpn_op;
extern const op_kernel roi_align_fpn_reference_f32, roi_align_fpn_reference_f64, roi_align_fpn_bands;

/* `in`: P2, P3, P4, P5, rois. */
tensor *roi_align_fpn(struct tape *t, tensor *const in[5], const roi_align_fpn_params *params);

#endif
