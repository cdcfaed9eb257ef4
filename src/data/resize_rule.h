/* Size of a training or test image after resizing: short edge to a wanted length, long edge at most
 * `max_size`. */
#ifndef DATA_RESIZE_RULE_H
#define DATA_RESIZE_RULE_H

#include <stdint.h>

typedef enum resize_rule {
    /* detectron2 (ResizeShortestEdge): scale = short/min side; if the longer side passes max_size, scale
     * again; both sides int(x + 0.5), all in double. */
    RESIZE_RULE_DETECTRON2,
    /* torchvision (GeneralizedRCNNTransform): scale = min(short/min side, max_size/max side) in double, sides
     * floor(side * scale). */
    RESIZE_RULE_TORCHVISION
} resize_rule;

/* Sides are >= 1. max_size <= 0: no limit. No result is below 1. */
void resize_rule_apply(int32_t *resized_height, int32_t *resized_width, resize_rule rule, int32_t height,
                       int32_t width, int32_t short_edge, int32_t max_size);

#endif
