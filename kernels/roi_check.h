/* Checks of regions of interest that roi_align, roi_align_fpn and roi_pool share. */
#ifndef KERNELS_ROI_CHECK_H
#define KERNELS_ROI_CHECK_H

#include "autograd/op.h"

/* For infer: input `rois` is [R,5]; STATUS_DATA otherwise. */
status roi_check_shape(const op_call *call, int rois);

/* For infer: 1 <= output_size, both within limits of roi_bins.h. */
status roi_check_params(const op_call *call, int output_size, int sampling_ratio);

/* For validate: image indices are whole numbers in [0, images), coordinates are finite. */
status roi_check_values(const op_call *call, int rois, int64_t images);

#endif
