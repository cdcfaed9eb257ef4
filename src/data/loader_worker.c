#include "data/loader_worker.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

void loader_worker_run(int socket, void *context) {
    const worker_context *c = context;
    for (;;) {
        worker_request request;
        ssize_t got = recv(socket, &request, sizeof request, 0);
        if (got < 0 && errno == EINTR) continue;
        if (got != (ssize_t)sizeof request) return; /* the rank has gone */
        sample_build(shared_ring_slot(c->ring, request.slot), c->ring->slot_bytes, c->builder,
                     &request.sample);
        worker_reply reply = {.ticket = request.ticket};
        if (send(socket, &reply, sizeof reply, MSG_NOSIGNAL) != (ssize_t)sizeof reply) return;
    }
}
