/* Device memory for the inputs of training steps up to a largest shape, and the one arena that the graphs of all
 * canvases run in. Made once, before training starts. */
#ifndef SETUP_STEP_MEMORY_H
#define SETUP_STEP_MEMORY_H

#include "device/device.h"
#include "model/mask_rcnn.h"

typedef struct step_memory {
    device *dev;
    step_shape largest;
    step_inputs inputs;
    void *arena;
    size_t arena_bytes;
} step_memory;

/* Zeroed inputs for every shape up to `largest` in each of its members; `images` only where pixel_bytes is 0, and the
 * other way round. OS. Release in any case. */
status step_memory_init(step_memory *memory, device *dev, const step_shape *largest);
void step_memory_release(step_memory *memory);

/* Makes the arena at least this large; what it held is lost, so attach graphs again. */
status step_memory_reserve(step_memory *memory, size_t bytes);

#endif
