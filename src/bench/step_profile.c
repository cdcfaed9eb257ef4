#include "bench/step_profile.h"

#include "bench/json_output.h"
#include "bench/step_runner.h"

typedef struct step_profile {
    const profile_options *options;
    step_runner runner;
    profile_report report;
    int64_t height, width; /* canvas of the last step */
} step_profile;

static void ignore_step(void *context, const step_report *report) {
    (void)context, (void)report;
}

static void trace_sum(void *context, const grad_bucket_span *span) {
    step_profile *p = context;
    if (span->seconds > 0)
        profile_report_trace(&p->report, TRACE_COMM, "all-reduce", span->start, span->seconds);
}

/* The stages follow one another. */
static void trace_stages(step_profile *p, const step_report *report) {
    double at = report->start;
    profile_report_trace(&p->report, TRACE_HOST, "step", report->start, report->seconds);
    for (int i = 0; i < STEP_STAGES; i++) {
        trace_row row = i == STEP_COPY ? TRACE_COPY : TRACE_HOST;
        profile_report_trace(&p->report, row, step_stage_names[i], at, report->stages[i]);
        at += report->stages[i];
    }
}

static void note_step(void *context, const step_report *report) {
    step_profile *p = context;
    step_queue_tabulate(p->runner.job.steps, report, p->report.table, profile_report_trace_run, &p->report);
    if (profile_report_is_traced(&p->report)) {
        trace_stages(p, report);
        step_queue_take_sums(p->runner.job.steps, trace_sum, p);
    }
    p->height = report->height;
    p->width = report->width;
    profile_report_end_step(&p->report, report->seconds);
}

static void write_about(void *context, json_writer *w) {
    const step_profile *p = context;
    const train_job *job = &p->runner.job;
    int64_t shape[] = {train_job_images(job), p->height, p->width, 3};
    json_output_i64(w, "ranks", job->env.size);
    json_output_bool(w, "synthetic", p->options->synthetic);
    json_write_key(w, "batch_shape");
    json_write_begin_array(w);
    for (int i = 0; i < 4; i++) json_write_i64(w, shape[i]);
    json_write_end_array(w);
}

static status run(step_profile *p) {
    const train_job *job = &p->runner.job;
    RETURN_IF_ERROR(step_runner_run(&p->runner, p->options->warmup, ignore_step, NULL));
    profile_report_begin(&p->report, job->env.rank);
    RETURN_IF_ERROR(step_runner_run(&p->runner, p->options->iterations, note_step, p));
    if (job->env.rank != 0) return comm_agree(job->c, STATUS_OK);
    return comm_agree(
        job->c, profile_report_tell(&p->report, job->dev, &job->model.params.precision, write_about, p));
}

status step_profile_run(config *cfg, const profile_options *options) {
    step_profile p = {.options = options};
    step_runner_options wishes = {.synthetic = options->synthetic,
                                  .random_start = options->random_start,
                                  .measure = true,
                                  .iterations = options->warmup + options->iterations};
    status s = profile_report_open(&p.report, options->group, options->json, options->trace);
    p.report.what = "training step";
    if (s == STATUS_OK) {
        s = step_runner_open(&p.runner, cfg, &wishes);
        if (s == STATUS_OK) s = run(&p);
        step_runner_close(&p.runner);
    }
    profile_report_close(&p.report);
    return s;
}
