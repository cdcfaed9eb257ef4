/* `bench op`: one op on the cases of its bench_cases, by every kernel it has on a device, side by side. */
#ifndef BENCH_OP_BENCH_H
#define BENCH_OP_BENCH_H

#include "autograd/op.h"
#include "device/device.h"

typedef struct op_bench_job {
    const op_def *op;
    device *dev;
    const char *variant; /* only the kernel of this name; NULL: all */
    const char *cases;   /* the case of this name, or those with it in their names; NULL: all */
    dtype storage;       /* of half inputs on a GPU; F32 on the CPU */
    bool tf32;
    bool forward_only;
    const char *json; /* file to write; NULL: none */
} op_bench_job;

/* Prints a table while it goes on, and writes
 *
 *   {"op", "cases": [{"name", "forward_ms", "backward_ms", "shapes", "gflop", ..., "kernels": [{"name", ...}, ...]}, ...],
 *    "left_out": [{"name", "reason"}, ...], "machine": {...}, "peak_rss_mib"}
 *
 * The times of a case are those of the kernel that ships (with `variant`: of that one); backward_ms is null where there is no
 * backward. "peak_share" is the time that the measured peaks allow (the longer of FLOPs over the product's rate and bytes over the
 * memory's) over the time taken; more than 1 where data stay in a cache, or Winograd saves products. Cases that would take
 * more than half of the free memory are left out. USAGE: no such kernel or case. */
status op_bench_run(const op_bench_job *job);

#endif
