#include "autograd/tape_times.h"

#include "autograd/tape_internal.h"
#include "base/check.h"
#include "base/clock.h"

#include <stdlib.h>
#include <string.h>

typedef struct timed_run {
    bool ran;
    double start, seconds;      /* where the host computes */
    device_event *begin, *end;  /* elsewhere */
    double parts[OP_MAX_PARTS]; /* seconds of threads */
} timed_run;

struct tape_timing {
    timed_run *runs;  /* [2 * ops]: forward and backward of each */
    int *count_place; /* [values]: into counts, of a tensor that others count their rows in; -1: it is none */
    int32_t *counts;  /* in page-locked memory, as they were when the op that makes them had run */
    size_t counts_bytes; /* of that memory */
    const device_instant *origin;
};

static timed_run *run_of(tape_timing *timing, int index, bool backward) {
    return &timing->runs[2 * index + backward];
}

static void *new_zeroed(size_t count, size_t size) {
    void *memory = calloc(count ? count : 1, size);
    CHECK(memory, "out of memory for the times of %zu ops", count);
    return memory;
}

static device_event *new_event(device *dev) {
    device_event *event;
    status got = device_event_new_timed(dev, &event);
    CHECK(got == STATUS_OK, "%s", error_cause());
    return event;
}

static void note_count(const tape *t, tape_timing *timing, const tensor *x, int *places) {
    if (!x || !x->rows || x->rows->id < 0 || x->rows->id >= t->n_values) return;
    int *place = &timing->count_place[x->rows->id];
    if (*place < 0) *place = (*places)++;
}

static void find_counts(tape *t, tape_timing *timing) {
    int places = 0;
    for (int i = 0; i < t->n_values; i++) timing->count_place[i] = -1;
    for (int i = 0; i < t->n_values; i++) note_count(t, timing, &t->values[i]->value, &places);
    timing->counts_bytes = ((size_t)places + 1) * sizeof *timing->counts;
    void *memory;
    status got = device_alloc_host(t->dev, &memory, timing->counts_bytes, "counts of a measured step");
    CHECK(got == STATUS_OK, "%s", error_cause());
    timing->counts = memory;
}

void tape_measure(tape *t, const device_instant *origin) {
    bool is_host = device_is_host_accessible(t->dev);
    CHECK(t->planned, "a tape is measured before it is planned");
    CHECK(origin || is_host, "a device's tape is measured from no moment on");
    if (t->timing) return;
    tape_timing *timing = t->timing = new_zeroed(1, sizeof *timing);
    timing->runs = new_zeroed(2 * (size_t)t->n_nodes, sizeof *timing->runs);
    timing->count_place = new_zeroed((size_t)t->n_values, sizeof *timing->count_place);
    timing->origin = origin;
    find_counts(t, timing);
    if (is_host) return;
    for (int i = 0; i < 2 * t->n_nodes; i++) {
        if (i % 2 && !t->nodes[i / 2]->active) continue;
        timing->runs[i].begin = new_event(t->dev);
        timing->runs[i].end = new_event(t->dev);
    }
}

void tape_timing_free(tape *t) {
    tape_timing *timing = t->timing;
    if (!timing) return;
    for (int i = 0; i < 2 * t->n_nodes; i++) {
        if (timing->runs[i].begin) device_event_free(t->dev, timing->runs[i].begin);
        if (timing->runs[i].end) device_event_free(t->dev, timing->runs[i].end);
    }
    device_free_host(t->dev, timing->counts, timing->counts_bytes);
    free(timing->count_place);
    free(timing->runs);
    free(timing);
}

static void keep_count(const tape *t, const tensor *x) {
    int place = t->timing->count_place[x->id];
    if (place >= 0) device_copy(t->dev, NULL, &t->timing->counts[place], x->data, sizeof(int32_t));
}

void tape_timing_begin(tape *t) {
    if (!t->timing) return;
    for (int i = 0; i < t->n_values; i++)
        if (t->values[i]->producer < 0) keep_count(t, &t->values[i]->value);
}

void tape_timing_start(tape *t, int index, bool backward) {
    if (!t->timing) return;
    timed_run *run = run_of(t->timing, index, backward);
    memset(run->parts, 0, sizeof run->parts);
    t->nodes[index]->call.part_seconds = run->parts;
    if (run->begin) device_event_record(t->dev, run->begin, NULL);
    run->start = clock_seconds();
}

void tape_timing_end(tape *t, int index, bool backward) {
    if (!t->timing) return;
    timed_run *run = run_of(t->timing, index, backward);
    const op_call *call = &t->nodes[index]->call;
    run->seconds = clock_seconds() - run->start;
    run->ran = true;
    if (run->end) device_event_record(t->dev, run->end, NULL);
    for (int i = 0; !backward && i < call->op->n_outputs; i++) keep_count(t, call->out[i]);
}

/* Descriptors of a call cut to the rows that were valid. */
typedef struct cut_call {
    op_call call;
    tensor in[OP_MAX_INPUTS], out[OP_MAX_OUTPUTS], d_in[OP_MAX_INPUTS], d_out[OP_MAX_OUTPUTS];
} cut_call;

static tensor *cut(tensor *room, const tape *t, const tensor *x, const tensor *counted) {
    if (!x) return NULL;
    *room = *x;
    room->rows = NULL;
    int place = counted->rows && counted->rows->id >= 0 ? t->timing->count_place[counted->rows->id] : -1;
    if (place < 0 || x->rank == 0) return room;
    int64_t rows = t->timing->counts[place];
    if (rows < room->shape[0]) room->shape[0] = rows > 0 ? rows : 0;
    return room;
}

static op_cost cost_of(const tape *t, const op_call *call, bool backward) {
    cut_call c = {.call = *call};
    for (int i = 0; i < call->op->n_inputs; i++) {
        c.call.in[i] = cut(&c.in[i], t, call->in[i], call->in[i]);
        c.call.d_in[i] = cut(&c.d_in[i], t, call->d_in[i], call->in[i]);
    }
    for (int i = 0; i < call->op->n_outputs; i++) {
        c.call.out[i] = cut(&c.out[i], t, call->out[i], call->out[i]);
        c.call.d_out[i] = cut(&c.d_out[i], t, call->d_out[i], call->out[i]);
    }
    return op_cost_of(&c.call, backward);
}

static void take(tape *t, int index, bool backward, tape_run_hook hook, void *context) {
    timed_run *run = run_of(t->timing, index, backward);
    const tape_node *node = t->nodes[index];
    if (!run->ran) return;
    run->ran = false;
    tape_run told = {.op = node->call.op,
                     .layer = t->scopes[node->scope],
                     .index = index,
                     .backward = backward,
                     .start = run->start,
                     .seconds = run->seconds,
                     .cost = cost_of(t, &node->call, backward),
                     .part_weight = run->parts};
    if (run->begin) {
        told.start = device_event_seconds(t->dev, t->timing->origin, run->begin);
        told.seconds = 1e-3 * device_event_milliseconds(t->dev, run->begin, run->end);
    }
    hook(context, &told);
}

void tape_take_runs(tape *t, tape_run_hook hook, void *context) {
    CHECK(t->timing, "runs of a tape that is not measured");
    if (!device_is_host_accessible(t->dev)) device_synchronize(t->dev, NULL);
    for (int i = 0; i < t->n_nodes; i++) take(t, i, false, hook, context);
    for (int i = t->n_nodes - 1; i >= 0; i--) take(t, i, true, hook, context);
}
