#include "data/detection.h"

#include <stdlib.h>
#include <string.h>

status detection_list_reserve(detection_list *list, int capacity, int raw_side) {
    if (capacity > list->capacity) {
        detection *items = realloc(list->items, (size_t)capacity * sizeof *items);
        if (!items) return error_set(STATUS_OS, "free some memory", "no memory for %d detections", capacity);
        memset(items + list->capacity, 0, (size_t)(capacity - list->capacity) * sizeof *items);
        list->items = items;
        list->capacity = capacity;
    }
    if (raw_side != list->raw_side) {
        free(list->raw_masks);
        list->raw_masks = NULL;
        list->raw_capacity = 0;
        list->raw_side = raw_side;
    }
    if (raw_side > 0 && capacity > list->raw_capacity) {
        float *masks =
            realloc(list->raw_masks, (size_t)capacity * (size_t)raw_side * (size_t)raw_side * sizeof *masks);
        if (!masks)
            return error_set(STATUS_OS, "free some memory", "no memory for %d masks of %dx%d", capacity,
                             raw_side, raw_side);
        list->raw_masks = masks;
        list->raw_capacity = capacity;
    }
    return STATUS_OK;
}

void detection_list_release(detection_list *list) {
    for (int i = 0; i < list->capacity; i++) mask_rle_release(&list->items[i].mask);
    free(list->items);
    free(list->raw_masks);
    *list = (detection_list){0};
}
