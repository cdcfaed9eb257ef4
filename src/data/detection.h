/* What a detector finds in one image: what is scored, written to results files and drawn. */
#ifndef DATA_DETECTION_H
#define DATA_DETECTION_H

#include <stdint.h>
#include "data/mask_rle.h"

typedef struct detection {
    int32_t label; /* class 0..K-1 */
    float score;   /* 0..1 */
    float box[4];  /* x1 y1 x2 y2 in pixels of the original, upright image, inside it */
    mask_rle mask; /* of the whole original image; height 0: there is none */
} detection;

/* One image's detections, by falling score. Reused from image to image: memory of items and of their masks is kept. */
typedef struct detection_list {
    detection *items; /* [capacity], the first `count` are valid */
    int count, capacity;
    int height, width; /* of the original image */
    /* Probabilities of each detection's own class inside its box, where masks were asked for raw. */
    float *raw_masks;           /* [count, raw_side, raw_side]; NULL where raw_side is 0 */
    int raw_side, raw_capacity; /* raw_capacity: masks there is room for */
} detection_list;

/* Makes room for `capacity` detections (those there are kept) and, where raw_side > 0, as many raw masks of that side
 * (their contents are lost when the side changes). OS. */
status detection_list_reserve(detection_list *list, int capacity, int raw_side);
void detection_list_release(detection_list *list);

#endif
