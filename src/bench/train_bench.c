#include "bench/train_bench.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/host_memory.h"
#include "bench/json_output.h"
#include "bench/machine.h"
#include "bench/median.h"
#include "bench/train_window.h"
#include "setup/setup.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Steps whose stages are measured where that cannot be done in the window. */
enum { MEASURED_STEPS = 20 };

/* What the first rank learns of each. */
typedef struct rank_figures {
    double step_seconds, median_seconds, peak_rss, device_memory;
    window_sums sums;
    int64_t height, width; /* the most frequent canvas */
} rank_figures;

typedef struct train_bench {
    const train_bench_options *options;
    config *cfg;
    step_runner runner;
    train_window window;
    rank_figures *ranks; /* [ranks], on rank 0 */
    /* Of a measured step, means over the ranks, in milliseconds: */
    double step_ms, median_ms, measured_ms, stages_ms[STEP_STAGES], parts_ms[2][STEP_PARTS], allreduce_ms;
    double counts[WINDOW_COUNTS]; /* per image */
    bool later;                   /* stages come from further steps */
    machine machine;
} train_bench;

static bool is_first(const train_bench *b) {
    return b->runner.job.env.rank == 0;
}

/* --- running --------------------------------------------------------------------------------------------------------- */

static void ignore_step(void *context, const step_report *report) {
    (void)context, (void)report;
}

static void note_and_measure(void *window, const step_report *report) {
    train_window_note(window, report);
    train_window_measure(window, report);
}

/* Where the host computes, a step ends in itself; elsewhere only a row of them can be timed. */
static status run_window(train_bench *b, double *step_seconds) {
    train_window *w = &b->window;
    int64_t steps = b->options->iterations;
    comm_barrier(b->runner.job.c);
    double start = clock_seconds();
    RETURN_IF_ERROR(step_runner_run(&b->runner, steps, b->later ? train_window_note : note_and_measure, w));
    *step_seconds = (clock_seconds() - start) / (double)steps;
    if (!b->later) *step_seconds = w->sums.seconds / (double)steps;
    return STATUS_OK;
}

static status measure_later(train_bench *b) {
    int64_t steps = b->options->iterations < MEASURED_STEPS ? b->options->iterations : MEASURED_STEPS;
    step_queue_measure(b->runner.job.steps);
    RETURN_IF_ERROR(step_runner_run(&b->runner, 1, ignore_step, NULL)); /* the first makes its events */
    return step_runner_run(&b->runner, steps, train_window_measure, &b->window);
}

static rank_figures figures_of(train_bench *b, double step_seconds) {
    train_window *w = &b->window;
    rank_figures mine = {.step_seconds = step_seconds,
                         .median_seconds = median(w->seconds, (int)w->steps),
                         .peak_rss = (double)host_memory_peak(),
                         .device_memory = (double)device_memory_peak(b->runner.job.dev),
                         .sums = w->sums};
    int64_t most = 0;
    for (int i = 0; i < w->canvas_count; i++) {
        if (w->canvases[i].steps <= most) continue;
        most = w->canvases[i].steps;
        mine.height = w->canvases[i].height;
        mine.width = w->canvases[i].width;
    }
    return mine;
}

/* Means over the ranks. */
static void sum_up(train_bench *b) {
    const train_job *job = &b->runner.job;
    double ranks = job->env.size, images = 0;
    for (int r = 0; r < job->env.size; r++) {
        const rank_figures *f = &b->ranks[r];
        double ms = 1e3 / f->sums.steps / ranks;
        b->step_ms += 1e3 * f->step_seconds / ranks;
        b->median_ms += 1e3 * f->median_seconds / ranks;
        b->measured_ms += ms * f->sums.seconds;
        b->allreduce_ms += ms * f->sums.allreduce;
        for (int i = 0; i < STEP_STAGES; i++) b->stages_ms[i] += ms * f->sums.stages[i];
        for (int i = 0; i < 2 * STEP_PARTS; i++) (&b->parts_ms[0][0])[i] += ms * (&f->sums.parts[0][0])[i];
        for (int i = 0; i < WINDOW_COUNTS; i++) b->counts[i] += f->sums.counts[i];
        images += f->sums.steps * train_job_images(job);
    }
    for (int i = 0; i < WINDOW_COUNTS; i++) b->counts[i] /= images;
}

