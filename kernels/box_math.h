/* Boxes x1 y1 x2 y2 in continuous pixels, without +1 anywhere. The arithmetic keeps the order of torchvision
 * and detectron2, so in float the results have their bits. */
#ifndef KERNELS_BOX_MATH_H
#define KERNELS_BOX_MATH_H

#include "real_type.h"

#include <stdbool.h>

static inline REAL box_min(REAL a, REAL b) {
    return a < b ? a : b;
}
static inline REAL box_max(REAL a, REAL b) {
    return a > b ? a : b;
}

static inline REAL box_area(const REAL box[4]) {
    return (box[2] - box[0]) * (box[3] - box[1]);
}

/* Intersection over union; `area_*` are box_area of each. 0 where the boxes do not meet, so two boxes without
 * area never overlap. */
static inline REAL box_iou(const REAL a[4], REAL area_a, const REAL b[4], REAL area_b) {
    REAL w = box_min(a[2], b[2]) - box_max(a[0], b[0]);
    REAL h = box_min(a[3], b[3]) - box_max(a[1], b[1]);
    REAL inter = (w > 0 ? w : 0) * (h > 0 ? h : 0);
    return inter > 0 ? inter / (area_a + area_b - inter) : 0;
}

/* Deltas that take `reference` to `box`, each multiplied by its weight. Both must have a positive area. */
static inline void box_encode_one(REAL deltas[4], const REAL box[4], const REAL reference[4],
                                  const double weights[4]) {
    REAL pw = reference[2] - reference[0], ph = reference[3] - reference[1];
    REAL px = reference[0] + (REAL)0.5 * pw, py = reference[1] + (REAL)0.5 * ph;
    REAL gw = box[2] - box[0], gh = box[3] - box[1];
    REAL gx = box[0] + (REAL)0.5 * gw, gy = box[1] + (REAL)0.5 * gh;
    deltas[0] = (REAL)weights[0] * (gx - px) / pw;
    deltas[1] = (REAL)weights[1] * (gy - py) / ph;
    deltas[2] = (REAL)weights[2] * log(gw / pw);
    deltas[3] = (REAL)weights[3] * log(gh / ph);
}

/* The inverse; dw and dh are limited to `clip` from above after the division by their weights. */
static inline void box_decode_one(REAL box[4], const REAL deltas[4], const REAL reference[4],
                                  const double weights[4], double clip) {
    REAL pw = reference[2] - reference[0], ph = reference[3] - reference[1];
    REAL px = reference[0] + (REAL)0.5 * pw, py = reference[1] + (REAL)0.5 * ph;
    REAL dx = deltas[0] / (REAL)weights[0], dy = deltas[1] / (REAL)weights[1];
    REAL dw = deltas[2] / (REAL)weights[2], dh = deltas[3] / (REAL)weights[3];
    dw = dw > (REAL)clip ? (REAL)clip : dw;
    dh = dh > (REAL)clip ? (REAL)clip : dh;
    REAL gx = dx * pw + px, gy = dy * ph + py;
    REAL gw = exp(dw) * pw, gh = exp(dh) * ph;
    box[0] = gx - (REAL)0.5 * gw;
    box[1] = gy - (REAL)0.5 * gh;
    box[2] = gx + (REAL)0.5 * gw;
    box[3] = gy + (REAL)0.5 * gh;
}

#endif
