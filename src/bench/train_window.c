#include "bench/train_window.h"

#include "base/check.h"

#include <stdlib.h>
#include <string.h>

const char *const window_count_names[WINDOW_COUNTS] = {"objects",   "anchors", "anchor_positives",
                                                       "proposals", "rois",    "positives"};

status train_window_init(train_window *w, step_runner *runner, int64_t steps) {
    *w = (train_window){.runner = runner, .capacity = steps};
    w->seconds = calloc((size_t)steps + 1, sizeof *w->seconds);
    if (w->seconds) return STATUS_OK;
    return error_set(STATUS_OS, "use a smaller --iters", "no memory for the times of %lld steps",
                     (long long)steps);
}

void train_window_release(train_window *w) {
    free(w->seconds);
}

static void note_canvas(train_window *w, int64_t height, int64_t width) {
    for (int i = 0; i < w->canvas_count; i++) {
        if (w->canvases[i].height != height || w->canvases[i].width != width) continue;
        w->canvases[i].steps++;
        return;
    }
    if (w->canvas_count < WINDOW_CANVASES)
        w->canvases[w->canvas_count++] = (struct window_canvas){height, width, 1};
    else
        w->more_canvases++;
}

void train_window_note(void *window, const step_report *report) {
    train_window *w = window;
    CHECK(w->steps < w->capacity, "a window of %lld steps is full", (long long)w->capacity);
    w->seconds[w->steps++] = report->seconds;
    note_canvas(w, report->height, report->width);
}

/* Seconds of the ops of a step, forward and backward. */
typedef struct op_sums {
    double parts[2][STEP_PARTS];
} op_sums;

static void add_run(void *context, const tape_run *run) {
    op_sums *ops = context;
    ops->parts[run->backward][step_part_of_layer(run->layer)] += run->seconds;
}

static void add_sum(void *context, const grad_bucket_span *span) {
    window_sums *sums = context;
    sums->allreduce += span->seconds;
}

/* Of floats or integers in the device's memory; the step is over. */
static double total(device *dev, const tensor *x, int first, int count) {
    int32_t bits[64];
    double sum = 0;
    for (int at = first; at < first + count; at += 64) {
        int n = first + count - at < 64 ? first + count - at : 64;
        device_copy(dev, NULL, bits, (const char *)x->data + (size_t)at * sizeof *bits,
                    (size_t)n * sizeof *bits);
        tensor part = tensor_make(x->name, x->type, 1, (int64_t[]){n}, bits);
        for (int i = 0; i < n; i++) sum += tensor_get(&part, i);
    }
    return sum;
}

static void add_counts(train_window *w, const train_graph *step) {
    device *dev = w->runner->job.dev;
    const step_inputs *in = &step_queue_memory(w->runner->job.steps)->inputs;
    int images = step->shape.images;
    tensor objects = tensor_make("objects", DTYPE_I32, 1, (int64_t[]){images}, in->gt_count);
    double *counts = w->sums.counts;
    counts[WINDOW_OBJECTS] += total(dev, &objects, 0, images);
    counts[WINDOW_ANCHORS] += total(dev, step->sampled[0], 0, 1);
    counts[WINDOW_ANCHOR_POSITIVES] += total(dev, step->sampled[0], 1, 1);
    counts[WINDOW_PROPOSALS] += total(dev, step->proposals, 0, images);
    if (!step->sampled[1]) return;
    counts[WINDOW_ROIS] += total(dev, step->sampled[1], 0, 1);
    counts[WINDOW_POSITIVES] += total(dev, step->sampled[1], 1, 1);
}

static double sum_of(const double *values, int count) {
    double sum = 0;
    for (int i = 0; i < count; i++) sum += values[i];
    return sum;
}

/* The optimizer's ops are a stage of their own, and what is between ops belongs to none of the parts. */
void train_window_measure(void *window, const step_report *report) {
    train_window *w = window;
    window_sums *sums = &w->sums;
    op_sums ops = {0};
    step_queue_take_runs(w->runner->job.steps, report, add_run, &ops);
    step_queue_take_sums(w->runner->job.steps, add_sum, sums);
    add_counts(w, report->graph);
    sums->steps++;
    sums->seconds += report->seconds;
    for (int i = 0; i < STEP_STAGES; i++) sums->stages[i] += report->stages[i];
    for (int backward = 0; backward < 2; backward++) {
        double *parts = ops.parts[backward], stage = report->stages[backward ? STEP_BACKWARD : STEP_FORWARD];
        parts[STEP_PART_OTHER] = 0;
        double between = stage - sum_of(parts, STEP_PARTS);
        parts[STEP_PART_OTHER] = between > 0 ? between : 0;
        for (int i = 0; i < STEP_PARTS; i++) sums->parts[backward][i] += parts[i];
    }
}
