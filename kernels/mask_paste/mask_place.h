/* Where pixels lie in a map, and run lengths; shared by the kernels of mask_paste. The arithmetic keeps the order of
 * torchvision and detectron2. A map is thought of with a ring of zeros: nodes 0..S+1 per axis, of which 0 and S+1 are
 * zero; cell k lies between nodes k and k+1. */
#ifndef KERNELS_MASK_PASTE_MASK_PLACE_H
#define KERNELS_MASK_PASTE_MASK_PLACE_H

#include "image_info.h"
#include "mask_paste/mask_paste.h"
#include "real_type.h"

/* One axis of a mask. */
typedef struct mask_axis {
    int rule, side;     /* S */
    int64_t first, end; /* pixels of the image that may be set: first .. end - 1 */
    int64_t start;      /* RESIZE: pixel 0 of the resized map */
    REAL low, size;     /* GRID_SAMPLE: of the box */
    REAL scale;         /* RESIZE: nodes per pixel */
} mask_axis;

/* False: no pixel can be set. */
static inline bool mask_axis_make(mask_axis *axis, const mask_paste_params *p, int side, REAL low, REAL high,
                                  int32_t pixels) {
    *axis = (mask_axis){.rule = p->rule, .side = side};
    const REAL limit = 1 << 30;
    if (!(fabs(low) <= limit) || !(fabs(high) <= limit)) return false;
    int64_t first, end;
    if (p->rule == MASK_PASTE_GRID_SAMPLE) {
        axis->low = low;
        axis->size = high - low;
        if (!(axis->size > 0)) return false;
        first = (int64_t)floor(low) - 1;
        end = (int64_t)ceil(high) + 1;
    } else {
        REAL half = (high - low) * (REAL)0.5, centre = (high + low) * (REAL)0.5;
        half *= (REAL)((side + 2.0) / side);
        first = (int64_t)(centre - half);
        end = (int64_t)(centre + half) + 1;
        axis->start = first;
        axis->scale = (REAL)(side + 2) / (REAL)(end - first > 1 ? end - first : 1);
    }
    axis->first = first > 0 ? first : 0;
    axis->end = end < pixels ? end : pixels;
    return axis->first < axis->end;
}

/* Cell of a pixel and its place in the cell, 0 from node k on. The cell never falls as pixels rise, nor does the place
 * within one cell; -1 and S+1 are outside. */
static inline int mask_axis_at(const mask_axis *axis, int64_t pixel, REAL *place) {
    *place = 0;
    if (axis->rule == MASK_PASTE_GRID_SAMPLE) {
        REAL grid = ((REAL)pixel + (REAL)0.5 - axis->low) / axis->size * 2 - 1;
        REAL at = ((grid + 1) * (REAL)axis->side - 1) / 2;
        if (!(at >= -1)) return -1;
        if (!(at < (REAL)axis->side)) return axis->side + 1;
        int below = (int)(at + 1);           /* at + 1 is not negative */
        if ((REAL)(below - 1) > at) below--; /* at + 1 was rounded up */
        *place = at - (REAL)(below - 1);
        return below;
    }
    REAL at = axis->scale * ((REAL)(pixel - axis->start) + (REAL)0.5) - (REAL)0.5;
    if (!(at > 0)) return 0;
    if (!(at < (REAL)(axis->side + 1))) return axis->side + 1;
    *place = at - (REAL)(int)at;
    return (int)at;
}

/* Between two nodes; never beyond either, so monotone in `place`. NaN where a node is not finite. */
static inline REAL mask_between(REAL a, REAL b, REAL place) {
    REAL value = a + place * (b - a), low = a < b ? a : b, high = a < b ? b : a;
    return value < low ? low : value > high ? high : value;
}

static inline bool mask_is_set(const mask_paste_params *p, REAL value) {
    return p->rule == MASK_PASTE_GRID_SAMPLE ? value >= (REAL)p->threshold : value > (REAL)p->threshold;
}

/* --- runs ------------------------------------------------------------------------------------------------------ */

typedef struct mask_runs {
    int32_t *runs;
    int64_t count, capacity; /* count goes on behind the capacity, but nothing is written there */
    int64_t end;             /* of the last stretch, in pixels down the columns */
} mask_runs;

static inline void mask_runs_put(mask_runs *r, int64_t length) {
    if (r->count < r->capacity) r->runs[r->count] = (int32_t)length;
    r->count++;
}

/* Pixels start .. end - 1 are set; stretches come by rising start and do not overlap. */
static inline void mask_runs_add(mask_runs *r, int64_t start, int64_t end) {
    if (r->count > 0 && start == r->end) { /* from the foot of a column to the head of the next */
        if (r->count <= r->capacity) r->runs[r->count - 1] += (int32_t)(end - start);
    } else {
        mask_runs_put(r, start - r->end);
        mask_runs_put(r, end - start);
    }
    r->end = end;
}

/* Runs used, or -1. */
static inline int32_t mask_runs_finish(mask_runs *r, int64_t pixels) {
    if (r->end < pixels) mask_runs_put(r, pixels - r->end);
    return r->count <= r->capacity ? (int32_t)r->count : -1;
}

#endif
