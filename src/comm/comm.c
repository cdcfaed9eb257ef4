#include "comm/comm.h"

#include "base/check.h"
#include "base/log.h"
#include "comm/comm_backend.h"

#include <stdio.h>
#include <unistd.h>

status comm_open(comm **out, const rank_env *env, device *d) {
    log_set_rank(env->rank);
    check_set_rank(env->rank);
    return env->launcher ? comm_mpi_host_open(out, env, d) : comm_single_open(out, env, d);
}

void comm_close(comm *c) {
    if (c) c->ops->close(c);
}

int comm_rank(const comm *c) {
    return c->env.rank;
}
int comm_size(const comm *c) {
    return c->env.size;
}
int comm_local_rank(const comm *c) {
    return c->env.local_rank;
}
int comm_local_size(const comm *c) {
    return c->env.local_size;
}
const char *comm_backend_name(const comm *c) {
    return c->ops->name;
}

void comm_allreduce_sum_f32(comm *c, float *values, size_t count) {
    comm_wait(c, comm_start_sum_f32(c, values, count));
}

void comm_allreduce_sum_f64(comm *c, double *values, size_t count) {
    if (count) c->ops->sum_f64(c, values, count);
}

comm_request comm_start_sum_f32(comm *c, float *values, size_t count) {
    return c->ops->start_sum_f32(c, values, count);
}

void comm_wait(comm *c, comm_request request) {
    c->ops->wait(c, request);
}

bool comm_is_done(comm *c, comm_request request) {
    return c->ops->is_done(c, request);
}

void comm_allreduce_max_i32(comm *c, int32_t *values, size_t count) {
    if (count) c->ops->max_i32(c, values, count);
}

void comm_broadcast(comm *c, void *bytes, size_t size, int root) {
    CHECK(root >= 0 && root < c->env.size, "broadcast from rank %d of %d", root, c->env.size);
    if (size) c->ops->broadcast(c, bytes, size, root);
}

void comm_barrier(comm *c) {
    c->ops->barrier(c);
}
void comm_gather(comm *c, void *out, const void *record, size_t record_size) {
    c->ops->gather(c, out, record, record_size);
}

void comm_gather_bytes(comm *c, void *out, const size_t *sizes, const void *bytes, size_t size) {
    CHECK(c->env.rank != 0 || sizes[0] == size, "rank 0 has %zu bytes, not %zu", size, sizes[0]);
    c->ops->gather_bytes(c, out, sizes, bytes, size);
}

status comm_agree(comm *c, status mine) {
    /* Highest for the lowest failing rank; 0 when nobody failed. */
    int32_t worst = mine == STATUS_OK ? 0 : (c->env.size - c->env.rank) * 256 + (int32_t)mine;
    int32_t own = worst;
    comm_allreduce_max_i32(c, &worst, 1);
    if (worst != own) error_clear();
    return (status)(worst % 256);
}

_Noreturn void comm_abort(comm *c, int exit_code) {
    fflush(NULL);
    c->ops->abort(c, exit_code);
    _exit(exit_code);
}
