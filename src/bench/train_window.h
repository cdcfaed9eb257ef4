/* What steps of a window of training found out, summed up on one rank, then over the ranks. */
#ifndef BENCH_TRAIN_WINDOW_H
#define BENCH_TRAIN_WINDOW_H

#include "bench/step_parts.h"
#include "bench/step_runner.h"

enum { WINDOW_CANVASES = 64 };

/* Per image. */
enum window_count {
    WINDOW_OBJECTS,          /* ground truth */
    WINDOW_ANCHORS,          /* sampled for the RPN's losses */
    WINDOW_ANCHOR_POSITIVES, /* among them */
    WINDOW_PROPOSALS,        /* of the RPN */
    WINDOW_ROIS,             /* sampled for the heads */
    WINDOW_POSITIVES,        /* among them: what the mask head runs on */
    WINDOW_COUNTS
};
extern const char *const window_count_names[WINDOW_COUNTS];

/* All numbers are doubles, so that ranks can be added up. Seconds. */
typedef struct window_sums {
    double steps, seconds;
    double stages[STEP_STAGES];
    double parts[2][STEP_PARTS]; /* forward, backward; STEP_PART_OTHER has what is between the ops as well */
    double allreduce;            /* of all sums over ranks of the gradients, hidden ones too */
    double counts[WINDOW_COUNTS];
} window_sums;

typedef struct train_window {
    step_runner *runner;
    /* Of every step: */
    double *seconds; /* [steps] */
    int64_t steps, capacity;
    struct window_canvas {
        int64_t height, width, steps;
    } canvases[WINDOW_CANVASES];
    int canvas_count;
    int64_t more_canvases; /* steps of those that have no room above */
    /* Of measured steps: */
    window_sums sums;
} train_window;

/* `steps`: at most. OS. */
status train_window_init(train_window *w, step_runner *runner, int64_t steps);
void train_window_release(train_window *w);

/* step_runner_hooks; `window` is the train_window. Times and canvas of a step. */
void train_window_note(void *window, const step_report *report);

/* The sums of a measured step. */
void train_window_measure(void *window, const step_report *report);

#endif
