/* NCCL's communicators do not block here: a call may return ncclInProgress, and a lost peer shows in the communicator's
 * state, not as a call that never returns.
 *
 * On the way out after an error nothing is aborted or destroyed: ncclCommAbort may hang when a peer is gone, and the
 * process ends anyway. */
#include "cuda/comm_nccl.h"

#include "base/check.h"
#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { UNDER_WAY = 256, CARD_NAME = 192, CONNECT_SECONDS = 300 };

typedef struct comm_nccl {
    comm base;
    const nccl_api *api;
    ncclComm_t nccl;
    device_stream *stream;
    device_event *ready[UNDER_WAY], *done[UNDER_WAY]; /* by ticket */
    uint64_t begun, waited;                           /* sums; waits are in the order begun */
} comm_nccl;

static ncclResult_t state_of(const comm_nccl *n) {
    ncclResult_t state = ncclSuccess, asked = n->api->comm_get_async_error(n->nccl, &state);
    return asked != ncclSuccess ? asked : state;
}

/* Until the call is through; its result. */
static ncclResult_t finish_call(const comm_nccl *n, ncclResult_t result, double limit_seconds) {
    double start = clock_seconds();
    while (result == ncclInProgress) {
        if (clock_seconds() - start > limit_seconds) return ncclInProgress;
        nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
        result = state_of(n);
    }
    return result;
}

static status failed_status(const comm_nccl *n, status kind, ncclResult_t result, const char *what) {
    const char *last = n->nccl ? n->api->get_last_error(n->nccl) : NULL;
    return error_set(kind, "look for the first rank that failed; NCCL_DEBUG=INFO makes NCCL say more",
                     "NCCL: %s: %s%s%s", what,
                     result == ncclInProgress ? "no answer in time" : n->api->get_error_string(result),
                     last && last[0] ? ": " : "", last ? last : "");
}

/* In the middle of a step there is nobody to return to: the job ends here. */
static _Noreturn void lose(comm_nccl *n, ncclResult_t result, const char *what) {
    failed_status(n, STATUS_PEER_LOST, result, what);
    rank_env_report_error(&n->base.env);
    comm_abort(&n->base, STATUS_PEER_LOST);
}

static ncclDataType_t type_of(comm_type type) {
    static const ncclDataType_t types[] = {[COMM_F32] = ncclFloat32,
                                           [COMM_F64] = ncclFloat64,
                                           [COMM_BF16] = ncclBfloat16,
                                           [COMM_F16] = ncclFloat16};
    return types[type];
}

static comm_request nccl_start_sum(comm *c, void *values, size_t count, comm_type type) {
    comm_nccl *n = (comm_nccl *)c;
    int slot = (int)(n->begun % UNDER_WAY);
    CHECK(n->begun - n->waited < UNDER_WAY, "%d sums under way", UNDER_WAY);
    device_event_record(c->device, n->ready[slot], NULL);
    device_event_wait(c->device, n->stream, n->ready[slot]);
    ncclResult_t result = n->api->all_reduce(values, values, count, type_of(type), ncclSum, n->nccl,
                                             (cudaStream_t)(void *)n->stream);
    result = finish_call(n, result, CONNECT_SECONDS); /* the first one still connects */
    if (result != ncclSuccess) lose(n, result, "a sum cannot be started");
    device_event_record(c->device, n->done[slot], n->stream);
    return (comm_request){n->begun++};
}

static void nccl_wait(comm *c, comm_request request) {
    comm_nccl *n = (comm_nccl *)c;
    CHECK(request.ticket < n->begun, "wait for a sum that was never begun");
    CHECK(n->begun - request.ticket <= UNDER_WAY, "wait for a sum of long ago");
    device_event_wait(c->device, NULL, n->done[request.ticket % UNDER_WAY]);
    if (request.ticket >= n->waited) n->waited = request.ticket + 1;
}

/* comm_wait queues and returns. */
static bool nccl_is_done(comm *c, comm_request request) {
    (void)c, (void)request;
    return true;
}

static void nccl_sum_f64(comm *c, double *values, size_t count) {
    nccl_wait(c, nccl_start_sum(c, values, count, COMM_F64));
}

static void nccl_poll(comm *c) {
    comm_nccl *n = (comm_nccl *)c;
    ncclResult_t state = state_of(n);
    if (state != ncclSuccess && state != ncclInProgress) lose(n, state, "a rank was lost");
}

static void release(comm_nccl *n) {
    for (int i = 0; i < UNDER_WAY; i++) {
        if (n->ready[i]) device_event_free(n->base.device, n->ready[i]);
        if (n->done[i]) device_event_free(n->base.device, n->done[i]);
    }
    free(n);
}

