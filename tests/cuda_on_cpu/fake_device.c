#include "fake_device.h"

#include "access_order.h"
#include "base/check.h"
#include "cuda/cuda_kernels.h"
#include "device/device_backend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_STREAMS = 3, HOST = 3, MAX_PROBLEMS = 64, PROBLEM_SIZE = 512, MAX_WRAPPERS = 128 };

struct device_stream {
    struct fake_device *owner;
    int actor;
    /* In the recording under way: whether it takes part; pieces of work it has; how many of them the compute stream waits for. */
    bool takes_part;
    int recorded, joined;
};

struct device_event {
    order_clock seen;
    int recording; /* in which it was last recorded, counted from 1; 0: in none */
    int place;     /* there: pieces of work before it on its stream */
    device_stream *stream;
    bool timed, recorded, asked;
    double seconds;
};

/* One queued piece of work; a graph is a list of them. */
typedef enum work_kind { WORK_CALL, WORK_COPY, WORK_FILL, WORK_RECORD, WORK_WAIT } work_kind;

typedef struct work {
    work_kind kind;
    device_stream *stream;
    op_call call;
    void (*run)(const op_call *call);
    bool backward;
    void *destination;
    const void *source;
    size_t bytes;
    int byte;
    device_event *event;
} work;

struct device_graph {
    work *all;
    size_t count, capacity;
};

typedef struct fake_device {
    device base;
    device_stream streams[N_STREAMS];
    access_order order;
    double ticks; /* the time that timed events see: one millisecond for each piece of work */
    device_graph *recording;
    int recordings;
    char **labels;
    size_t n_labels, labels_capacity;
    char problems[MAX_PROBLEMS][PROBLEM_SIZE], taken[PROBLEM_SIZE];
    int n_problems;
    fake_device_counts counts;
} fake_device;

static const char *const actor_names[] = {"on the compute stream", "on the copy stream", "on the comm stream",
                                          "by the host"};

static device_stream *stream_of(device *d, device_stream *stream) {
    return stream ? stream : d->streams[DEVICE_STREAM_COMPUTE];
}

/* A text that lives as long as the device; the same address for the same text. */
static const char *label(fake_device *f, const char *text) {
    for (size_t i = 0; i < f->n_labels; i++)
        if (strcmp(f->labels[i], text) == 0) return f->labels[i];
    if (f->n_labels == f->labels_capacity) {
        f->labels_capacity = f->labels_capacity ? 2 * f->labels_capacity : 64;
        f->labels = realloc(f->labels, f->labels_capacity * sizeof *f->labels);
    }
    CHECK(f->labels, "out of memory");
    f->labels[f->n_labels] = strdup(text);
    CHECK(f->labels[f->n_labels], "out of memory");
    return f->labels[f->n_labels++];
}

static void use(fake_device *f, int actor, const char *what, const void *memory, size_t bytes, bool write) {
    order_access other;
    order_range where;
    if (!memory || access_order_use(&f->order, actor, what, memory, bytes, write, &other, &where)) return;
    if (f->n_problems == MAX_PROBLEMS) return;
    snprintf(f->problems[f->n_problems++], PROBLEM_SIZE,
             "%s %s %zu bytes %s that %s %s %s: nothing orders the two (bytes %zu to %zu of them)", what,
             write ? "writes" : "reads", bytes, actor_names[actor], other.what,
             where.write.time == other.time && where.write.actor == other.actor ? "writes" : "reads",
             actor_names[other.actor], (size_t)(where.from - (uintptr_t)memory),
             (size_t)(where.to - (uintptr_t)memory));
}

/* ---- what CUDA refuses, or does not record, while a graph is recorded ------------------------------------------ */

static void complain(fake_device *f, const char *what, const device_stream *stream) {
    if (f->n_problems == MAX_PROBLEMS) return;
    snprintf(f->problems[f->n_problems++], PROBLEM_SIZE, "%s%s%s", what, stream ? " " : "",
             stream ? actor_names[stream->actor] : "");
}

static bool takes_part(const fake_device *f, const device_stream *stream) {
    return f->recording && (stream->actor == DEVICE_STREAM_COMPUTE || stream->takes_part);
}

