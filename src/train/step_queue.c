#include "train/step_queue.h"

#include "base/check.h"
#include "base/clock.h"
#include "setup/step_batch.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Steps a GPU may be behind the host. */
enum { MOST_BEHIND = 4 };

/* In the record, behind the losses: sums over the ranks as well. */
enum { SKIPPED_IMAGES = LOSS_COUNT };
_Static_assert((int)SKIPPED_IMAGES < (int)OPTIMIZER_LOSSES, "the record has room for what ranks sum");

/* A step whose report was not taken. */
typedef struct pending {
    step_report report;
    int64_t *image_ids;
    device_event *copied; /* the record is in host memory */
} pending;

const char *const step_stage_names[STEP_STAGES] = {"data",     "copy",      "forward",
                                                   "backward", "allreduce", "optimizer"};

struct step_queue {
    step_queue_spec spec;
    step_memory memory;
    graph_cache graphs;
    grad_buckets *buckets;
    optimizer *opt;
    int behind; /* reports are due so many steps later */
    pending ring[MOST_BEHIND + 1];
    optimizer_record *records; /* [MOST_BEHIND + 1], page-locked */
    int64_t queued, taken;     /* steps of this process */
    bool captures, measured;
    double clock[STEP_STAGES + 1]; /* where the stages of this step begin and end, on the host's clock */
    device_event *bounds[STEP_STAGES + 1]; /* and on the device's, from the end of STEP_DATA on */
    device_instant origin;                 /* of this step: bounds[STEP_COPY] */
};

static comm_type sum_type(dtype type) {
    return type == DTYPE_F32 ? COMM_F32 : type == DTYPE_BF16 ? COMM_BF16 : COMM_F16;
}

static status make_buckets(step_queue *q) {
    const param_store *store = &q->spec.model->params;
    grad_range *ranges = calloc((size_t)store->count, sizeof *ranges);
    if (!ranges)
        return error_set(STATUS_OS, "free some memory", "out of memory for %d gradient ranges", store->count);
    for (int i = 0; i < store->count; i++) {
        const param *p = &store->params[i];
        ranges[i] = (grad_range){.name = p->name,
                                 .offset = p->trainable ? (size_t)p->offset : 0,
                                 .count = p->trainable ? (size_t)p->size : 0};
    }
    grad_buffer gradients = {store->gradients, sum_type(store->precision.storage)};
    status s = grad_buckets_new(&q->buckets, q->spec.c, &gradients, ranges, store->count,
                                (size_t)q->spec.cfg->SOLVER_GRADIENT_BUCKET_MB << 20);
    free(ranges);
    return s;
}

static status make_ring(step_queue *q) {
    void *records;
    RETURN_IF_ERROR(device_alloc_host(
        q->spec.dev, &records, sizeof q->ring / sizeof *q->ring * sizeof *q->records, "reports of steps"));
    q->records = records;
    for (int i = 0; i <= MOST_BEHIND; i++) {
        q->ring[i].image_ids = calloc((size_t)q->spec.images, sizeof *q->ring[i].image_ids);
        if (!q->ring[i].image_ids)
            return error_set(STATUS_OS, "free some memory", "out of memory for a batch's image ids");
        RETURN_IF_ERROR(device_event_new(q->spec.dev, &q->ring[i].copied));
    }
    return STATUS_OK;
}

/* With sums over NCCL a step must be recorded by all ranks or by none, and all must then queue what they recorded together. So the
 * ranks of GPUs share the canvas, and with it record and forget in the same steps. That costs little where a batch is wide or
 * tall as a whole, since all wait for the rank of the largest canvas; and there are fewer canvases to record. Whether steps
 * are recorded has no part in it: that must not change the padding. */
static bool ranks_share_canvas(const step_queue_spec *s) {
    bool on_gpus = comm_size(s->c) > 1 && !device_is_host_accessible(s->dev);
    return s->same_canvas || (on_gpus && s->cfg->DATALOADER_ASPECT_RATIO_GROUPING);
}

/* Sums of the ranks that go through host memory cannot be recorded. */
static bool may_capture(const step_queue_spec *s) {
    bool over_nccl = strcmp(comm_backend_name(s->c), "nccl") == 0;
    bool sums_can = comm_size(s->c) == 1 || (over_nccl && ranks_share_canvas(s));
    return s->cfg->CUDA_GRAPH && sums_can && device_can_capture(s->dev);
}