static status run_steps(train_bench *b) {
    double step_seconds = 0;
    train_job *job = &b->runner.job;
    RETURN_IF_ERROR(train_window_init(&b->window, &b->runner, b->options->iterations));
    RETURN_IF_ERROR(step_runner_run(&b->runner, b->options->warmup, ignore_step, NULL));
    RETURN_IF_ERROR(run_window(b, &step_seconds));
    if (b->later) RETURN_IF_ERROR(measure_later(b));
    rank_figures mine = figures_of(b, step_seconds);
    b->ranks = calloc((size_t)job->env.size, sizeof *b->ranks);
    CHECK(b->ranks, "out of memory for a report");
    comm_gather(job->c, b->ranks, &mine, sizeof mine);
    if (is_first(b)) sum_up(b);
    return STATUS_OK;
}

/* --- telling --------------------------------------------------------------------------------------------------------- */

static double img_per_s(const train_bench *b) {
    return 1e3 * (double)b->cfg->SOLVER_IMS_PER_BATCH / b->step_ms;
}

static void print_row(const train_bench *b, const char *name, double ms) {
    printf("  %-22s %10.2f ms %6.1f %%\n", name, ms, 100 * ms / b->measured_ms);
}

static void print_stages(const train_bench *b) {
    if (b->later)
        printf("stages, of %.0f further steps queued one by one (%.2f ms a step):\n", b->ranks[0].sums.steps,
               b->measured_ms);
    double sum = 0;
    for (int i = 0; i < STEP_STAGES; i++) {
        print_row(b, step_stage_names[i], b->stages_ms[i]);
        sum += b->stages_ms[i];
        for (int part = 0; part < STEP_PARTS && (i == STEP_FORWARD || i == STEP_BACKWARD); part++) {
            char name[32];
            double ms = b->parts_ms[i == STEP_BACKWARD][part];
            snprintf(name, sizeof name, "  %s", step_part_names[part]);
            if (ms > 0) print_row(b, name, ms);
        }
    }
    print_row(b, "sum", sum);
    if (b->runner.job.env.size > 1)
        printf("sums of gradients run for %.2f ms; %.2f ms of a step wait for sums or the other ranks\n",
               b->allreduce_ms, b->stages_ms[STEP_ALLREDUCE]);
}

static void print_canvases(const train_window *w) {
    printf("canvases:");
    for (int i = 0; i < w->canvas_count; i++)
        printf("%s %" PRId64 "x%" PRId64 " (%" PRId64 ")", i ? "," : "", w->canvases[i].height,
               w->canvases[i].width, w->canvases[i].steps);
    if (w->more_canvases) printf(", others (%" PRId64 ")", w->more_canvases);
    printf("\n");
}

static void print(const train_bench *b) {
    const train_job *job = &b->runner.job;
    machine_print(&b->machine, stdout);
    printf("%s, %s, %d rank%s of %d image%s, batch of a rank [%d,%" PRId64 ",%" PRId64 ",3]%s\n",
           b->machine.device, setup_precision_name(&job->model.params.precision), job->env.size,
           job->env.size == 1 ? "" : "s", train_job_images(job), train_job_images(job) == 1 ? "" : "s",
           train_job_images(job), b->ranks[0].height, b->ranks[0].width,
           b->options->synthetic ? ", generated pictures" : "");
    printf("iterations %" PRId64 "-%" PRId64 ": %.3f img/s, %.2f ms a step (median %.2f)\n",
           b->options->warmup, b->options->warmup + b->options->iterations, img_per_s(b), b->step_ms,
           b->median_ms);
    for (int r = 0; r < job->env.size && job->env.size > 1; r++)
        printf("  rank %d: %.3f img/s, data wait %.2f ms, %.0f MiB\n", r,
               train_job_images(job) / b->ranks[r].step_seconds,
               1e3 * b->ranks[r].sums.stages[STEP_DATA] / b->ranks[r].sums.steps,
               b->ranks[r].peak_rss / 0x1p20);
    print_stages(b);
    print_canvases(&b->window);
    printf("per image:");
    for (int i = 0; i < WINDOW_COUNTS; i++)
        printf("%s %.1f %s", i ? "," : "", b->counts[i], window_count_names[i]);
    printf("\nmemory of rank 0: %.0f MiB resident at most, %.0f MiB of the device's\n",
           b->ranks[0].peak_rss / 0x1p20, b->ranks[0].device_memory / 0x1p20);
}

static void write_list(json_writer *w, const char *key, const int64_t *values, int count) {
    json_write_key(w, key);
    json_write_begin_array(w);
    for (int i = 0; i < count; i++) json_write_i64(w, values[i]);
    json_write_end_array(w);
}

static void write_named(json_writer *w, const char *key, const char *const *names, const double *values,
                        int count) {
    json_write_key(w, key);
    json_write_begin_object(w);
    for (int i = 0; i < count; i++) json_output_f64(w, names[i], values[i]);
    json_write_end_object(w);
}

