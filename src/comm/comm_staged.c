/* Sums of a device's memory where NCCL cannot be used (two ranks on one card): to the host, over MPI, and back. The host waits
 * for the device at the start of each sum, so backward and communication overlap less. */
#include "comm/comm_backend.h"

#include "base/check.h"

#include <stdlib.h>

enum { UNDER_WAY = 1024 };

/* A range that was summed before: its page-locked copy stays, since every step sums the same ranges. */
typedef struct staging {
    const void *values;
    size_t bytes;
    void *copy;
} staging;

typedef struct started {
    comm_request request; /* of the host's comm */
    void *values;
    int place;
    bool under_way;
} started;

typedef struct comm_staged {
    comm base;
    staging *places;
    int place_count;
    started sums[UNDER_WAY]; /* by ticket */
    uint64_t begun;
} comm_staged;

static void staged_close(comm *c) {
    comm_staged *s = (comm_staged *)c;
    for (int i = 0; i < s->place_count; i++)
        device_free_host(s->base.device, s->places[i].copy, s->places[i].bytes);
    free(s->places);
    free(s);
}

static int place_for(comm_staged *s, const void *values, size_t bytes) {
    for (int i = 0; i < s->place_count; i++)
        if (s->places[i].values == values && s->places[i].bytes == bytes) return i;
    staging *grown = realloc(s->places, ((size_t)s->place_count + 1) * sizeof *grown);
    CHECK(grown, "no memory for a list of %d sums", s->place_count + 1);
    s->places = grown;
    grown[s->place_count] = (staging){.values = values, .bytes = bytes};
    status got = device_alloc_host(s->base.device, &grown[s->place_count].copy, bytes, "sums over ranks");
    CHECK(got == STATUS_OK, "%s", error_cause());
    return s->place_count++;
}

static void to_host(comm_staged *s, void *copy, const void *values, size_t bytes) {
    device_copy(s->base.device, NULL, copy, values, bytes);
    device_synchronize(s->base.device, NULL);
}

static comm_request staged_start_sum(comm *c, void *values, size_t count, comm_type type) {
    comm_staged *s = (comm_staged *)c;
    size_t bytes = count * comm_type_size(type);
    started *sum = &s->sums[s->begun % UNDER_WAY];
    CHECK(!sum->under_way, "%d sums under way", UNDER_WAY);
    *sum = (started){.values = values, .place = place_for(s, values, bytes), .under_way = true};
    void *copy = s->places[sum->place].copy;
    to_host(s, copy, values, bytes);
    sum->request = comm_start_sum(s->base.host, copy, count, type);
    return (comm_request){s->begun++};
}

static void staged_wait(comm *c, comm_request request) {
    comm_staged *s = (comm_staged *)c;
    CHECK(request.ticket < s->begun, "wait for a sum that was never begun");
    started *sum = &s->sums[request.ticket % UNDER_WAY];
    if (!sum->under_way) return;
    const staging *place = &s->places[sum->place];
    comm_wait(s->base.host, sum->request);
    device_copy(s->base.device, NULL, sum->values, place->copy, place->bytes);
    sum->under_way = false;
}

static bool staged_is_done(comm *c, comm_request request) {
    comm_staged *s = (comm_staged *)c;
    const started *sum = &s->sums[request.ticket % UNDER_WAY];
    return !sum->under_way || comm_is_done(s->base.host, sum->request);
}

static bool staged_sum_span(comm *c, comm_request request, double *start, double *end) {
    comm_staged *s = (comm_staged *)c;
    return comm_sum_span(s->base.host, s->sums[request.ticket % UNDER_WAY].request, start, end);
}

static void staged_sum_f64(comm *c, double *values, size_t count) {
    comm_staged *s = (comm_staged *)c;
    size_t bytes = count * sizeof *values;
    int place = place_for(s, values, bytes); /* moves the list */
    double *copy = s->places[place].copy;
    to_host(s, copy, values, bytes);
    comm_host_sum_f64(s->base.host, copy, count);
    device_copy(s->base.device, NULL, values, copy, bytes);
}

static const comm_ops staged_ops = {
    .name = "mpi through host memory",
    .close = staged_close,
    .sum_f64 = staged_sum_f64,
    .start_sum = staged_start_sum,
    .wait = staged_wait,
    .is_done = staged_is_done,
    .sum_span = staged_sum_span,
};

status comm_staged_open(comm **out, comm *host, device *d) {
    comm_staged *s = calloc(1, sizeof *s);
    *out = NULL;
    if (!s) return error_set(STATUS_OS, "free some memory", "no memory for the communicator");
    s->base = (comm){.ops = &staged_ops, .env = host->env, .device = d, .host = host};
    *out = &s->base;
    return STATUS_OK;
}