static status prepare(step_queue *q) {
    const step_queue_spec *s = &q->spec;
    step_shape largest;
    q->behind = device_is_host_accessible(s->dev) ? 0 : MOST_BEHIND;
    q->spec.same_canvas = ranks_share_canvas(s);
    q->captures = may_capture(s);
    RETURN_IF_ERROR(step_batch_largest(&largest, s->data->load, s->images));
    RETURN_IF_ERROR(train_graph_check(&s->model->spec, &largest));
    RETURN_IF_ERROR(step_memory_init(&q->memory, s->dev, &largest));
    RETURN_IF_ERROR(optimizer_new(&q->opt, &s->model->params, s->cfg, q->memory.inputs.rates));
    q->memory.inputs.losses = optimizer_record_place(q->opt)->losses;
    q->memory.inputs.loss_scale = optimizer_loss_scale(q->opt);
    int global_images = (int)s->cfg->SOLVER_IMS_PER_BATCH;
    RETURN_IF_ERROR(graph_cache_init(&q->graphs, s->model, s->c, &q->memory, global_images));
    RETURN_IF_ERROR(make_buckets(q));
    RETURN_IF_ERROR(make_ring(q));
    if (s->measure) step_queue_measure(q);
    return STATUS_OK;
}

status step_queue_new(step_queue **out, const step_queue_spec *spec) {
    *out = NULL;
    step_queue *q = calloc(1, sizeof *q);
    if (!q) return error_set(STATUS_OS, "free some memory", "out of memory for training steps");
    q->spec = *spec;
    status s = prepare(q);
    if (s == STATUS_OK)
        *out = q;
    else
        step_queue_free(q);
    return s;
}

void step_queue_free(step_queue *q) {
    if (!q) return;
    device *dev = q->spec.dev;
    device_synchronize(dev, NULL); /* steps may still write the records */
    for (int i = 0; i <= STEP_STAGES; i++)
        if (q->bounds[i]) device_event_free(dev, q->bounds[i]);
    for (int i = 0; i <= MOST_BEHIND; i++) {
        if (q->ring[i].copied) device_event_free(dev, q->ring[i].copied);
        free(q->ring[i].image_ids);
    }
    device_free_host(dev, q->records, sizeof q->ring / sizeof *q->ring * sizeof *q->records);
    grad_buckets_free(q->buckets);
    graph_cache_release(&q->graphs);
    optimizer_free(q->opt);
    step_memory_release(&q->memory);
    free(q);
}

/* The host looks after the ranks while it waits: a peer that NCCL lost shows only so. */
static void look_around(step_queue *q) {
    comm_poll(q->spec.c);
    nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
}

static void wait_for(step_queue *q, device_event *event) {
    while (!device_event_is_reached(q->spec.dev, event)) look_around(q);
}

/* This is where `stage` begins, and the one before it ends. */
static void begin_stage(step_queue *q, int stage) {
    q->clock[stage] = clock_seconds();
    if (q->measured && q->bounds[stage]) device_event_record(q->spec.dev, q->bounds[stage], NULL);
}

/* What the host fills for a device counts as copy too; before that the device is idle. */
static void tell_stages(step_queue *q, step_report *r) {
    device *dev = q->spec.dev;
    bool is_host = device_is_host_accessible(dev);
    if (!is_host && !q->measured) return;
    for (int i = 0; i < STEP_STAGES; i++) r->stages[i] = q->clock[i + 1] - q->clock[i];
    if (is_host) return;
    q->origin.seconds = q->clock[STEP_COPY];
    for (int i = STEP_COPY; i < STEP_STAGES; i++)
        r->stages[i] = 1e-3 * device_event_milliseconds(dev, q->bounds[i], q->bounds[i + 1]);
}

