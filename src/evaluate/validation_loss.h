/* The losses of training over images that are not trained on: the training graph's forward pass, one image at a time, on
 * each rank for itself; nothing of the model changes. Sampling draws as in iteration 0, so two evaluations of one model give
 * the same numbers, on any number of ranks. */
#ifndef EVALUATE_VALIDATION_LOSS_H
#define EVALUATE_VALIDATION_LOSS_H

#include "data/loader.h"
#include "setup/graph_cache.h"

typedef struct validation_loss {
    step_memory memory;
    graph_cache graphs;
    float *losses;               /* [LOSS_COUNT], device memory */
    double sums[LOSS_COUNT + 1]; /* of this rank: each loss over its images; the last is their number */
} validation_loss;

/* `model` has memory for training. `l` delivers one image at a time. CONFIG: sizes beyond what ops can count; OS.
 * validation_loss_release in any case. */
status validation_loss_init(validation_loss *v, mask_rcnn *model, device *dev, const loader *l);
void validation_loss_release(validation_loss *v);

/* Adds the losses of the batch's one image. OS. */
status validation_loss_add(validation_loss *v, const loader_batch *batch, const dataset *data);

#endif
