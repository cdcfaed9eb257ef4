/* Geometry of RoIAlign, as torchvision has it: where a region's bins and samples lie on a feature map. A
 * region is (image, x1, y1, x2, y2) in input pixels; axis 0 is y, axis 1 is x. */
#ifndef KERNELS_ROI_BINS_H
#define KERNELS_ROI_BINS_H

#include "real_type.h"

#include <stdbool.h>
#include <stdint.h>

enum { ROI_MAX_OUTPUT_SIZE = 512, ROI_MAX_SAMPLING_RATIO = 512 };

typedef struct roi_sampling {
    int output_size;    /* P */
    int sampling_ratio; /* samples per bin and axis; <= 0: ceil(size of the region / P) */
    bool aligned;       /* shift by half a pixel; else regions are at least 1 x 1 */
} roi_sampling;

typedef struct roi_bins {
    REAL start[2], bin[2]; /* of the region, of one bin; in pixels of the map */
    int64_t samples[2];    /* per bin; 0: none */
} roi_bins;

static inline roi_bins roi_bins_make(const REAL roi[5], REAL scale, const roi_sampling *s) {
    roi_bins b;
    REAL offset = s->aligned ? (REAL)0.5 : 0;
    for (int axis = 0; axis < 2; axis++) {
        REAL start = roi[2 - axis] * scale - offset, end = roi[4 - axis] * scale - offset;
        REAL size = end - start;
        if (!s->aligned && !(size > 1)) size = 1;
        REAL adaptive = ceil(size / (REAL)s->output_size);
        b.start[axis] = start;
        b.bin[axis] = size / (REAL)s->output_size;
        b.samples[axis] = s->sampling_ratio > 0        ? s->sampling_ratio
                          : !(adaptive > 0)            ? 0
                          : adaptive < (REAL)INT32_MAX ? (int64_t)adaptive
                                                       : INT32_MAX;
    }
    return b;
}

/* Place of sample `index` of bin `p`. */
static inline REAL roi_sample_at(const roi_bins *b, int axis, int p, int64_t index) {
    return b->start[axis] + (REAL)p * b->bin[axis] +
           ((REAL)index + (REAL)0.5) * b->bin[axis] / (REAL)b->samples[axis];
}

/* The two neighbours of a sample on an axis of `size` pixels, and the weight of the upper one. False: the
 * sample lies off the map by more than a pixel (or is NaN) and counts as 0. */
static inline bool roi_neighbours(REAL at, int64_t size, int64_t *low, int64_t *high, REAL *high_weight) {
    if (!(at >= -1 && at <= (REAL)size) || size == 0) return false;
    if (at < 0) at = 0;
    *low = (int64_t)at;
    if (*low >= size - 1) {
        *low = *high = size - 1;
        *high_weight = 0;
    } else {
        *high = *low + 1;
        *high_weight = at - (REAL)*low;
    }
    return true;
}

enum { ROI_MIN_LEVEL = 2, ROI_LEVELS = 4 };

/* Pyramid level of a region, counted from P2: floor(4 + log2(sqrt(area) / 224 + eps)) within P2..P5; P2 for a
 * region without area (Lin et al., "Feature Pyramid Networks for Object Detection", eq. 1). */
static inline int roi_level(const REAL roi[5], double eps) {
    REAL area = (roi[3] - roi[1]) * (roi[4] - roi[2]);
    REAL level = floor(4 + log2(sqrt(area) / 224 + (REAL)eps)) - ROI_MIN_LEVEL;
    return !(area > 0) || !(level > 0) ? 0 : level < ROI_LEVELS - 1 ? (int)level : ROI_LEVELS - 1;
}

#endif