static void write_times(json_writer *w, const train_bench *b) {
    json_output_f64(w, "img_per_s", img_per_s(b));
    json_output_f64(w, "step_ms", b->step_ms);
    json_output_f64(w, "step_ms_median", b->median_ms);
    write_named(w, "stages_ms", step_stage_names, b->stages_ms, STEP_STAGES);
    write_named(w, "forward_ms", step_part_names, b->parts_ms[0], STEP_PARTS);
    write_named(w, "backward_ms", step_part_names, b->parts_ms[1], STEP_PARTS);
    json_output_f64(w, "allreduce_total_ms", b->allreduce_ms);
    json_output_bool(w, "stages_of_further_steps", b->later);
    json_output_f64(w, "measured_step_ms", b->measured_ms);
}

static void write_what(json_writer *w, const train_bench *b) {
    const train_job *job = &b->runner.job;
    int64_t images = train_job_images(job), first = b->options->warmup;
    write_list(w, "iterations", (int64_t[]){first, first + b->options->iterations}, 2);
    json_output_i64(w, "ranks", job->env.size);
    json_output_i64(w, "images_per_step", b->cfg->SOLVER_IMS_PER_BATCH);
    write_list(w, "batch_shape", (int64_t[]){images, b->ranks[0].height, b->ranks[0].width, 3}, 4);
    json_write_key(w, "canvases");
    json_write_begin_array(w);
    for (int i = 0; i < b->window.canvas_count; i++) {
        json_write_begin_object(w);
        json_output_i64(w, "height", b->window.canvases[i].height);
        json_output_i64(w, "width", b->window.canvases[i].width);
        json_output_i64(w, "steps", b->window.canvases[i].steps);
        json_write_end_object(w);
    }
    json_write_end_array(w);
    write_named(w, "per_image", window_count_names, b->counts, WINDOW_COUNTS);
    json_output_bool(w, "synthetic", b->options->synthetic);
    json_output_text(w, "device", b->machine.device);
    json_output_text(w, "precision", setup_precision_name(&job->model.params.precision));
    json_output_text(w, "sums_over", comm_backend_name(job->c));
}

static void write_ranks(json_writer *w, const train_bench *b) {
    const train_job *job = &b->runner.job;
    double most = 0;
    json_write_key(w, "per_rank");
    json_write_begin_array(w);
    for (int r = 0; r < job->env.size; r++) {
        const rank_figures *f = &b->ranks[r];
        if (f->peak_rss > most) most = f->peak_rss;
        json_write_begin_object(w);
        json_output_f64(w, "img_per_s", train_job_images(job) / f->step_seconds);
        json_output_f64(w, "step_ms", 1e3 * f->step_seconds);
        json_output_f64(w, "data_ms", 1e3 * f->sums.stages[STEP_DATA] / f->sums.steps);
        json_output_f64(w, "allreduce_ms", 1e3 * f->sums.stages[STEP_ALLREDUCE] / f->sums.steps);
        json_output_f64(w, "peak_rss_mib", f->peak_rss / 0x1p20);
        json_output_f64(w, "device_memory_mib", f->device_memory / 0x1p20);
        json_write_end_object(w);
    }
    json_write_end_array(w);
    json_output_f64(w, "peak_rss_mib", most / 0x1p20);
    json_output_f64(w, "device_memory_mib", b->ranks[0].device_memory / 0x1p20);
}

static status write_json(const train_bench *b) {
    json_writer w;
    json_write_init(&w);
    json_write_begin_object(&w);
    write_times(&w, b);
    write_what(&w, b);
    write_ranks(&w, b);
    machine_write_json(&w, &b->machine);
    json_write_end_object(&w);
    status s = json_output_write(b->options->json, &w);
    json_write_release(&w);
    return s;
}

static status tell(train_bench *b) {
    if (!is_first(b)) return STATUS_OK;
    machine_describe(&b->machine, b->runner.job.dev);
    print(b);
    return write_json(b);
}

status train_bench_run(config *cfg, const train_bench_options *options) {
    train_bench b = {.options = options, .cfg = cfg};
    step_runner_options wishes = {.synthetic = options->synthetic,
                                  .random_start = options->random_start,
                                  .iterations = options->warmup + options->iterations + MEASURED_STEPS + 1};
    RETURN_IF_ERROR(json_output_check(options->json));
    status s = step_runner_open(&b.runner, cfg, &wishes);
    if (s == STATUS_OK) {
        b.later = !device_is_host_accessible(b.runner.job.dev);
        if (!b.later) step_queue_measure(b.runner.job.steps);
        s = run_steps(&b);
    }
    if (s == STATUS_OK) s = comm_agree(b.runner.job.c, tell(&b));
    train_window_release(&b.window);
    free(b.ranks);
    step_runner_close(&b.runner);
    return s;
}
