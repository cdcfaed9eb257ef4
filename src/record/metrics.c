#include "record/metrics.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/file_util.h"
#include "base/host_memory.h"
#include "base/json_write.h"
#include "base/log.h"
#include "record/json_lines.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    WARMUP_ITERATIONS = 2, /* not counted in mean times, as detectron2's IterationTimer */
    ETA_WINDOW = 1000,
    THROUGHPUT_FIRST = 100,
    THROUGHPUT_END = 500,
    MAX_COLUMNS = METRICS_MAX_LOSSES + 2
};

/* The last values of a number, in a ring. */
typedef struct history {
    double *values;
    int64_t capacity, count; /* count: all that were ever added */
} history;

struct metrics {
    metrics_options options;
    char path[PATH_MAX];
    int fd;
    event_log *events;
    json_writer json;
    history columns[MAX_COLUMNS]; /* the losses, then time, data_time; width of a period */
    history eta_times;
    double *scratch; /* for medians */
    double begin_seconds, step_seconds, timed_seconds, window_seconds;
    int64_t steps, window_steps;
    metrics_step last;
};

double metrics_peak_memory_mib(void) {
    return (double)host_memory_peak() / 0x1p20;
}

void metrics_format_duration(char out[48], double seconds) {
    long long s = (long long)seconds, days = s / 86400;
    int at = days == 0 ? 0 : snprintf(out, 48, "%lld day%s, ", days, days == 1 ? "" : "s");
    snprintf(out + at, (size_t)(48 - at), "%lld:%02lld:%02lld", s % 86400 / 3600, s % 3600 / 60, s % 60);
}

static bool history_init(history *h, int64_t capacity) {
    h->capacity = capacity;
    h->values = malloc((size_t)capacity * sizeof *h->values);
    return h->values != NULL;
}

static void history_add(history *h, double value) {
    h->values[h->count++ % h->capacity] = value;
}

static int64_t history_held(const history *h) {
    return h->count < h->capacity ? h->count : h->capacity;
}

