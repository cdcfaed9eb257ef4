#include "comm/grad_buckets.h"

#include "base/check.h"
#include "base/clock.h"

#include <stdlib.h>

typedef struct bucket {
    size_t begin, end; /* elements; begin is the lowest parameter's offset */
    int params, missing;
    comm_request request;
    device_event *ready, *done; /* of the compute and the comm stream; where a device is measured */
} bucket;

struct grad_buckets {
    comm *comm;
    char *gradients;
    comm_type type;
    size_t width; /* bytes of an element */
    grad_range *params;
    int *bucket_of; /* by parameter; -1 for frozen ones */
    bool *ready;
    bucket *buckets; /* in the order they begin: from the end of the buffer */
    int param_count, bucket_count, begun;
    bool running;
    device *dev; /* NULL: nothing is measured */
    const device_instant *origin;
};

/* Fills buckets and bucket_of; `buckets` has room for one per parameter. */
static void cut(grad_buckets *b, size_t bucket_bytes) {
    for (int i = b->param_count - 1; i >= 0; i--) {
        grad_range p = b->params[i];
        b->bucket_of[i] = -1;
        if (p.count == 0) continue;
        bucket *last = b->bucket_count ? &b->buckets[b->bucket_count - 1] : NULL;
        CHECK(!last || p.offset + p.count <= last->begin, "gradient of %s overlaps the next parameter's",
              p.name);
        if (!last || (last->end - p.offset) * b->width > bucket_bytes) {
            last = &b->buckets[b->bucket_count++];
            *last = (bucket){.end = p.offset + p.count};
        }
        last->begin = p.offset;
        last->params++;
        b->bucket_of[i] = b->bucket_count - 1;
    }
}

status grad_buckets_new(grad_buckets **out, comm *c, const grad_buffer *gradients, const grad_range *params,
                        int count, size_t bucket_bytes) {
    *out = NULL;
    size_t n = count > 0 ? (size_t)count : 1;
    grad_buckets *b = calloc(1, sizeof *b);
    if (b) {
        b->params = calloc(n, sizeof *b->params);
        b->bucket_of = calloc(n, sizeof *b->bucket_of);
        b->ready = calloc(n, sizeof *b->ready);
        b->buckets = calloc(n, sizeof *b->buckets);
    }
    if (!b || !b->params || !b->bucket_of || !b->ready || !b->buckets) {
        grad_buckets_free(b);
        return error_set(STATUS_OS, "free some memory", "no memory for the gradient buckets of %d parameters",
                         count);
    }
    b->comm = c;
    b->gradients = gradients->values;
    b->type = gradients->type;
    b->width = comm_type_size(gradients->type);
    b->param_count = count;
    for (int i = 0; i < count; i++) b->params[i] = params[i];
    cut(b, bucket_bytes);
    *out = b;
    return STATUS_OK;
}

void grad_buckets_free(grad_buckets *b) {
    if (!b) return;
    for (int k = 0; k < b->bucket_count; k++) {
        if (b->buckets[k].ready) device_event_free(b->dev, b->buckets[k].ready);
        if (b->buckets[k].done) device_event_free(b->dev, b->buckets[k].done);
    }
    free(b->params);
    free(b->bucket_of);
    free(b->ready);
    free(b->buckets);
    free(b);
}

int grad_buckets_count(const grad_buckets *b) {
    return b->bucket_count;
}

void grad_buckets_begin(grad_buckets *b) {
    CHECK(!b->running, "grad_buckets_begin without grad_buckets_finish before it");
    for (int i = 0; i < b->param_count; i++) b->ready[i] = false;
    for (int k = 0; k < b->bucket_count; k++) b->buckets[k].missing = b->buckets[k].params;
    b->begun = 0;
    b->running = true;
}

static void begin_sum(grad_buckets *b, bucket *k) {
    if (!b->comm) return;
    if (k->ready) device_event_record(b->dev, k->ready, NULL);
    k->request = comm_start_sum(b->comm, b->gradients + k->begin * b->width, k->end - k->begin, b->type);
    if (k->done) device_event_record(b->dev, k->done, device_get_stream(b->dev, DEVICE_STREAM_COMM));
}

void grad_buckets_ready(grad_buckets *b, int index) {
    CHECK(b->running, "a gradient is ready outside of grad_buckets_begin and grad_buckets_finish");
    CHECK(index >= 0 && index < b->param_count, "parameter %d of %d is ready", index, b->param_count);
    CHECK(b->bucket_of[index] >= 0, "frozen parameter %s is ready", b->params[index].name);
    CHECK(!b->ready[index], "gradient of %s is ready twice", b->params[index].name);
    b->ready[index] = true;
    b->buckets[b->bucket_of[index]].missing--;
    for (; b->begun < b->bucket_count && b->buckets[b->begun].missing == 0; b->begun++)
        begin_sum(b, &b->buckets[b->begun]);
}

void grad_buckets_ready_hook(void *context, int index) {
    grad_buckets_ready(context, index);
}

grad_bucket_times grad_buckets_finish(grad_buckets *b) {
    CHECK(b->running, "grad_buckets_finish without grad_buckets_begin");
    for (int i = 0; i < b->param_count; i++)
        CHECK(b->ready[i] || b->bucket_of[i] < 0, "backward ended, but the gradient of %s never became ready",
              b->params[i].name);
    grad_bucket_times times = {.buckets = b->bucket_count};
    double begin = clock_seconds();
    for (int k = 0; k < b->bucket_count; k++)
        times.hidden += !b->comm || comm_is_done(b->comm, b->buckets[k].request);
    for (int k = 0; k < b->bucket_count && b->comm; k++) comm_wait(b->comm, b->buckets[k].request);
    times.exposed_seconds = clock_seconds() - begin;
    b->running = false;
    return times;
}

static device_event *new_event(device *dev) {
    device_event *event;
    status got = device_event_new_timed(dev, &event);
    CHECK(got == STATUS_OK, "%s", error_cause());
    return event;
}

void grad_buckets_measure(grad_buckets *b, device *dev, const device_instant *origin) {
    if (b->dev) return;
    b->dev = dev;
    b->origin = origin;
    for (int k = 0; k < b->bucket_count && !device_is_host_accessible(dev); k++) {
        b->buckets[k].ready = new_event(dev);
        b->buckets[k].done = new_event(dev);
    }
}

/* On a device a sum starts when its gradients are there and the sum before it is over. */
grad_bucket_span grad_buckets_span(const grad_buckets *b, int index) {
    const bucket *k = &b->buckets[index];
    grad_bucket_span span = {.bytes = (k->end - k->begin) * b->width};
    double start = 0, end = 0;
    CHECK(b->dev && index < b->bucket_count, "when did bucket %d of %d run?", index, b->bucket_count);
    if (!b->comm || comm_size(b->comm) == 1) return span;
    if (!comm_sum_span(b->comm, k->request, &start, &end)) {
        start = device_event_seconds(b->dev, b->origin, k->ready);
        double before = index ? device_event_seconds(b->dev, b->origin, b->buckets[index - 1].done) : start;
        if (before > start) start = before;
        end = device_event_seconds(b->dev, b->origin, k->done);
    }
    span.start = start;
    span.seconds = end - start;
    return span;
}
