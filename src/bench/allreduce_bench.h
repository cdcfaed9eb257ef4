/* `bench allreduce`: sums over the ranks, of the sizes that gradient buckets have and beyond, through the same calls as training's. */
#ifndef BENCH_ALLREDUCE_BENCH_H
#define BENCH_ALLREDUCE_BENCH_H

#include "comm/rank_env.h"
#include "device/device.h"

typedef struct allreduce_bench_job {
    const rank_env *env;
    device *dev;        /* whose memory is summed */
    int64_t most_bytes; /* largest size; the sizes are 4 KB times powers of 4, then this */
    const char *json;   /* file that rank 0 writes; NULL: none */
} allreduce_bench_job;

/* Collective, before MPI was started. Rank 0 prints a table and writes
 *
 *   {"backend", "ranks", "device", "cases": [{"name", "type", "bytes", "time_ms", "algorithm_gb_per_s", "bus_gb_per_s"}, ...],
 *    "machine": {...}, "peak_rss_mib"}
 *
 * Each size is summed as F32 and as BF16. A time is the slowest rank's, the median of five runs that take a twentieth of a second or more each.
 * Algorithm bandwidth is bytes over time; bus bandwidth is that times 2 (n - 1) / n, what each link of a ring of n ranks
 * carries, and so comparable between numbers of ranks. Codes of comm_open. */
status allreduce_bench_run(const allreduce_bench_job *job);

#endif
