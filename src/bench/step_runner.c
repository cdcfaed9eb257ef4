#include "bench/step_runner.h"

#include "base/log.h"
#include "bench/random_model.h"
#include "setup/train_data.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

static int64_t largest(const config_ints *list) {
    int64_t most = 1;
    for (int i = 0; i < list->count; i++)
        if (list->values[i] > most) most = list->values[i];
    return most;
}

/* Pictures that fill the largest canvas, so that nothing depends on what they are resized from; a few more than a batch, at
 * least eight. */
static status make_data(step_runner *r) {
    config *cfg = r->job.cfg;
    int64_t height = largest(&cfg->INPUT_MIN_SIZE_TRAIN), width = cfg->INPUT_MAX_SIZE_TRAIN;
    int64_t images = cfg->SOLVER_IMS_PER_BATCH < 6 ? 8 : cfg->SOLVER_IMS_PER_BATCH + 2;
    char spec[SYNTHETIC_SPEC];
    if (width < 1) width = height * 4 / 3;
    if (height > width) height = width;
    RETURN_IF_ERROR(
        synthetic_data_make(&r->synthetic, (int)images, (int)height, (int)width, (uint64_t)cfg->SEED));
    synthetic_data_spec(spec, &r->synthetic);
    return config_set(cfg, "DATASETS.TRAIN", spec);
}

/* Nothing is learned from shapes, and nothing may grow beyond all numbers. */
static status make_synthetic(config *cfg) {
    RETURN_IF_ERROR(config_set(cfg, "SOLVER.BASE_LR", "0"));
    RETURN_IF_ERROR(config_set(cfg, "SOLVER.BASE_LR_END", "0"));
    if (cfg->MODEL_ROI_HEADS_NUM_CLASSES >= SYNTHETIC_CLASSES) return STATUS_OK;
    log_warn("bench",
             "MODEL.ROI_HEADS.NUM_CLASSES is %d instead of %" PRId64 ": generated pictures have so many",
             SYNTHETIC_CLASSES, cfg->MODEL_ROI_HEADS_NUM_CLASSES);
    return config_set(cfg, "MODEL.ROI_HEADS.NUM_CLASSES", "4");
}

/* Rates behind the last iteration are not defined. */
static status lengthen(config *cfg, int64_t iterations) {
    char text[32];
    if (cfg->SOLVER_MAX_ITER >= iterations) return STATUS_OK;
    snprintf(text, sizeof text, "%" PRId64, iterations);
    return config_set(cfg, "SOLVER.MAX_ITER", text);
}

static status prepare(step_runner *r, const step_runner_options *options) {
    train_job *job = &r->job;
    if (options->synthetic) RETURN_IF_ERROR(make_synthetic(job->cfg));
    RETURN_IF_ERROR(
        lengthen(job->cfg, options->iterations * job->env.size)); /* before it is divided by ranks */
    RETURN_IF_ERROR(train_job_plan(job));
    if (options->synthetic) RETURN_IF_ERROR(make_data(r));
    return train_data_open(&job->data, job->cfg, &job->env);
}

static status start(step_runner *r, const step_runner_options *options) {
    train_job *job = &r->job;
    const char *weights = options->random_start ? "" : job->cfg->MODEL_WEIGHTS;
    RETURN_IF_ERROR(train_job_start_model(job, weights));
    if (!weights[0]) random_model_calm(&job->model, job->cfg);
    return train_job_start_steps(job, &(step_queue_spec){.measure = options->measure}, 0);
}

status step_runner_open(step_runner *r, config *cfg, const step_runner_options *options) {
    *r = (step_runner){0};
    RETURN_IF_ERROR(train_job_init(&r->job, cfg));
    RETURN_IF_ERROR(prepare(r, options));
    RETURN_IF_ERROR(train_job_connect(&r->job));
    return comm_agree(r->job.c, start(r, options));
}

/* The loader's processes end before the pictures go. */
void step_runner_close(step_runner *r) {
    train_job_close(&r->job);
    synthetic_data_remove(&r->synthetic);
}

/* For a failure between two collective calls: the other ranks do not know of it and would wait for ever. */
static status fail_alone(const step_runner *r, status failure) {
    if (r->job.env.size == 1) return failure;
    rank_env_report_error(&r->job.env);
    comm_abort(r->job.c, (int)failure);
}

/* All ranks come here in the same iteration. */
static status stop_non_finite(const step_runner *r, const step_report *report) {
    error_set(STATUS_NON_FINITE, "give --weights, lower SOLVER.BASE_LR, or measure with --synthetic",
              "iteration %" PRId64 ": not finite: total_loss %g", report->iteration, fabs(report->total));
    return comm_agree(r->job.c, STATUS_NON_FINITE);
}

status step_runner_run(step_runner *r, int64_t steps, step_runner_hook hook, void *context) {
    step_queue *q = r->job.steps;
    for (int64_t i = 0; i < steps; i++) {
        bool is_mine_alone;
        step_report report;
        status s = step_queue_run(q, r->next++, &is_mine_alone);
        if (is_mine_alone) return fail_alone(r, s);
        RETURN_IF_ERROR(s);
        while (step_queue_take(q, &report, i + 1 == steps)) {
            if (report.gradients.is_stopped) return stop_non_finite(r, &report);
            hook(context, &report);
        }
    }
    return STATUS_OK;
}
