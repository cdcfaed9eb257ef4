/* Greedy suppression of boxes that are already sorted by score; shared by nms and rpn_proposals. */
#ifndef KERNELS_NMS_GREEDY_H
#define KERNELS_NMS_GREEDY_H

#include <stddef.h>
#include <stdint.h>

/* One array per coordinate, so that one box meets many in a vector. */
typedef struct nms_boxes {
    float *x1, *y1, *x2, *y2, *area;
    int32_t *removed;
} nms_boxes;

static inline size_t nms_boxes_bytes(int64_t capacity) {
    return (size_t)capacity * (5 * sizeof(float) + sizeof(int32_t));
}

/* Cuts nms_boxes_bytes(capacity) bytes at `memory`. */
nms_boxes nms_boxes_at(void *memory, int64_t capacity);

/* The part that starts with box `first`. */
nms_boxes nms_boxes_from(nms_boxes boxes, int64_t first);

void nms_boxes_set(nms_boxes boxes, int64_t index, const float box[4]);

/* The largest float that is not above `threshold`: for a float IoU, iou > threshold means iou > that, as
 * PyTorch, which compares a float with a double, decides. */
float nms_float_threshold(double threshold);

/* Marks in `removed` every box whose IoU with an earlier box that stays exceeds `threshold`, until `max_keep`
 * boxes stay; the boxes after them are marked as well. Returns how many stay. */
int64_t nms_greedy(nms_boxes boxes, int64_t count, float threshold, int64_t max_keep);

#endif
