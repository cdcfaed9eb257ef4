/* The different convolutions of recorded tapes, and plans for them ahead of a run. */
#ifndef CUDNN_CONV_LIST_H
#define CUDNN_CONV_LIST_H

#include "autograd/tape.h"
#include "cudnn/plan_cache.h"

typedef struct conv_list {
    conv_desc *descs;
    int count, capacity;
} conv_list;

/* Adds what cuDNN may be asked for when this planned tape runs with activations, weights and gradients in `storage`, F32 with or
 * without TF32, whatever the tape itself has: each part of each call with all that is fused to it, and without. Two that are equal stand once. */
void conv_list_add_tape(conv_list *list, const tape *t, dtype storage, bool tf32);
void conv_list_release(conv_list *list);

/* The plan that the heuristics put first, into the cache, not measured. False: there is none within the workspace that a run
 * gives it, or it cannot be kept. */
bool conv_list_plan(plan_cache *cache, conv_plan_counts *counts, const cudnn_target *target,
                    const conv_desc *d);

#endif
