/* What the ranks do together. Backends: one process (comm_single.c); MPI for host memory (comm_mpi_host.c); for the memory
 * of a GPU NCCL (src/cuda/comm_nccl.c, in the plug-in) or, where it cannot be used, copies through host memory
 * (comm_staged.c), both with MPI for what is on the host.
 *
 * Every function but the getters is collective: every rank calls it, in the same order and with the same
 * sizes, also a rank that has nothing to add. One thread (the main thread) calls them. They return no status:
 * a lost peer ends the job through the launcher.
 *
 * Sums are the same bits on every rank. Those through MPI are so in every run and for every cut into ranges: each element is
 * added in the order of the ranks, ((r0 + r1) + r2) + ..., 16-bit floats as float and rounded once. NCCL chooses its
 * own order, by count and number of ranks. */
#ifndef COMM_COMM_H
#define COMM_COMM_H

#include "base/status.h"
#include "comm/rank_env.h"
#include "device/device.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct comm comm;

typedef enum comm_type { COMM_F32, COMM_F64, COMM_BF16, COMM_F16 } comm_type;

size_t comm_type_size(comm_type type);

/* A sum that is under way. */
typedef struct comm_request {
    uint64_t ticket;
} comm_request;

/* One process without a launcher: the single backend. Else starts MPI (once per process; after the loader's
 * fork) and makes MPI_Abort the abort hook of CHECK. `d` is the device whose memory the sums work on; it
 * outlives the comm. NO_DEVICE: some ranks have a GPU and others not; MPI lacks threads, or counts other ranks than `env` (the launcher belongs to
 * another MPI). */
status comm_open(comm **out, const rank_env *env, device *d);

/* Collective. Requests must be waited for first. */
void comm_close(comm *c);

int comm_rank(const comm *c);
int comm_size(const comm *c);
int comm_local_rank(const comm *c);
int comm_local_size(const comm *c);
const char *comm_backend_name(const comm *c); /* "single", "mpi", "nccl", "mpi through host memory" */

/* Sums over ranks, in place; device memory, in the order of the compute stream. */
void comm_allreduce_sum_f32(comm *c, float *values, size_t count);
void comm_allreduce_sum_f64(comm *c, double *values, size_t count);

/* The same, begun now and done behind the caller's back while it goes on. Sums begun run one after another in
 * the order begun. `values` must not be touched before comm_wait. On a GPU the sum waits for what the compute
 * stream holds now, and after comm_wait the compute stream waits for the sum; the host does not. */
comm_request comm_start_sum(comm *c, void *values, size_t count, comm_type type);
void comm_wait(comm *c, comm_request request);

/* True when comm_wait would not wait. Not collective. */
bool comm_is_done(comm *c, comm_request request);

/* When a sum that was waited for ran, on clock_seconds' clock; of the newest 1024. False: the backend cannot tell, since the sum runs
 * on a device, or takes no time. Not collective. */
bool comm_sum_span(comm *c, comm_request request, double *start, double *end);

/* Looks whether a peer was lost while sums are under way on a GPU; ends the job then, saying so. To be called while the host waits
 * for the device. Not collective. */
void comm_poll(comm *c);

/* Host memory. */
void comm_host_sum_f64(comm *c, double *values, size_t count);
void comm_allreduce_max_i32(comm *c, int32_t *values, size_t count);
void comm_broadcast(comm *c, void *bytes, size_t size, int root);
void comm_barrier(comm *c);

/* Rank 0's `out` gets every rank's record, in order of ranks: comm_size x record_size bytes. Others may pass
 * NULL. */
void comm_gather(comm *c, void *out, const void *record, size_t record_size);

/* Rank 0's `out` gets every rank's bytes one after another, in order of ranks; sizes [comm_size] says how many each has
 * (rank 0 learns them through comm_gather). `size` is this rank's own, up to any size. Others may pass NULL for `out` and
 * `sizes`. */
void comm_gather_bytes(comm *c, void *out, const size_t *sizes, const void *bytes, size_t size);

/* Joins the outcomes of a step that may fail on one rank only: OK if it is OK on all, else on every rank the
 * status of the lowest failing rank. That rank keeps its error text; the others' is cleared, so that one
 * message is printed. */
status comm_agree(comm *c, status mine);

/* Ends every rank of the job with this exit code. For a failure that the other ranks do not know of. */
void comm_abort(comm *c, int exit_code) __attribute__((noreturn));

#endif
