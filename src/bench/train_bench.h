/* `bench train`: speed of training as detectron2 measures it, the mean over a window of iterations, and where the time goes. */
#ifndef BENCH_TRAIN_BENCH_H
#define BENCH_TRAIN_BENCH_H

#include "config/config.h"

typedef struct train_bench_options {
    bool synthetic, random_start; /* see step_runner_options */
    int64_t warmup, iterations;   /* before the window; in it */
    const char *json;             /* file to write; NULL: none */
} train_bench_options;

enum { TRAIN_BENCH_WARMUP = 100, TRAIN_BENCH_ITERATIONS = 400, TRAIN_BENCH_MOST = 1000000 };

/* Every rank runs it; the first prints a table and writes the file. Times are means over the ranks, sums over ranks are exposed in
 * all of them. Where the device works behind the host, stages and parts come from further steps that are queued one by one. Changes
 * `cfg` as step_runner_open does; writes nothing else. Codes as for trainer_run. */
status train_bench_run(config *cfg, const train_bench_options *options);

#endif
