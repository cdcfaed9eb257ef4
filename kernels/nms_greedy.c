#include "nms_greedy.h"

#include <math.h>

nms_boxes nms_boxes_at(void *memory, int64_t capacity) {
    float *f = memory;
    return (nms_boxes){.x1 = f,
                       .y1 = f + capacity,
                       .x2 = f + 2 * capacity,
                       .y2 = f + 3 * capacity,
                       .area = f + 4 * capacity,
                       .removed = (int32_t *)(void *)(f + 5 * capacity)};
}

nms_boxes nms_boxes_from(nms_boxes b, int64_t first) {
    return (nms_boxes){b.x1 + first, b.y1 + first,   b.x2 + first,
                       b.y2 + first, b.area + first, b.removed + first};
}

void nms_boxes_set(nms_boxes b, int64_t index, const float box[4]) {
    b.x1[index] = box[0];
    b.y1[index] = box[1];
    b.x2[index] = box[2];
    b.y2[index] = box[3];
    b.area[index] = (box[2] - box[0]) * (box[3] - box[1]);
    b.removed[index] = 0;
}

float nms_float_threshold(double threshold) {
    float t = (float)threshold;
    return (double)t > threshold ? nextafterf(t, -INFINITY) : t;
}

/* IoU of `box` with each box behind it. 0/0 of two boxes without area is NaN, which is not above the
 * threshold. */
static void suppress(const float box[5], const nms_boxes *others, int64_t count, float threshold) {
    const float *restrict x1 = others->x1, *restrict y1 = others->y1, *restrict x2 = others->x2,
                          *restrict y2 = others->y2;
    const float *restrict area = others->area;
    int32_t *restrict removed = others->removed;
    const float bx1 = box[0], by1 = box[1], bx2 = box[2], by2 = box[3], barea = box[4];
    for (int64_t j = 0; j < count; j++) {
        float left = x1[j] > bx1 ? x1[j] : bx1, right = x2[j] < bx2 ? x2[j] : bx2;
        float top = y1[j] > by1 ? y1[j] : by1, bottom = y2[j] < by2 ? y2[j] : by2;
        float w = right - left, h = bottom - top;
        w = w > 0.0f ? w : 0.0f;
        h = h > 0.0f ? h : 0.0f;
        float inter = w * h;
        removed[j] |= inter / (barea + area[j] - inter) > threshold;
    }
}

int64_t nms_greedy(nms_boxes b, int64_t count, float threshold, int64_t max_keep) {
    int64_t kept = 0;
    for (int64_t i = 0; i < count; i++) {
        if (kept == max_keep) b.removed[i] = 1;
        if (b.removed[i]) continue;
        kept++;
        nms_boxes behind = nms_boxes_from(b, i + 1);
        suppress((float[5]){b.x1[i], b.y1[i], b.x2[i], b.y2[i], b.area[i]}, &behind, count - i - 1,
                 threshold);
    }
    return kept;
}
