/* What every run of training steps stands on, and the order in which it comes to be: the place among the ranks, the data with its
 * processes, then device and MPI, then threads, model and steps.
 *
 *     train_job_init, train_job_plan, train_data_open(&job->data, ...), train_job_connect,
 *     train_job_start_model, train_job_start_steps, train_job_close
 *
 * `train` adds a run's folder, checkpoints and evaluations to it; what measures steps adds nothing. */
#ifndef TRAIN_TRAIN_JOB_H
#define TRAIN_TRAIN_JOB_H

#include "train/step_queue.h"

typedef struct train_job {
    config *cfg; /* borrowed */
    rank_env env;
    train_data data;
    schedule rates;
    device *dev;
    comm *c;
    mask_rcnn model;
    step_queue *steps;
} train_job;

/* Which rank this is. train_job_close in any case. */
status train_job_init(train_job *job, config *cfg);

/* Decides SEED, and what SOLVER.REFERENCE_WORLD_SIZE scales, in the configuration. CONFIG: the batch cannot be divided among the
 * ranks. */
status train_job_plan(train_job *job);

/* Images of a rank's share of the batch. */
int train_job_images(const train_job *job);

/* Device and ranks. Collective from here on. */
status train_job_connect(train_job *job);

/* Threads, and the model with the weights of setup_model. */
status train_job_start_model(train_job *job, const char *weights);

/* Steps from `first_iteration` on, and the loader with it. Of `wishes` only what is no part of the job counts: same_canvas,
 * trace_shapes, measure. */
status train_job_start_steps(train_job *job, const step_queue_spec *wishes, int64_t first_iteration);

/* Collective after train_job_connect. */
void train_job_close(train_job *job);

#endif
