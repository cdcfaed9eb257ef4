/* `profile`: where the time of a training step goes, op by op. */
#ifndef BENCH_STEP_PROFILE_H
#define BENCH_STEP_PROFILE_H

#include "bench/profile_report.h"
#include "config/config.h"

typedef struct profile_options {
    bool synthetic, random_start; /* see step_runner_options */
    int64_t warmup, iterations;   /* steps before those that are measured; those */
    op_table_group group;
    const char *json, *trace; /* files to write; NULL: none */
} profile_options;

enum { PROFILE_WARMUP = 3, PROFILE_ITERATIONS = 10, PROFILE_MOST = 100000 };

/* Every rank runs it; the first prints and writes what it measured of itself. The rows add up to the step. On a GPU ops are timed by
 * events, and the host waits for each step, which costs the gaps between ops that a recorded step has not. Changes `cfg` as
 * step_runner_open does. Codes as for trainer_run. */
status step_profile_run(config *cfg, const profile_options *options);

#endif
