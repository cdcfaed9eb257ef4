/* maskrcnn bench allreduce: sums over the ranks. */
#include "base/thread_pool.h"
#include "bench/allreduce_bench.h"
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

static status run(const cli_args *args) {
    rank_env env;
    int64_t kib;
    char card[32] = "cpu";
    RETURN_IF_ERROR(cli_int(&kib, args, "max-kib", 4, INT64_C(1) << 30, 200 * 1024));
    RETURN_IF_ERROR(rank_env_read(&env));
    const char *device_name = cli_value(args, "device");
    if (device_name && strcmp(device_name, "cuda") == 0)
        snprintf(card, sizeof card, "cuda:%d", env.local_rank);
    allreduce_bench_job job = {.env = &env, .most_bytes = kib * 1024, .json = cli_value(args, "json")};
    RETURN_IF_ERROR(device_open(&job.dev, card));
    thread_pool_start(1);
    status s = allreduce_bench_run(&job);
    thread_pool_stop();
    device_close(job.dev);
    return s;
}

static const cli_option options[] = {
    {.name = "max-kib", .value = "N", .help = "largest size; 204800 (200 MiB) by default"},
    {.name = "device",
     .value = "NAME",
     .help = "whose memory is summed: cpu (the default) or cuda, each rank its card",
     .choices = "cpu|cuda"},
    {.name = "json", .value = "FILE", .help = "file to write the numbers to"},
    {0}};

const cli_command cmd_bench_allreduce = {
    .name = "bench allreduce",
    .summary = "sums over the ranks: time and bandwidth by size",
    .usage = "[--max-kib N] [--device cpu|cuda] [--json FILE]",
    .details =
        "For mpirun. From 4 KiB on, in floats and in 16 bits, through the calls that sum gradients. GB/s is "
        "bytes "
        "over time; bus GB/s is that times 2 (n - 1) / n, what each link of a ring of n ranks carries.",
    .examples = {"mpirun -n 2 maskrcnn bench allreduce",
                 "mpirun -n 4 maskrcnn bench allreduce --max-kib 16384 --json allreduce.json",
                 "mpirun -n 8 maskrcnn bench allreduce --device cuda"},
    .options = options,
    .run = run,
};