static void note_work(fake_device *f, device_stream *stream) {
    if (f->recording && !takes_part(f, stream))
        complain(f, "recording: work that takes no part in it", stream);
    stream->recorded++;
}

static void note_record(fake_device *f, device_event *event, device_stream *stream) {
    event->recording = f->recording ? f->recordings : 0;
    event->stream = stream;
    event->place = stream->recorded;
    if (f->recording && !takes_part(f, stream))
        complain(f, "recording: an event that takes no part in it", stream);
}

static void note_wait(fake_device *f, device_stream *stream, const device_event *event) {
    int wanted = f->recording ? f->recordings : 0;
    if (!event->stream || event->recording != wanted) {
        if (f->recording && takes_part(f, stream))
            complain(f, "recording: a wait for an event of outside", stream);
        else if (event->stream && event->recording)
            complain(f, "a wait for an event of a recording", stream);
    }
    if (!f->recording || event->recording != wanted) return;
    stream->takes_part = true;
    stream->recorded++;
    if (stream->actor == DEVICE_STREAM_COMPUTE && event->stream->joined < event->place)
        event->stream->joined = event->place;
}

static void note_question(fake_device *f, const device_event *event) {
    if (f->recording) complain(f, "recording: the host asks for an event", NULL);
    if (event->stream && event->recording) complain(f, "the host asks for an event of a recording", NULL);
}

/* What is queued comes after all the host has seen. */
static void step(fake_device *f, int actor) {
    if (actor != HOST) order_clock_join(&f->order.clocks[actor], &f->order.clocks[HOST]);
    access_order_step(&f->order, actor);
    f->ticks++;
}

/* ---- ops -------------------------------------------------------------------------------------------------- */

typedef struct op_use {
    fake_device *f;
    const op_call *call;
    int actor;
    const char *phase;
} op_use;

static void use_bytes(const op_use *u, const char *role, const void *memory, size_t bytes, bool write) {
    char text[256];
    const tensor *named = u->call->out[0];
    snprintf(text, sizeof text, "op %s (%s%s%s): %s", u->call->op->name, u->phase,
             named && named->name ? " of " : "", named && named->name ? named->name : "", role);
    use(u->f, u->actor, label(u->f, text), memory, bytes, write);
}

static void use_tensor(const op_use *u, const char *role, const tensor *t, bool write) {
    if (t) use_bytes(u, role, t->data, tensor_bytes(t), write);
}

/* The count of a tensor's valid rows, unless the call itself makes it. */
static void use_rows(const op_use *u, const tensor *t) {
    if (!t || !t->rows) return;
    for (int i = 0; i < u->call->op->n_outputs; i++)
        if (u->call->out[i] == t->rows) return;
    use_tensor(u, "count of rows", t->rows, false);
}

static const op_kernel *real_kernel(const char *op_name) {
    const op_kernel *const *kernels = cuda_kernels_find(op_name);
    return kernels ? kernels[0] : NULL;
}

static void use_call(fake_device *f, const op_call *call, bool backward, int actor) {
    const op_def *op = call->op;
    op_use u = {f, call, actor, backward ? "backward" : "forward"};
    unsigned outputs_read = backward ? op_backward_reads_outputs(call) : 0;
    for (int i = 0; i < op->n_inputs; i++) {
        if (!backward || (op->backward_reads_inputs >> i & 1u))
            use_tensor(&u, op->input_names[i], call->in[i], false);
        use_rows(&u, call->in[i]);
        if (backward && call->accumulate[i]) use_tensor(&u, "sum of gradients", call->d_in[i], false);
        if (backward) use_tensor(&u, "gradient", call->d_in[i], true);
    }
    for (int i = 0; i < op->n_outputs; i++) {
        if (!backward) use_tensor(&u, op->output_names[i], call->out[i], true);
        if (outputs_read >> i & 1u) use_tensor(&u, op->output_names[i], call->out[i], false);
        use_rows(&u, call->out[i]);
        if (backward) use_tensor(&u, "gradient of the output", call->d_out[i], true);
    }
    const op_kernel *kernel = real_kernel(op->name);
    size_t scratch = kernel->scratch_bytes ? kernel->scratch_bytes(call, backward) : 0;
    CHECK((uintptr_t)call->scratch % OP_SCRATCH_ALIGNMENT == 0, "scratch of %s at %p", op->name,
          call->scratch);
    use_bytes(&u, "scratch", call->scratch, scratch, true);
}

