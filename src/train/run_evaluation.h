/* Evaluation within a training run: when it happens, which checkpoint is the best, when there is no hope left. It reads the
 * model and changes nothing of the run: the weights after it are those of a run without it, bit for bit. */
#ifndef TRAIN_RUN_EVALUATION_H
#define TRAIN_RUN_EVALUATION_H

#include "train/checkpoint.h"
#include "evaluate/evaluate.h"
#include "record/metrics.h"

typedef struct run_evaluation {
    const config *cfg;
    test_data data;
    mask_rcnn *model;
    device *dev;
    comm *c;
    checkpoint_best best; /* the same on all ranks */
    status failure;       /* of the last evaluation, with cause and remedy; the same on all ranks */
    char cause[1100], remedy[512];
} run_evaluation;

/* Opens DATASETS.TEST; before MPI. Codes of test_data_open. run_evaluation_close in any case. */
status run_evaluation_open(run_evaluation *r, const config *cfg, const rank_env *env);
void run_evaluation_close(run_evaluation *r);

/* Refuses test sets that cannot be scored, or not with these classes, before any time is spent on training. Codes of
 * class_map_make and evaluate_check. */
status run_evaluation_prepare(run_evaluation *r, mask_rcnn *model, device *dev, comm *c,
                              const weights_classes *classes);

/* Goes on from what a checkpoint knows of the best one. */
void run_evaluation_resume(run_evaluation *r, const checkpoint_best *best);

/* Whether to evaluate after `done` finished iterations. */
bool run_evaluation_is_due(const run_evaluation *r, int64_t done, bool last);

/* Collective. Evaluates after `iteration`, prints, adds to OUTPUT_DIR/evaluations.json and to TensorBoard (rank 0's `log`), and
 * updates r->best: *improved on all ranks when this is the best model so far. A failure is a warning, because training
 * needs none of it; it is kept in r->failure. */
void run_evaluation_run(run_evaluation *r, bool *improved, int64_t iteration, bool last, metrics *log);

/* TEST.PATIENCE is used up; `reason` says so in words. */
bool run_evaluation_is_exhausted(const run_evaluation *r, char reason[256]);

/* The failure of the last evaluation as the current error. */
status run_evaluation_report_failure(const run_evaluation *r);

#endif
