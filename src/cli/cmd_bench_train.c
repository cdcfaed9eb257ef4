/* maskrcnn bench train: speed of training, and where the time goes. */
#include "bench/train_bench.h"
#include "cli/cli.h"

static const cli_option options[] = {
    {.name = "config", .value = "FILE", .help = "configuration file", .required = true},
    {.name = "synthetic",
     .help = "generated pictures as large as the configuration's instead of DATASETS.TRAIN, random weights "
             "unless --weights is given, and learning rate 0"},
    {.name = "warmup", .value = "N", .help = "iterations before the window (100)"},
    {.name = "iters", .value = "N", .help = "iterations in the window (400)"},
    {.name = "weights", .value = "FILE", .help = "safetensors file to start from; replaces MODEL.WEIGHTS"},
    {.name = "device",
     .value = "NAME",
     .help = "cpu or cuda; default: the GPU where there is one",
     .choices = "cpu|cuda"},
    {.name = "json", .value = "FILE", .help = "file to write the numbers to"},
    {0},
};

static status run(const cli_args *args) {
    config cfg;
    train_bench_options job = {.synthetic = cli_flag(args, "synthetic"), .json = cli_value(args, "json")};
    job.random_start = job.synthetic && !cli_value(args, "weights");
    RETURN_IF_ERROR(cli_int(&job.warmup, args, "warmup", 0, TRAIN_BENCH_MOST, TRAIN_BENCH_WARMUP));
    RETURN_IF_ERROR(cli_int(&job.iterations, args, "iters", 1, TRAIN_BENCH_MOST, TRAIN_BENCH_ITERATIONS));
    RETURN_IF_ERROR(cli_load_config(&cfg, args));
    status s = train_bench_run(&cfg, &job);
    config_release(&cfg);
    return s;
}

const cli_command cmd_bench_train = {
    .name = "bench train",
    .summary = "images per second of training, and the stages of a step",
    .usage = "--config FILE [--synthetic] [--warmup N] [--iters N] [--json FILE] [KEY VALUE...]",
    .details =
        "The mean over a window of iterations, 100 to 500 by default, as detectron2 has it; under mpirun "
        "all ranks. Stages add up to the step: data and allreduce are what computation does not hide. On a "
        "GPU the stages come from further steps that are queued one by one. Writes no checkpoints and "
        "nothing else but the JSON file.",
    .examples =
        {"maskrcnn bench train --config configs/mask_rcnn_R_50_FPN_1x.yaml --synthetic --warmup 2 --iters "
         "10 SOLVER.IMS_PER_BATCH 1",
         "mpirun -n 2 maskrcnn bench train --config configs/mask_rcnn_R_50_FPN_1x.yaml --synthetic",
         "maskrcnn bench train --config configs/quickstart.yaml --json train.json DATASETS.TRAIN "
         "ann.json:images"},
    .options = options,
    .overrides = true,
    .run = run,
};
