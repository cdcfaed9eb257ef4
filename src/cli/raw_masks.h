/* Mask probabilities of all detections of a run as one tensor in a safetensors file: `masks` F32 [n,S,S], in the order in
 * which they came. They wait in an unnamed file in the same folder until their number is known. */
#ifndef CLI_RAW_MASKS_H
#define CLI_RAW_MASKS_H

#include "data/detection.h"

typedef struct raw_masks {
    int fd; /* -1: not open */
    int side;
    int64_t count;
} raw_masks;

/* CANT_CREATE, NO_PERMISSION, IO. */
status raw_masks_open(raw_masks *masks, const char *folder, int side);
/* Those of one image. */
status raw_masks_add(raw_masks *masks, const detection_list *list);
/* Writes `path`, whole or not at all. */
status raw_masks_finish(raw_masks *masks, const char *path);
void raw_masks_close(raw_masks *masks);

#endif
