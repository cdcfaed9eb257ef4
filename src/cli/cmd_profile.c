/* maskrcnn profile: where the time of a training step goes, op by op. */
#include "bench/image_profile.h"
#include "bench/step_profile.h"
#include "cli/cli.h"

#include <string.h>

static const cli_option options[] = {
    {.name = "config", .value = "FILE", .help = "configuration file", .required = true},
    {.name = "synthetic",
     .help = "generated pictures as large as the configuration's instead of DATASETS.TRAIN, random weights "
             "unless --weights is given, and learning rate 0"},
    {.name = "inference", .help = "profile the detector on DATASETS.TEST instead, an image a step"},
    {.name = "warmup", .value = "N", .help = "steps before those that are measured (3)"},
    {.name = "iters", .value = "N", .help = "steps that are measured (10)"},
    {.name = "by",
     .value = "WHAT",
     .help = "a row for each op (default), layer, or op of a layer",
     .choices = "op|layer|call"},
    {.name = "trace", .value = "FILE", .help = "timeline for chrome://tracing or Perfetto, of five steps"},
    {.name = "weights", .value = "FILE", .help = "safetensors file to start from; replaces MODEL.WEIGHTS"},
    {.name = "device",
     .value = "NAME",
     .help = "cpu or cuda; default: the GPU where there is one",
     .choices = "cpu|cuda"},
    {.name = "json", .value = "FILE", .help = "file to write the numbers to"},
    {0},
};

static op_table_group group_of(const char *by) {
    if (by && strcmp(by, "layer") == 0) return OP_TABLE_BY_LAYER;
    return by && strcmp(by, "call") == 0 ? OP_TABLE_BY_CALL : OP_TABLE_BY_OP;
}

static status run(const cli_args *args) {
    config cfg;
    profile_options job = {.synthetic = cli_flag(args, "synthetic"),
                           .group = group_of(cli_value(args, "by")),
                           .json = cli_value(args, "json"),
                           .trace = cli_value(args, "trace")};
    job.random_start = job.synthetic && !cli_value(args, "weights");
    RETURN_IF_ERROR(cli_int(&job.warmup, args, "warmup", 0, PROFILE_MOST, PROFILE_WARMUP));
    RETURN_IF_ERROR(cli_int(&job.iterations, args, "iters", 1, PROFILE_MOST, PROFILE_ITERATIONS));
    if (cli_flag(args, "inference")) RETURN_IF_ERROR(cli_check_one_process("profile --inference"));
    RETURN_IF_ERROR(cli_load_config(&cfg, args));
    status s = cli_flag(args, "inference") ? image_profile_run(&cfg, &job) : step_profile_run(&cfg, &job);
    config_release(&cfg);
    return s;
}

const cli_command cmd_profile = {
    .name = "profile",
    .summary = "where the time of a training step goes, op by op",
    .usage = "--config FILE [--synthetic] [--inference] [--warmup N] [--iters N] [--by op|layer|call] "
             "[--trace FILE] "
             "[--json FILE] "
             "[KEY VALUE...]",
    .details =
        "A row for each op and direction: mean and deviation of the milliseconds in a step, calls of a step "
        "(count), share, bytes and operations, what it reached, and which share of this machine's measured "
        "peak that is. Waiting for data, copies, all-reduce, the optimizer and the time between ops are "
        "rows too, so that the rows add up to the step. Under mpirun rank 0 tells of itself.",
    .examples =
        {"maskrcnn profile --config configs/mask_rcnn_R_50_FPN_1x.yaml --synthetic SOLVER.IMS_PER_BATCH 1",
         "maskrcnn profile --config configs/quickstart.yaml --synthetic --by layer --json profile.json",
         "maskrcnn profile --config configs/quickstart.yaml --trace trace.json DATASETS.TRAIN "
         "ann.json:images"},
    .options = options,
    .overrides = true,
    .run = run,
};
