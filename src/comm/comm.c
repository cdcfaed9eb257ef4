#include "comm/comm.h"

#include "base/check.h"
#include "base/log.h"
#include "comm/comm_backend.h"

#include <stdio.h>
#include <unistd.h>

size_t comm_type_size(comm_type type) {
    return type == COMM_F64 ? 8 : type == COMM_F32 ? 4 : 2;
}

/* For the memory of a GPU, on top of `host`: NCCL where the plug-in can use it, on all ranks alike. */
static status open_for_device(comm **out, comm *host, device *d) {
    status mine = device_open_comm(d, out, host);
    if (mine != STATUS_NO_DEVICE) return mine;
    if (host->env.rank == 0)
        log_warn("comm", "gradients are summed through host memory, which is slow: %s", error_cause());
    error_clear();
    return comm_staged_open(out, host, d);
}

/* MODEL.DEVICE "auto" may find a GPU for some ranks only; sums of one memory and the other are different collectives. */
static status check_devices(comm *host, const device *d) {
    bool on_cpu = device_is_host_accessible(d);
    int32_t found[2] = {on_cpu, !on_cpu};
    host->ops->max_i32(host, found, 2);
    if (!found[0] || !found[1]) return STATUS_OK;
    return error_set(STATUS_NO_DEVICE, "check the GPUs of every node, or use --device cpu",
                     "some ranks compute on a GPU and others, as they find none, on the CPU (this one on %s)",
                     device_get_name(d));
}

status comm_open(comm **out, const rank_env *env, device *d) {
    log_set_rank(env->rank);
    check_set_rank(env->rank);
    if (!env->launcher) return comm_single_open(out, env, d);
    RETURN_IF_ERROR(comm_mpi_host_open(out, env, d));
    comm *host = *out;
    status s = check_devices(host, d);
    if (s == STATUS_OK && !device_is_host_accessible(d) && env->size > 1) s = open_for_device(out, host, d);
    if (s != STATUS_OK) {
        comm_close(host);
        *out = NULL;
    }
    return s;
}

void comm_close(comm *c) {
    if (!c) return;
    comm *host = c->host;
    c->ops->close(c);
    if (host) host->ops->close(host);
}

/* The comm that works on host memory. */
static comm *host_of(comm *c) {
    return c->host ? c->host : c;
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
    comm_wait(c, comm_start_sum(c, values, count, COMM_F32));
}

void comm_allreduce_sum_f64(comm *c, double *values, size_t count) {
    if (count) c->ops->sum_f64(c, values, count);
}

comm_request comm_start_sum(comm *c, void *values, size_t count, comm_type type) {
    return c->ops->start_sum(c, values, count, type);
}

bool comm_sum_span(comm *c, comm_request request, double *start, double *end) {
    return c->ops->sum_span && c->ops->sum_span(c, request, start, end);
}

void comm_poll(comm *c) {
    if (c->ops->poll) c->ops->poll(c);
}

void comm_host_sum_f64(comm *c, double *values, size_t count) {
    comm *host = host_of(c);
    if (count) host->ops->sum_f64(host, values, count);
}

void comm_wait(comm *c, comm_request request) {
    c->ops->wait(c, request);
}

bool comm_is_done(comm *c, comm_request request) {
    return c->ops->is_done(c, request);
}

void comm_allreduce_max_i32(comm *c, int32_t *values, size_t count) {
    comm *host = host_of(c);
    if (count) host->ops->max_i32(host, values, count);
}

void comm_broadcast(comm *c, void *bytes, size_t size, int root) {
    CHECK(root >= 0 && root < c->env.size, "broadcast from rank %d of %d", root, c->env.size);
    comm *host = host_of(c);
    if (size) host->ops->broadcast(host, bytes, size, root);
}

void comm_barrier(comm *c) {
    comm *host = host_of(c);
    host->ops->barrier(host);
}
void comm_gather(comm *c, void *out, const void *record, size_t record_size) {
    comm *host = host_of(c);
    host->ops->gather(host, out, record, record_size);
}

void comm_gather_bytes(comm *c, void *out, const size_t *sizes, const void *bytes, size_t size) {
    CHECK(c->env.rank != 0 || sizes[0] == size, "rank 0 has %zu bytes, not %zu", size, sizes[0]);
    comm *host = host_of(c);
    host->ops->gather_bytes(host, out, sizes, bytes, size);
}

status comm_agree(comm *c, status mine) {
    /* Highest for the lowest failing rank; 0 when nobody failed. */
    int32_t worst = mine == STATUS_OK ? 0 : (c->env.size - c->env.rank) * 256 + (int32_t)mine;
    int32_t own = worst;
    comm_allreduce_max_i32(c, &worst, 1);
    if (worst != own) error_clear();
    return (status)(worst % 256);
}

void comm_abort(comm *c, int exit_code) {
    comm *host = host_of(c);
    fflush(NULL);
    host->ops->abort(host, exit_code);
    _exit(exit_code);
}