static void nccl_close(comm *c) {
    comm_nccl *n = (comm_nccl *)c;
    device_synchronize(c->device, n->stream);
    ncclResult_t result = finish_call(n, n->api->comm_finalize(n->nccl), CONNECT_SECONDS);
    if (result == ncclSuccess) n->api->comm_destroy(n->nccl);
    release(n);
}

static const comm_ops nccl_ops = {
    .name = "nccl",
    .close = nccl_close,
    .sum_f64 = nccl_sum_f64,
    .start_sum = nccl_start_sum,
    .wait = nccl_wait,
    .is_done = nccl_is_done,
    .poll = nccl_poll,
};

/* ---- opening ---------------------------------------------------------------------------------------------- */

/* All ranks' cards, "node card", on every rank. */
static char *share_cards(comm *host, const char *card) {
    char mine[CARD_NAME] = "", node[CARD_NAME / 2] = "";
    size_t bytes = (size_t)host->env.size * CARD_NAME;
    char *all = calloc((size_t)host->env.size, CARD_NAME);
    CHECK(all, "no memory for the names of %d cards", host->env.size);
    gethostname(node, sizeof node - 1);
    snprintf(mine, sizeof mine, "%s of %s", card, node);
    comm_gather(host, all, mine, sizeof mine);
    comm_broadcast(host, all, bytes, 0);
    return all;
}

/* The same answer on every rank. */
static status refuse_shared_cards(comm *host, const char *card) {
    char *cards = share_cards(host, card);
    status s = STATUS_OK;
    for (int a = 0; a < host->env.size && s == STATUS_OK; a++)
        for (int b = a + 1; b < host->env.size && s == STATUS_OK; b++)
            if (strcmp(cards + (size_t)a * CARD_NAME, cards + (size_t)b * CARD_NAME) == 0)
                s = error_set(STATUS_NO_DEVICE, "start one rank per GPU", "ranks %d and %d share GPU %s", a,
                              b, cards + (size_t)a * CARD_NAME);
    free(cards);
    return s;
}

static status refuse_missing(comm *host, const nccl_api *api) {
    int32_t missing = api ? 0 : host->env.size - host->env.rank; /* largest: the first rank without */
    comm_allreduce_max_i32(host, &missing, 1);
    if (!missing) return STATUS_OK;
    if (api)
        error_set(STATUS_NO_DEVICE, "install the same NCCL on every node", "rank %d has no NCCL",
                  host->env.size - missing);
    return STATUS_NO_DEVICE; /* a rank without it has its own reason */
}

static status make_events(comm_nccl *n) {
    for (int i = 0; i < UNDER_WAY; i++) {
        RETURN_IF_ERROR(device_event_new(n->base.device, &n->ready[i]));
        RETURN_IF_ERROR(device_event_new(n->base.device, &n->done[i]));
    }
    return STATUS_OK;
}

static status connect_ranks(comm_nccl *n, comm *host) {
    struct {
        ncclUniqueId id;
        ncclResult_t result;
    } first;
    memset(&first, 0, sizeof first);
    if (host->env.rank == 0) first.result = n->api->get_unique_id(&first.id);
    comm_broadcast(host, &first, sizeof first, 0);
    if (first.result != ncclSuccess)
        return failed_status(n, STATUS_INTERNAL, first.result, "rank 0 cannot start it");
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    ncclResult_t result =
        n->api->comm_init_rank_config(&n->nccl, host->env.size, first.id, host->env.rank, &config);
    result = finish_call(n, result, CONNECT_SECONDS);
    return result == ncclSuccess ? STATUS_OK
                                 : failed_status(n, STATUS_INTERNAL, result, "the ranks cannot be connected");
}

status comm_nccl_open(comm **out, comm *host, device *d, const char *card, const nccl_api *api) {
    *out = NULL;
    RETURN_IF_ERROR(refuse_missing(host, api));
    RETURN_IF_ERROR(refuse_shared_cards(host, card));
    comm_nccl *n = calloc(1, sizeof *n);
    CHECK(n, "no memory for the communicator");
    n->base = (comm){.ops = &nccl_ops, .env = host->env, .device = d, .host = host};
    n->api = api;
    n->stream = device_get_stream(d, DEVICE_STREAM_COMM);
    status s = comm_agree(host, make_events(n));
    if (s == STATUS_OK) s = comm_agree(host, connect_ranks(n, host));
    if (s != STATUS_OK) {
        release(n);
        return s;
    }
    *out = &n->base;
    return STATUS_OK;
}
