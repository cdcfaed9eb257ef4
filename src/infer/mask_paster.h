/* Turns mask probabilities inside boxes into run lengths over the whole original image: mask_paste on a tape of its own,
 * whose memory grows with the width of the images. */
#ifndef INFER_MASK_PASTER_H
#define INFER_MASK_PASTER_H

#include "autograd/tape.h"
#include "data/mask_rle.h"
#include "device/device.h"

/* Masks in one run of the tape; more are pasted in further runs. */
enum { MASK_PASTER_BATCH = 128 };

typedef struct mask_paster {
    device *dev;
    int side, batch, rule;
    tape *t; /* NULL before the first run */
    tensor *probs, *boxes, *rois, *info, *count, *runs, *run_counts;
    int32_t *rest; /* [1] in device memory: masks of the second batch and those after it */
    int64_t width; /* of the widest image that the capacity suffices for */
    int64_t capacity;
    int32_t *host_runs; /* page-locked: [batch] counts, then [batch,capacity] run lengths */
    size_t host_bytes;
    void *arena;
    size_t arena_bytes;
} mask_paster;

/* What is pasted, in device memory: `count` masks [side,side], their boxes [4] in pixels of the original image and their
 * rois [5], of which only the image number is read. */
typedef struct mask_paster_input {
    float *probs, *boxes, *rois;
    int32_t *count, *info;
} mask_paster_input;

/* Nothing is allocated before the first image. `masks`: the most there can be. */
void mask_paster_init(mask_paster *paster, device *dev, int side, int masks, int rule);
void mask_paster_release(mask_paster *paster);

/* Makes room for images of this width. OS. */
status mask_paster_reserve(mask_paster *paster, int width);

/* Queues masks first..first+batch-1 and their way to the host; no more are there than `count` says. Waits for nothing. */
void mask_paster_run(mask_paster *paster, const mask_paster_input *in, int first, int count);

/* Mask `index` of the last run, which the caller has waited for. OS. */
status mask_paster_read(mask_rle *out, const mask_paster *paster, int index, int height, int width);

#endif
