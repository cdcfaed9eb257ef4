/* Device memory for the inputs of training steps up to a largest shape, the one arena that the graphs of all canvases run in,
 * and the way of a batch to the inputs. Made once, before training starts.
 *
 * Where the host can write device memory, a batch is filled straight into the inputs. Elsewhere it goes three steps that nobody
 * waits for: the host fills one of two page-locked pieces of memory; the copy stream brings it into a waiting place on the
 * device while the step before computes; the compute stream, when it comes there, copies it from there into the inputs,
 * whose addresses graphs know. */
#ifndef SETUP_STEP_MEMORY_H
#define SETUP_STEP_MEMORY_H

#include "device/device.h"
#include "model/mask_rcnn.h"

enum { STEP_MEMORY_STAGES = 2 };

typedef struct step_memory {
    device *dev;
    step_shape largest;
    step_inputs inputs; /* where graphs read */
    void *arena;
    size_t arena_bytes;
    void *block; /* of the inputs */
    size_t block_bytes;
    /* Only where the host cannot write the block: */
    void *waiting;                                            /* device memory */
    void *stage_blocks[STEP_MEMORY_STAGES];                   /* page-locked */
    step_inputs stages[STEP_MEMORY_STAGES];                   /* their parts */
    device_event *left[STEP_MEMORY_STAGES], *arrived, *taken; /* left: the stage may be filled again */
    int turn;
} step_memory;

/* Zeroed inputs for every shape up to `largest` in each of its members; `images` only where pixel_bytes is 0, and the
 * other way round. OS. Release in any case. */
status step_memory_init(step_memory *memory, device *dev, const step_shape *largest);
void step_memory_release(step_memory *memory);

/* Whether step_memory_next will not wait. */
bool step_memory_is_free(const step_memory *memory);

/* Where the host fills the next batch. It waits only while the batch before the last one is still being copied. */
step_inputs *step_memory_next(step_memory *memory);

/* What of the variable parts of a batch is used. */
typedef struct step_used {
    size_t mask_bytes, pixel_bytes, image_bytes;
} step_used;

/* Queues the way of what was filled into the inputs; the compute stream has it for what is queued next. */
void step_memory_bring(step_memory *memory, const step_used *used);

/* Makes the arena at least this large; what it held is lost, so attach graphs again. */
status step_memory_reserve(step_memory *memory, size_t bytes);

#endif
