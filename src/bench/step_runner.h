/* Training steps that are only measured: the job of `train` without its folder, checkpoints and evaluations. */
#ifndef BENCH_STEP_RUNNER_H
#define BENCH_STEP_RUNNER_H

#include "bench/synthetic_data.h"
#include "train/train_job.h"

typedef struct step_runner_options {
    bool
        synthetic; /* generated pictures of the configuration's size instead of DATASETS.TRAIN; the learning rate is 0 */
    bool random_start;  /* MODEL.WEIGHTS is not read; see random_model.h */
    bool measure;       /* see step_queue_measure */
    int64_t iterations; /* that will be run at most */
} step_runner_options;

typedef struct step_runner {
    train_job job;
    synthetic_data synthetic;
    int64_t next; /* iteration */
} step_runner;

/* Prepares everything but the first step. `cfg` is changed as by train_job_plan, and as the options say. Codes as for
 * trainer_run. step_runner_close in any case; both are collective. */
status step_runner_open(step_runner *r, config *cfg, const step_runner_options *options);
void step_runner_close(step_runner *r);

/* Runs so many steps and hands out the report of each, in order; when it returns all are taken and the device is done. A report's
 * graph (see step_report) is the step's that was just run. NON_FINITE: the losses are not. */
typedef void (*step_runner_hook)(void *context, const step_report *report);
status step_runner_run(step_runner *r, int64_t steps, step_runner_hook hook, void *context);

#endif
