/* What a loader worker and its rank say to each other: fixed-size messages over a SOCK_SEQPACKET socket.
 * Pixels and objects travel in the slot, never over the socket. */
#ifndef DATA_LOADER_WORKER_H
#define DATA_LOADER_WORKER_H

#include <stdint.h>
#include "data/loader_sample.h"
#include "data/shared_ring.h"

typedef struct worker_request {
    int64_t ticket; /* number of the sample in this rank's stream */
    int32_t slot, reserved;
    sample_request sample;
} worker_request;

typedef struct worker_reply {
    int64_t ticket;
} worker_reply;

/* What a worker needs; lies in memory that was there before the fork. */
typedef struct worker_context {
    const shared_ring *ring;
    sample_builder *builder;
} worker_context;

/* Serves requests in order until the other end is closed (a nursery_body). `context` is a worker_context. */
void loader_worker_run(int socket, void *context);

#endif