/* Brings the batch on its way into the step's inputs; all ranks learn here if one of them failed, so that nobody waits for it. */
static status take_batch(step_queue *q, train_graph **step, step_report *r, bool *is_mine_alone) {
    const step_queue_spec *spec = &q->spec;
    loader *l = spec->data->load;
    loader_batch batch = {0};
    int64_t height = 0, width = 0;
    status mine = loader_next(l, &batch);
    r->wait = batch.wait_seconds;
    if (mine == STATUS_OK) step_batch_canvas(&height, &width, &batch);
    int32_t shared[4] = {mine != STATUS_OK, (int32_t)height, (int32_t)width,
                         (int32_t)(1e6 * fmin(r->wait, 2000.0))};
    comm_allreduce_max_i32(spec->c, shared, 4);
    r->slowest_wait = 1e-6 * shared[3];
    if (shared[0]) return comm_agree(spec->c, mine);
    if (spec->same_canvas) {
        height = shared[1];
        width = shared[2];
    }
    begin_stage(q, STEP_COPY);
    status got = graph_cache_get(step, &q->graphs, height, width);
    *is_mine_alone = got != STATUS_OK;
    RETURN_IF_ERROR(got);
    r->height = height;
    r->width = width;
    step_inputs *host;
    while (!step_memory_is_free(&q->memory)) look_around(q);
    step_used used = step_batch_fill(&host, &q->memory, &batch, spec->data->set);
    double before = schedule_lr(spec->rates, r->iteration > 0 ? r->iteration - 1 : 0);
    r->lr = schedule_lr(spec->rates, r->iteration);
    *host->step = (int32_t)r->iteration;
    optimizer_rates(host->rates, q->opt, r->lr, before);
    *host->skipped_images = (float)loader_get_stats(l).skipped_images;
    pending *p = &q->ring[q->queued % (MOST_BEHIND + 1)];
    for (int i = 0; i < batch.count; i++) p->image_ids[i] = batch.samples[i].image_id;
    loader_release_batch(l);
    step_memory_bring(&q->memory, &used);
    return STATUS_OK;
}

/* Everything of a step that is the same each time. */
static void queue_step(step_queue *q, train_graph *step) {
    optimizer_record *record = optimizer_record_place(q->opt);
    device_copy(q->spec.dev, NULL, record->losses + SKIPPED_IMAGES, q->memory.inputs.skipped_images,
                sizeof *record->losses);
    begin_stage(q, STEP_FORWARD);
    tape_forward(step->t);
    begin_stage(q, STEP_BACKWARD);
    grad_buckets_begin(q->buckets);
    tape_backward(step->t, grad_buckets_ready_hook, q->buckets);
    begin_stage(q, STEP_ALLREDUCE);
    grad_buckets_finish(q->buckets);
    comm_allreduce_sum_f32(q->spec.c, record->losses, SKIPPED_IMAGES + 1);
    begin_stage(q, STEP_OPTIMIZER);
    optimizer_queue(q->opt);
}

/* The first run of a graph shows that it runs; the second is recorded and queued as a whole, as are all after it. */
static status queue_or_launch(step_queue *q, train_graph *step) {
    device *dev = q->spec.dev;
    if (q->captures && step->runs > 0) {
        if (!step->recording) {
            device_capture_begin(dev);
            queue_step(q, step);
            RETURN_IF_ERROR(device_capture_end(dev, &step->recording));
        }
        device_graph_launch(dev, step->recording);
    } else {
        queue_step(q, step);
    }
    step->runs++;
    return STATUS_OK;
}

status step_queue_run(step_queue *q, int64_t iteration, bool *is_mine_alone) {
    CHECK(q->queued - q->taken <= q->behind, "a report that is due was not taken");
    int at = (int)(q->queued % (MOST_BEHIND + 1));
    pending *p = &q->ring[at];
    step_report *r = &p->report;
    train_graph *step;
    *r = (step_report){.iteration = iteration, .image_ids = p->image_ids};
    *is_mine_alone = false;
    begin_stage(q, STEP_DATA);
    RETURN_IF_ERROR(take_batch(q, &step, r, is_mine_alone));
    if (q->spec.trace_shapes && comm_rank(q->spec.c) == 0 && iteration == q->spec.first_iteration)
        tape_print_shapes(step->t, stdout);
    if (q->measured) tape_measure(step->t, &q->origin);
    status s = queue_or_launch(q, step);
    *is_mine_alone = s != STATUS_OK;
    RETURN_IF_ERROR(s);
    device_copy(q->spec.dev, NULL, &q->records[at], optimizer_record_place(q->opt), sizeof *q->records);
    begin_stage(q, STEP_STAGES);
    device_event_record(q->spec.dev, p->copied, NULL);
    if (q->behind == 0) r->graph = step;
    q->queued++;
    /* The pace of a GPU that is behind is that of the iterations. */
    if (q->queued - q->taken > q->behind) wait_for(q, q->ring[q->taken % (MOST_BEHIND + 1)].copied);
    tell_stages(q, r);
    r->start = q->clock[STEP_DATA];
    r->seconds = clock_seconds() - r->start;
    return STATUS_OK;
}

