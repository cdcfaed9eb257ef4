/* Learning rate of each iteration, as detectron2's LRMultiplier over fvcore's schedulers gives it.
 *
 * With where = iteration / MAX_ITER, and main(where) one of
 *   WarmupMultiStepLR: GAMMA^(number of STEPS at or before the iteration)
 *   WarmupCosineLR:    end + (1 - end) (1 + cos(pi where)) / 2, end = BASE_LR_END / BASE_LR
 * the rate is BASE_LR times main(where), but before WARMUP_ITERS times
 *   linear:   from WARMUP_FACTOR main(0) straight to main(WARMUP_ITERS / MAX_ITER)
 *   constant: WARMUP_FACTOR main(0)
 *
 * Detectron (from 1/3 over 500 iterations) and torchvision (from 1/1000 over one epoch, at most 1000
 * iterations) are the same linear formula with other constants. Detectron and detectron2 lower the rate at
 * the same iterations; torchvision at ends of epochs. */
#ifndef TRAIN_SCHEDULE_H
#define TRAIN_SCHEDULE_H

#include "config/config.h"

#include <stdint.h>

typedef struct schedule {
    double base_lr, gamma, end_factor, warmup_factor;
    const int64_t *steps; /* borrowed from the config */
    int step_count;       /* those at or before MAX_ITER */
    int64_t max_iterations, warmup_iterations;
    bool cosine, constant_warmup;
} schedule;

/* `cfg` must outlive the schedule. CONFIG: BASE_LR_END above BASE_LR. STEPS behind MAX_ITER are warned of. */
status schedule_init(schedule *s, const config *cfg);

/* Rate of the step `iteration` in [0, MAX_ITER). */
double schedule_lr(const schedule *s, int64_t iteration);

/* detectron2's auto_scale_workers: a config written for SOLVER.REFERENCE_WORLD_SIZE ranks is changed to
 * `ranks`: batch and rate times ranks / reference, iterations (MAX_ITER, STEPS, WARMUP_ITERS,
 * CHECKPOINT_PERIOD, TEST.EVAL_PERIOD) divided by it, rounded half to even; periods stay at least 1. What
 * changes is logged, before and after. Nothing happens at 0 or when the numbers are equal. CONFIG:
 * IMS_PER_BATCH is not a multiple of the reference, or a scaled value would be beyond its key's range. */
status schedule_scale_to_ranks(config *cfg, int ranks);

#endif
