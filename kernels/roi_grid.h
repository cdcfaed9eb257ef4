/* The cases of a known comparison of RoI pooling, as [N,H,W,C]: square maps of 8, 64 and 256 pixels, batches of 8, 64 and 256, 10,
 * 100 and 1000 regions, 3 channels, 7x7 bins; and one image of 512 channels, 50x50, with 300 regions. `params` has 7 bins and
 * spatial_scale 1, `prepare` is roi_grid_prepare. */
#ifndef KERNELS_ROI_GRID_H
#define KERNELS_ROI_GRID_H

#include "autograd/op.h"

void roi_grid_prepare(const op_call *call);

#define ROI_GRID_CASE(p, n, side, c, r)                                                                      \
    {                                                                                                        \
        .name = "map" #side "_batch" #n "_rois" #r, .params = p,                                             \
        .in = {OP_IN(NORMAL, 0, 1, n, side, side, c), OP_IN(UNIFORM, 0, 1, r, 5)},                           \
        .prepare = roi_grid_prepare                                                                          \
    }
#define ROI_GRID_ROIS(p, n, side)                                                                            \
    ROI_GRID_CASE(p, n, side, 3, 10), ROI_GRID_CASE(p, n, side, 3, 100), ROI_GRID_CASE(p, n, side, 3, 1000)
#define ROI_GRID_BATCHES(p, side)                                                                            \
    ROI_GRID_ROIS(p, 8, side), ROI_GRID_ROIS(p, 64, side), ROI_GRID_ROIS(p, 256, side)
#define ROI_GRID(p)                                                                                          \
    ROI_GRID_BATCHES(p, 8), ROI_GRID_BATCHES(p, 64), ROI_GRID_BATCHES(p, 256), {                             \
        .name = "channels512_map50_batch1_rois300", .params = p,                                             \
        .in = {OP_IN(NORMAL, 0, 1, 1, 50, 50, 512), OP_IN(UNIFORM, 0, 1, 300, 5)},                           \
        .prepare = roi_grid_prepare                                                                          \
    }

#endif
