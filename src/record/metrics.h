/* What a run tells while it goes on: detectron2's console line (logger maskrcnn.events),
 * OUTPUT_DIR/metrics.json and TensorBoard events, all every LOG_PERIOD iterations and after the last; and the
 * throughput lines. Rank 0 only.
 *
 * Iterations are counted from 0, as in detectron2: with a period of 20 the lines carry 19, 39, ...; with 1
 * they carry 0, 1, 2, ...
 *
 * metrics.json holds one object per line with sorted keys, fsynced each time:
 *   iteration, lr, skipped_images, rank_data_time, grad_norm   the iteration's own (the last of the period), as are
 *   loss_scale, skipped_steps   where losses are scaled (fp16)
 *   loss_*, time, data_time     medians over the last LOG_PERIOD iterations
 *   total_loss                  the sum of the losses of this line
 *   eta_seconds                 median time of the last 1000 iterations times the iterations left
 * In the console line `time` is the mean over the run without its first two iterations, and data_time the
 * mean over LOG_PERIOD iterations.
 *
 * When a file cannot be written, training goes on with a warning: the next line is tried again. */
#ifndef RECORD_METRICS_H
#define RECORD_METRICS_H

#include "base/status.h"
#include "record/event_log.h"

#include <stdint.h>

enum { METRICS_MAX_LOSSES = 8 };

typedef struct metrics metrics;

typedef struct metrics_options {
    const char *output_dir;
    const char *const *loss_names; /* in the order of the console line; borrowed until metrics_close */
    int loss_count;
    int64_t start_iteration, max_iterations, log_period;
    int64_t images_per_batch; /* of all ranks together */
    int ranks;
} metrics_options;

/* One iteration. Losses are those of the global batch: summed over the ranks. */
typedef struct metrics_step {
    int64_t iteration; /* one more than in the call before */
    double losses[METRICS_MAX_LOSSES];
    double lr, grad_norm;
    double time, data_time; /* seconds of the whole step, and those it waited for data (the slowest rank's) */
    double rank_data_time;  /* this rank's */
    int64_t skipped_images; /* since the run began, all ranks */
    double loss_scale;      /* 0: losses are not scaled */
    int64_t skipped_steps;  /* since the run began; written where losses are scaled */
} metrics_step;

/* Opens metrics.json for appending: a torn last line and lines of iterations >= start_iteration, which will
 * come again, are cut first. Makes a new TensorBoard file. CANT_CREATE, NO_PERMISSION, IO, OS. */
status metrics_open(metrics **out, const metrics_options *options);

/* Keeps the step; at the end of a period writes all logs. When iteration 500 is reached:
 *   throughput over iterations 100-500: X img/s (Y per rank)
 * X = images_per_batch / mean time of the iterations 100..499 (of those since start_iteration). */
void metrics_add(metrics *m, const metrics_step *step);

/* Writes numbers that are not those of a step to TensorBoard alone. */
void metrics_add_scalars(metrics *m, int64_t iteration, const event_scalar *scalars, int count);

/* Logs `Overall training speed: N iterations in H:MM:SS (S s / it)` without the first two iterations, and
 * `Total training time: H:MM:SS (H:MM:SS on hooks)`, where hooks is all time outside of steps. */
void metrics_log_summary(const metrics *m);

void metrics_close(metrics *m);

/* Highest resident memory of this process so far, in MiB. */
double metrics_peak_memory_mib(void);

/* Python's str(timedelta(seconds=int(seconds))): "5:41:49", "1 day, 0:00:01". */
void metrics_format_duration(char out[48], double seconds);

#endif
