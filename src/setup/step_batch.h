/* From the loader's samples to the inputs of a step. */
#ifndef SETUP_STEP_BATCH_H
#define SETUP_STEP_BATCH_H

#include "data/loader.h"
#include "setup/step_memory.h"

/* Largest canvas, and most objects, mask bytes and pixel bytes, that any batch of this loader can need. CONFIG: more than
 * the records of masks and pixels can count. */
status step_batch_largest(step_shape *largest, const loader *l, int images);

/* Canvas of a batch: the largest resized sides, rounded up to CANVAS_DIVISOR. */
void step_batch_canvas(int64_t *height, int64_t *width, const loader_batch *batch);

/* Fills step_memory_next: pixels as read, boxes, labels and masks packed. CHECKs that everything fits memory->largest. The caller
 * sets the single numbers in *host, then calls step_memory_bring with what is returned. */
step_used step_batch_fill(step_inputs **host, step_memory *memory, const loader_batch *batch,
                          const dataset *data);

#endif