/* ---- queueing --------------------------------------------------------------------------------------------- */

static void run_work(fake_device *f, work *w) {
    int actor = w->stream->actor;
    step(f, actor);
    switch (w->kind) {
    case WORK_CALL:
        f->counts.calls++;
        use_call(f, &w->call, w->backward, actor);
        w->run(&w->call);
        break;
    case WORK_COPY:
        f->counts.copies++;
        use(f, actor, "copy", w->source, w->bytes, false);
        use(f, actor, "copy", w->destination, w->bytes, true);
        memcpy(w->destination, w->source, w->bytes);
        break;
    case WORK_FILL:
        f->counts.fills++;
        use(f, actor, "fill", w->destination, w->bytes, true);
        memset(w->destination, w->byte, w->bytes);
        break;
    case WORK_RECORD:
        w->event->seen = f->order.clocks[actor];
        w->event->seconds = 1e-3 * f->ticks;
        w->event->recorded = true;
        w->event->asked = false;
        break;
    case WORK_WAIT:
        order_clock_join(&f->order.clocks[actor], &w->event->seen);
        break;
    }
}

static void queue(device *d, const work *w) {
    fake_device *f = (fake_device *)d;
    work copy = *w;
    device_graph *g = f->recording;
    if (w->kind == WORK_RECORD)
        note_record(f, w->event, w->stream);
    else if (w->kind == WORK_WAIT)
        note_wait(f, w->stream, w->event);
    else
        note_work(f, w->stream);
    if (!g) {
        run_work(f, &copy);
        return;
    }
    if (g->count == g->capacity) {
        g->capacity = g->capacity ? 2 * g->capacity : 64;
        g->all = realloc(g->all, g->capacity * sizeof *g->all);
        CHECK(g->all, "out of memory");
    }
    g->all[g->count++] = copy;
}

static void fake_forward(const op_call *call) {
    CHECK(call->stream, "op %s is called without a stream", call->op->name);
    queue(&call->stream->owner->base, &(work){.kind = WORK_CALL,
                                              .stream = call->stream,
                                              .call = *call,
                                              .run = real_kernel(call->op->name)->forward});
}

static void fake_backward(const op_call *call) {
    CHECK(call->stream, "op %s is called without a stream", call->op->name);
    queue(&call->stream->owner->base, &(work){.kind = WORK_CALL,
                                              .stream = call->stream,
                                              .call = *call,
                                              .run = real_kernel(call->op->name)->backward,
                                              .backward = true});
}

static void fake_range_begin(device *d, const char *name) {
    fake_device *f = (fake_device *)d;
    CHECK(name && f->counts.open_ranges < 8, "range %s within too many", name ? name : "NULL");
    f->counts.ranges++;
    f->counts.open_ranges++;
}

static void fake_range_end(device *d) {
    fake_device *f = (fake_device *)d;
    CHECK(f->counts.open_ranges-- > 0, "a range ends that was not begun");
}

static const op_kernel *fake_find_kernel(const char *op_name, int index) {
    if (index > 0) return NULL;
    static op_kernel wrappers[MAX_WRAPPERS];
    static const char *names[MAX_WRAPPERS];
    static int count;
    for (int i = 0; i < count; i++)
        if (strcmp(names[i], op_name) == 0) return &wrappers[i];
    const op_kernel *real = real_kernel(op_name);
    if (!real) return NULL;
    CHECK(count < MAX_WRAPPERS, "more than %d ops", MAX_WRAPPERS);
    names[count] = op_find(op_name)->name;
    wrappers[count] = *real;
    wrappers[count].forward = fake_forward;
    if (real->backward) wrappers[count].backward = fake_backward;
    return &wrappers[count++];
}

