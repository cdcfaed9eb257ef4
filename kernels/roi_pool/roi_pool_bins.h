/* Geometry of RoI pooling, shared by the reference and the fast kernel: which pixels of the map a region and its bins hold.
 * Axis 0 is y, axis 1 is x. */
#ifndef KERNELS_ROI_POOL_ROI_POOL_BINS_H
#define KERNELS_ROI_POOL_ROI_POOL_BINS_H

#include "real_type.h"

#include <stdint.h>

typedef struct pool_region {
    int64_t image;
    int64_t low[2], size[2]; /* corner and size in pixels of the map */
} pool_region;

/* Pixels [first, end). */
typedef struct pool_range {
    int64_t first, end;
} pool_range;

static inline int64_t pool_pixel(REAL value) {
    REAL rounded = round(value);
    return rounded < -(REAL)INT32_MAX ? -INT32_MAX : rounded > (REAL)INT32_MAX ? INT32_MAX : (int64_t)rounded;
}

/* roi: image, x1, y1, x2, y2. */
static inline pool_region pool_region_make(const REAL roi[5], REAL scale) {
    pool_region g = {.image = (int64_t)roi[0]};
    for (int axis = 0; axis < 2; axis++) {
        g.low[axis] = pool_pixel(roi[2 - axis] * scale);
        int64_t size = pool_pixel(roi[4 - axis] * scale) - g.low[axis] + 1;
        g.size[axis] = size > 1 ? size : 1;
    }
    return g;
}

/* Bin p of one axis, cut to the map's `length`. */
static inline pool_range pool_bin(const pool_region *g, int axis, int p, int output_size, int64_t length) {
    REAL size = (REAL)g->size[axis] / (REAL)output_size;
    int64_t first = (int64_t)floor((REAL)p * size) + g->low[axis],
            end = (int64_t)ceil((REAL)(p + 1) * size) + g->low[axis];
    return (pool_range){.first = first < 0        ? 0
                                 : first > length ? length
                                                  : first,
                        .end = end < 0        ? 0
                               : end > length ? length
                                              : end};
}

#endif
