/* Cost of RoIAlign, for roi_align and roi_align_fpn. */
#ifndef KERNELS_ROI_COST_H
#define KERNELS_ROI_COST_H

#include "autograd/op_cost.h"

/* For op_def.cost: input `rois` is [R,5], those before it are the maps. Adaptive sampling (0) counts as 2 x 2 per bin: what it is
 * for regions that the pyramid gives to their own level. */
void roi_cost_of_align(op_cost *cost, const op_call *call, bool backward, int rois, int sampling_ratio);

#endif