static void fake_copy(device *d, device_stream *stream, void *destination, const void *source, size_t bytes) {
    queue(d, &(work){.kind = WORK_COPY,
                     .stream = stream_of(d, stream),
                     .destination = destination,
                     .source = source,
                     .bytes = bytes});
}

static void fake_fill(device *d, device_stream *stream, void *memory, int byte, size_t bytes) {
    queue(d, &(work){.kind = WORK_FILL,
                     .stream = stream_of(d, stream),
                     .destination = memory,
                     .byte = byte,
                     .bytes = bytes});
}

static void fake_event_record(device *d, device_event *event, device_stream *stream) {
    queue(d, &(work){.kind = WORK_RECORD, .stream = stream_of(d, stream), .event = event});
}

static void fake_event_wait(device *d, device_stream *stream, device_event *event) {
    queue(d, &(work){.kind = WORK_WAIT, .stream = stream_of(d, stream), .event = event});
}

/* ---- waits of the host ------------------------------------------------------------------------------------ */

static void fake_synchronize(device *d, device_stream *stream) {
    access_order *o = &((fake_device *)d)->order;
    order_clock_join(&o->clocks[HOST], &o->clocks[stream_of(d, stream)->actor]);
}

static void fake_event_synchronize(device *d, device_event *event) {
    note_question((fake_device *)d, event);
    order_clock_join(&((fake_device *)d)->order.clocks[HOST], &event->seen);
}

/* Not yet when it is first asked, so that both answers are met. */
static bool fake_event_is_reached(device *d, device_event *event) {
    if (event->recorded && !event->asked) {
        note_question((fake_device *)d, event);
        event->asked = true;
        return false;
    }
    fake_event_synchronize(d, event);
    return true;
}

static double fake_event_milliseconds(device *d, device_event *from, device_event *to) {
    note_question((fake_device *)d, from);
    note_question((fake_device *)d, to);
    CHECK(from->timed && to->timed, "an event that is not timed is asked for its time");
    CHECK(from->recorded && to->recorded, "an event that was never recorded is asked for its time");
    return 1e3 * (to->seconds - from->seconds);
}

/* ---- memory, events, graphs ------------------------------------------------------------------------------- */

static status fake_alloc(device *d, void **out, size_t bytes, const char *what) {
    (void)d;
    *out = NULL;
    if (bytes < SIZE_MAX / 2) *out = aligned_alloc(256, (bytes + 256) / 256 * 256);
    if (!*out) return error_set(STATUS_OS, "free some memory", "no memory for %s: %zu bytes", what, bytes);
    memset(*out, 0, bytes);
    return STATUS_OK;
}

/* CUDA waits for all streams before it gives memory back. */
static void fake_release(device *d, void *memory, size_t bytes) {
    for (int i = 0; i < N_STREAMS; i++) fake_synchronize(d, d->streams[i]);
    access_order_forget(&((fake_device *)d)->order, memory, bytes);
    free(memory);
}

static status fake_pin(device *d, void *memory, size_t bytes, const char *what) {
    (void)d, (void)memory, (void)bytes, (void)what;
    return STATUS_OK;
}

static void fake_unpin(device *d, void *memory, size_t bytes) {
    access_order_forget(&((fake_device *)d)->order, memory, bytes);
}

static status fake_event_new(device *d, device_event **out, bool timed) {
    (void)d;
    *out = calloc(1, sizeof **out);
    if (!*out) return error_set(STATUS_OS, "free some memory", "no memory for an event");
    (*out)->timed = timed;
    return STATUS_OK;
}

static void fake_event_free(device *d, device_event *event) {
    (void)d;
    free(event);
}

static void fake_capture_begin(device *d) {
    fake_device *f = (fake_device *)d;
    f->recording = calloc(1, sizeof *f->recording);
    CHECK(f->recording, "out of memory");
    f->recordings++;
    for (int i = 0; i < N_STREAMS; i++) {
        f->streams[i].takes_part = false;
        f->streams[i].recorded = f->streams[i].joined = 0;
    }
}

