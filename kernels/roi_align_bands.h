/* Fast RoIAlign on float maps, shared by roi_align (one level) and roi_align_fpn (P2..P5).
 *
 * The samples of a bin are merged into one weight per row and one per column of the map, so each pixel of a
 * region is touched once per bin it belongs to, for all channels at a time. Forward: one tile per region.
 * Backward: one tile per band of map rows and block of channels, which walks over all regions in order; so
 * each element of d_x is written by one tile and summed in one order, whatever the number of threads. */
#ifndef KERNELS_ROI_ALIGN_BANDS_H
#define KERNELS_ROI_ALIGN_BANDS_H

#include "autograd/op.h"
#include "roi_bins.h"

typedef struct roi_bands_level {
    const float *x;  /* [images,height,width,channels]; forward */
    float *d_x;      /* backward; NULL: not wanted */
    bool accumulate; /* add to d_x */
    int64_t height, width;
    float scale;
} roi_bands_level;

typedef struct roi_bands_job {
    int levels; /* 1, or ROI_LEVELS: then roi_level chooses */
    roi_bands_level level[ROI_LEVELS];
    int64_t images, channels;
    const float *rois;      /* [rows,5] */
    int64_t rows, capacity; /* valid; all */
    roi_sampling sampling;
    double level_eps;
    float *y;         /* forward: [rows,P,P,channels] */
    const float *d_y; /* backward; NULL: zero */
    void *scratch;    /* roi_bands_scratch() bytes; needs levels' sizes, capacity and sampling */
} roi_bands_job;

size_t roi_bands_scratch(const roi_bands_job *job);
void roi_bands_forward(const roi_bands_job *job);
void roi_bands_backward(const roi_bands_job *job);

#endif
