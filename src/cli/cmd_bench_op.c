/* maskrcnn bench op: times one op's kernels over its sizes. */
#include "base/thread_pool.h"
#include "bench/op_bench.h"
#include "cli/cli.h"
#include "cli/op_name.h"

#include <string.h>

/* The precisions of --precision, as the configuration names them. */
static void set_precision(op_bench_job *job, const char *name) {
    job->tf32 = strcmp(name, "tf32") == 0;
    job->storage = strcmp(name, "bf16") == 0 ? DTYPE_BF16 : strcmp(name, "fp16") == 0 ? DTYPE_F16 : DTYPE_F32;
}

static status bench_on(op_bench_job *job, const char *precision) {
    if (precision) set_precision(job, precision);
    if (device_get_kind(job->dev) == DEVICE_CPU && (job->tf32 || job->storage != DTYPE_F32))
        return error_set(STATUS_USAGE, "use --device cuda, or --precision fp32",
                         "bench op: the CPU computes in fp32 only, not %s", precision);
    return op_bench_run(job);
}

static status run(const cli_args *args) {
    op_bench_job job = {.storage = DTYPE_F32,
                        .variant = cli_value(args, "variant"),
                        .cases = cli_value(args, "case"),
                        .forward_only = cli_flag(args, "forward-only"),
                        .json = cli_value(args, "json")};
    int64_t threads;
    RETURN_IF_ERROR(op_name_find(&job.op, args->arguments[0]));
    RETURN_IF_ERROR(cli_int(&threads, args, "threads", 1, 1024, thread_pool_usable_cores()));
    const char *device_name = cli_value(args, "device");
    RETURN_IF_ERROR(device_open(&job.dev, device_name ? device_name : "cpu"));
    thread_pool_start((int)threads);
    status s = bench_on(&job, cli_value(args, "precision"));
    thread_pool_stop();
    device_close(job.dev);
    return s;
}

static const cli_option options[] = {
    {.name = "forward-only", .help = "leave backward out"},
    {.name = "variant", .value = "NAME", .help = "only this kernel (the table names them)"},
    {.name = "case", .value = "TEXT", .help = "only this case, or those with TEXT in their names"},
    {.name = "device", .value = "NAME", .help = "cpu (the default), cuda or cuda:N"},
    {.name = "precision",
     .value = "NAME",
     .help = "how a GPU stores and multiplies; fp32 by default",
     .choices = "fp32|tf32|bf16|fp16"},
    {.name = "threads", .value = "N", .help = "compute threads; all usable cores by default"},
    {.name = "json", .value = "FILE", .help = "file to write the numbers to"},
    {0}};

const cli_command cmd_bench_op = {
    .name = "bench op",
    .summary = "times all kernels of an op, forward and backward",
    .usage = "NAME [--forward-only] [--variant NAME] [--case TEXT] [--device NAME] [--json FILE]",
    .details = "Sizes are those of training R50-FPN at 800x1333. Each time is the median of as many runs as "
               "fill 0.2 s, after warm-up. % peak is the time that this machine's measured peaks allow (the "
               "longer of FLOPs over a "
               "matrix product's rate and bytes over the memory's) over the time taken: above 100 data stay "
               "in a cache, or "
               "Winograd saves products. Calls of more than 2 GFLOP leave the reference out unless "
               "--variant names it. roi_pool and roi_align also run a grid of maps, batches and "
               "regions, and a naive loop beside.",
    .examples = {"maskrcnn bench op roi_align --case map64", "maskrcnn bench op nms --json nms.json",
                 "maskrcnn bench op conv2d --device cuda --precision bf16"},
    .options = options,
    .argument = "NAME",
    .min_arguments = 1,
    .max_arguments = 1,
    .one_process = true,
    .run = run,
};