static status fake_capture_end(device *d, device_graph **out) {
    fake_device *f = (fake_device *)d;
    for (int i = 1; i < N_STREAMS; i++)
        if (f->streams[i].takes_part && f->streams[i].joined < f->streams[i].recorded)
            complain(f, "recording: it ends before the compute stream waits for the work", &f->streams[i]);
    *out = f->recording;
    f->recording = NULL;
    return STATUS_OK;
}

/* A graph's work runs behind the compute stream, and the compute stream goes on behind all of it. */
static void fake_graph_launch(device *d, device_graph *g) {
    fake_device *f = (fake_device *)d;
    f->counts.graphs++;
    for (int i = 1; i < N_STREAMS; i++)
        order_clock_join(&f->order.clocks[i], &f->order.clocks[DEVICE_STREAM_COMPUTE]);
    for (size_t i = 0; i < g->count; i++) run_work(f, &g->all[i]);
}

static void fake_graph_free(device *d, device_graph *g) {
    (void)d;
    free(g->all);
    free(g);
}

static void fake_close(device *d) {
    fake_device *f = (fake_device *)d;
    CHECK(f->n_problems == 0, "%d problems of the order of work were not looked at, the first: %s",
          f->n_problems, f->problems[0]);
    for (size_t i = 0; i < f->n_labels; i++) free(f->labels[i]);
    free(f->labels);
    access_order_release(&f->order);
    free(f);
}

static const device_ops fake_ops = {
    .close = fake_close,
    .alloc = fake_alloc,
    .release = fake_release,
    .pin = fake_pin,
    .unpin = fake_unpin,
    .copy = fake_copy,
    .fill = fake_fill,
    .synchronize = fake_synchronize,
    .event_new = fake_event_new,
    .event_free = fake_event_free,
    .event_record = fake_event_record,
    .event_wait = fake_event_wait,
    .event_synchronize = fake_event_synchronize,
    .event_is_reached = fake_event_is_reached,
    .event_milliseconds = fake_event_milliseconds,
    .capture_begin = fake_capture_begin,
    .capture_end = fake_capture_end,
    .graph_launch = fake_graph_launch,
    .graph_free = fake_graph_free,
    .range_begin = fake_range_begin,
    .range_end = fake_range_end,
    .find_kernel = fake_find_kernel,
};

device *fake_device_open(void) {
    fake_device *f = calloc(1, sizeof *f);
    CHECK(f, "out of memory");
    f->base.ops = &fake_ops;
    f->base.kind = DEVICE_CUDA;
    snprintf(f->base.name, sizeof f->base.name, "a GPU made of host memory");
    memory_ranges_init(&f->base.ranges);
    for (int i = 0; i < N_STREAMS; i++) {
        f->streams[i] = (device_stream){.owner = f, .actor = i};
        f->base.streams[i] = &f->streams[i];
    }
    return &f->base;
}

/* ---- for tests -------------------------------------------------------------------------------------------- */

const char *fake_device_take_problem(device *d) {
    fake_device *f = (fake_device *)d;
    if (f->n_problems == 0) return NULL;
    memcpy(f->taken, f->problems[0], PROBLEM_SIZE);
    memmove(f->problems[0], f->problems[1], (MAX_PROBLEMS - 1) * PROBLEM_SIZE);
    f->n_problems--;
    return f->taken;
}

void fake_device_access(device *d, device_stream *stream, const char *what, const void *memory, size_t bytes,
                        bool write) {
    fake_device *f = (fake_device *)d;
    int actor = stream_of(d, stream)->actor;
    step(f, actor);
    use(f, actor, what, memory, bytes, write);
}

void fake_device_host_access(device *d, const char *what, const void *memory, size_t bytes, bool write) {
    fake_device *f = (fake_device *)d;
    CHECK(memory_ranges_find(&d->ranges, memory, bytes) != MEMORY_DEVICE,
          "%s: the host touches memory of the device", what);
    step(f, HOST);
    use(f, HOST, what, memory, bytes, write);
}

fake_device_counts fake_device_get_counts(const device *d) {
    return ((const fake_device *)d)->counts;
}