static double history_mean(const history *h) {
    int64_t n = history_held(h);
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += h->values[i];
    return n ? sum / (double)n : 0;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double history_median(const history *h, double *scratch) {
    int64_t n = history_held(h);
    if (n == 0) return 0;
    memcpy(scratch, h->values, (size_t)n * sizeof *scratch);
    qsort(scratch, (size_t)n, sizeof *scratch, by_value);
    return n % 2 ? scratch[n / 2] : 0.5 * (scratch[n / 2 - 1] + scratch[n / 2]);
}

static status open_files(metrics *m) {
    const char *folder = m->options.output_dir;
    RETURN_IF_ERROR(path_join(m->path, folder, "metrics.json"));
    RETURN_IF_ERROR(json_lines_cut(m->path, m->options.start_iteration));
    m->fd = open(m->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (m->fd < 0) return error_from_output(errno, "create", m->path);
    return event_log_open(&m->events, folder);
}

status metrics_open(metrics **out, const metrics_options *options) {
    *out = NULL;
    CHECK(options->loss_count >= 1 && options->loss_count <= METRICS_MAX_LOSSES, "%d losses",
          options->loss_count);
    CHECK(options->log_period >= 1, "log period %lld", (long long)options->log_period);
    metrics *m = calloc(1, sizeof *m);
    if (!m) return error_set(STATUS_OS, "free some memory", "no memory for the metrics");
    m->options = *options;
    m->fd = -1;
    int64_t left = options->max_iterations - options->start_iteration;
    int64_t width = options->log_period < left ? options->log_period : left > 0 ? left : 1;
    m->scratch = malloc((size_t)(width > ETA_WINDOW ? width : ETA_WINDOW) * sizeof *m->scratch);
    bool memory = m->scratch && history_init(&m->eta_times, ETA_WINDOW);
    for (int i = 0; i < options->loss_count + 2; i++) memory = memory && history_init(&m->columns[i], width);
    status result = memory ? open_files(m)
                           : error_set(STATUS_OS, "use a smaller SOLVER.LOG_PERIOD",
                                       "no memory for metrics of %lld iterations", (long long)width);
    if (result != STATUS_OK) {
        metrics_close(m);
        return result;
    }
    json_write_init(&m->json);
    m->begin_seconds = clock_seconds();
    *out = m;
    return STATUS_OK;
}

void metrics_close(metrics *m) {
    if (!m) return;
    if (m->fd >= 0) close(m->fd);
    event_log_close(m->events);
    json_write_release(&m->json);
    for (int i = 0; i < MAX_COLUMNS; i++) free(m->columns[i].values);
    free(m->eta_times.values);
    free(m->scratch);
    free(m);
}

/* The numbers of one line, all formats. */
typedef struct summary {
    double losses[METRICS_MAX_LOSSES], total, time, data_time, eta_seconds;
} summary;

static summary summarise(metrics *m) {
    summary s = {0};
    int n = m->options.loss_count;
    for (int i = 0; i < n; i++) {
        s.losses[i] = history_median(&m->columns[i], m->scratch);
        s.total += s.losses[i];
    }
    s.time = history_median(&m->columns[n], m->scratch);
    s.data_time = history_median(&m->columns[n + 1], m->scratch);
    int64_t left = m->options.max_iterations - m->last.iteration - 1;
    s.eta_seconds = left > 0 ? history_median(&m->eta_times, m->scratch) * (double)left : 0;
    return s;
}

static void log_line(const metrics *m, const summary *s) {
    char eta[48], losses[METRICS_MAX_LOSSES * 64];
    metrics_format_duration(eta, s->eta_seconds);
    int at = 0;
    for (int i = 0; i < m->options.loss_count; i++)
        at += snprintf(losses + at, sizeof losses - (size_t)at, "  %.32s: %.4g", m->options.loss_names[i],
                       s->losses[i]);
    int64_t timed = m->steps - WARMUP_ITERATIONS;
    double mean_time = timed > 0 ? m->timed_seconds / (double)timed : m->step_seconds / (double)m->steps;
    log_info("events",
             " eta: %s  iter: %lld  total_loss: %.4g%s    time: %.4f  last_time: %.4f  data_time: %.4f  "
             "last_data_time: %.4f"
             "   lr: %.5g  max_mem: %.0fM",
             eta, (long long)m->last.iteration, s->total, losses, mean_time, m->last.time,
             history_mean(&m->columns[m->options.loss_count + 1]), m->last.data_time, m->last.lr,
             metrics_peak_memory_mib());
}

/* A name and its number in a line of metrics.json. */
typedef struct field {
    const char *name;
    double value;
    bool is_integer;
} field;

static int by_name(const void *a, const void *b) {
    return strcmp(((const field *)a)->name, ((const field *)b)->name);
}

static status write_json(metrics *m, const summary *s) {
    field fields[METRICS_MAX_LOSSES + 11] = {
        {"data_time", s->data_time, false},
        {"eta_seconds", s->eta_seconds, false},
        {"grad_norm", m->last.grad_norm, false},
        {"iteration", (double)m->last.iteration, true},
        {"lr", m->last.lr, false},
        {"rank_data_time", m->last.rank_data_time, false},
        {"skipped_images", (double)m->last.skipped_images, true},
        {"time", s->time, false},
        {"total_loss", s->total, false},
    };
    int count = 9;
    if (m->last.loss_scale > 0) {
        fields[count++] = (field){"loss_scale", m->last.loss_scale, false};
        fields[count++] = (field){"skipped_steps", (double)m->last.skipped_steps, true};
    }
    for (int i = 0; i < m->options.loss_count; i++)
        fields[count++] = (field){m->options.loss_names[i], s->losses[i], false};
    qsort(fields, (size_t)count, sizeof *fields, by_name);
    json_writer *w = &m->json;
    w->size = 0;
    json_write_begin_object(w);
    for (int i = 0; i < count; i++) {
        json_write_key(w, fields[i].name);
        if (fields[i].is_integer)
            json_write_i64(w, (int64_t)fields[i].value);
        else
            json_write_f64(w, fields[i].value);
    }
    json_write_end_object(w);
    json_write_newline(w);
    RETURN_IF_ERROR(json_write_finish(w));
    return json_lines_append(m->fd, w->text, w->size, m->path);
}

static status write_events(metrics *m, const summary *s) {
    event_scalar scalars[METRICS_MAX_LOSSES + 9] = {
        {"total_loss", (float)s->total},
        {"lr", (float)m->last.lr},
        {"time", (float)s->time},
        {"data_time", (float)s->data_time},
        {"eta_seconds", (float)s->eta_seconds},
        {"grad_norm", (float)m->last.grad_norm},
        {"skipped_images", (float)m->last.skipped_images},
    };
    int count = 7;
    if (m->last.loss_scale > 0) {
        scalars[count++] = (event_scalar){"loss_scale", (float)m->last.loss_scale};
        scalars[count++] = (event_scalar){"skipped_steps", (float)m->last.skipped_steps};
    }
    for (int i = 0; i < m->options.loss_count; i++)
        scalars[count++] = (event_scalar){m->options.loss_names[i], (float)s->losses[i]};
    return event_log_write(m->events, m->last.iteration, scalars, count);
}

static void warn_on_error(status result) {
    if (result != STATUS_OK) log_warn("events", "%s; training goes on", error_cause());
}

void metrics_add_scalars(metrics *m, int64_t iteration, const event_scalar *scalars, int count) {
    warn_on_error(event_log_write(m->events, iteration, scalars, count));
}

static void log_throughput(const metrics *m) {
    int64_t first =
        m->options.start_iteration > THROUGHPUT_FIRST ? m->options.start_iteration : THROUGHPUT_FIRST;
    double mean = m->window_seconds / (double)m->window_steps;
    double speed = mean > 0 ? (double)m->options.images_per_batch / mean : 0;
    log_info("events", "throughput over iterations %lld-%d: %.3f img/s (%.3f per rank)", (long long)first,
             THROUGHPUT_END, speed, speed / m->options.ranks);
}

void metrics_add(metrics *m, const metrics_step *step) {
    CHECK(step->iteration == m->options.start_iteration + m->steps,
          "iteration %lld after %lld steps from %lld", (long long)step->iteration, (long long)m->steps,
          (long long)m->options.start_iteration);
    int n = m->options.loss_count;
    for (int i = 0; i < n; i++) history_add(&m->columns[i], step->losses[i]);
    history_add(&m->columns[n], step->time);
    history_add(&m->columns[n + 1], step->data_time);
    /* The first steps are slower; they count only until there are others. */
    if (m->steps == WARMUP_ITERATIONS) m->eta_times.count = 0;
    history_add(&m->eta_times, step->time);
    m->step_seconds += step->time;
    if (m->steps >= WARMUP_ITERATIONS) m->timed_seconds += step->time;
    if (step->iteration >= THROUGHPUT_FIRST && step->iteration < THROUGHPUT_END) {
        m->window_seconds += step->time;
        m->window_steps++;
    }
    m->steps++;
    m->last = *step;
    int64_t done = step->iteration + 1;
    if (done % m->options.log_period == 0 || done == m->options.max_iterations) {
        summary s = summarise(m);
        log_line(m, &s);
        warn_on_error(write_json(m, &s));
        warn_on_error(write_events(m, &s));
    }
    if (done == THROUGHPUT_END) log_throughput(m);
}

void metrics_log_summary(const metrics *m) {
    char text[48], hooks[48];
    int64_t timed = m->steps - WARMUP_ITERATIONS;
    if (timed > 0 && m->timed_seconds > 0) {
        metrics_format_duration(text, m->timed_seconds);
        log_info("events", "Overall training speed: %lld iterations in %s (%.4f s / it)", (long long)timed,
                 text, m->timed_seconds / (double)timed);
    }
    double total = clock_seconds() - m->begin_seconds, outside = total - m->step_seconds;
    metrics_format_duration(text, total);
    metrics_format_duration(hooks, outside > 0 ? outside : 0);
    log_info("events", "Total training time: %s (%s on hooks)", text, hooks);
}