bool step_queue_take(step_queue *q, step_report *out, bool all) {
    int64_t waiting = q->queued - q->taken;
    if (waiting == 0 || (!all && waiting <= q->behind)) return false;
    int at = (int)(q->taken++ % (MOST_BEHIND + 1));
    pending *p = &q->ring[at];
    const optimizer_record *record = &q->records[at];
    wait_for(q, p->copied);
    *out = p->report;
    for (int i = 0; i < LOSS_COUNT; i++) {
        out->losses[i] = (double)record->losses[i];
        out->total += out->losses[i];
    }
    out->skipped_images = (int64_t)record->losses[SKIPPED_IMAGES];
    out->gradients = optimizer_report(q->opt, record);
    return true;
}

void step_queue_measure(step_queue *q) {
    device *dev = q->spec.dev;
    CHECK(q->queued == q->taken, "steps are measured from now on, but reports of others were not taken");
    if (q->measured) return;
    q->measured = true;
    q->captures = false;
    q->behind = 0;
    for (int i = STEP_COPY; i <= STEP_STAGES && !device_is_host_accessible(dev); i++) {
        status got = device_event_new_timed(dev, &q->bounds[i]);
        CHECK(got == STATUS_OK, "%s", error_cause());
    }
    q->origin.event = q->bounds[STEP_COPY];
    tape_measure(optimizer_tape(q->opt), &q->origin);
    grad_buckets_measure(q->buckets, dev, &q->origin);
}

void step_queue_take_runs(step_queue *q, const step_report *report, tape_run_hook hook, void *context) {
    CHECK(report->graph, "the step's graph is another step's by now");
    tape_take_runs(report->graph->t, hook, context);
    tape_take_runs(optimizer_tape(q->opt), hook, context);
}

typedef struct step_sum {
    op_table *table;
    double seconds;
    tape_run_hook hook;
    void *context;
} step_sum;

static void add_run(void *context, const tape_run *run) {
    step_sum *sum = context;
    sum->seconds += run->seconds;
    op_table_add_run(sum->table, run);
    if (sum->hook) sum->hook(sum->context, run);
}

void step_queue_tabulate(step_queue *q, const step_report *report, op_table *table, tape_run_hook hook,
                         void *context) {
    step_sum sum = {.table = table, .hook = hook, .context = context};
    step_queue_take_runs(q, report, add_run, &sum);
    op_table_add(table, "data wait", report->stages[STEP_DATA]);
    op_table_add(table, "batch copy", report->stages[STEP_COPY]);
    op_table_add(table, "all-reduce (exposed)", report->stages[STEP_ALLREDUCE]);
    double known =
        sum.seconds + report->stages[STEP_DATA] + report->stages[STEP_COPY] + report->stages[STEP_ALLREDUCE];
    op_table_add(table, "between ops", fmax(report->seconds - known, 0));
    op_table_end_step(table);
}

void step_queue_take_sums(step_queue *q, step_sum_hook hook, void *context) {
    for (int i = 0; i < grad_buckets_count(q->buckets); i++) {
        grad_bucket_span span = grad_buckets_span(q->buckets, i);
        hook(context, &span);
    }
}

const step_memory *step_queue_memory(const step_queue *q) {
    return &q->memory;
}
const graph_cache *step_queue_graphs(const step_queue *q) {
    return &q->graphs;
}
optimizer *step_queue_optimizer(const step_queue *q) {
    return q->opt;
}
int step_queue_buckets(const step_queue *q) {
    return grad_buckets_count(q->buckets);
}
