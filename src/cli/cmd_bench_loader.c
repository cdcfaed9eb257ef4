/* maskrcnn bench loader: how fast the training data come. */
#include "bench/loader_bench.h"
#include "cli/cli.h"

#include <stdio.h>
#include <stdlib.h>

/* DATASETS.TRAIN, from --annotations and --images. */
static status set_dataset(config *cfg, const cli_args *args) {
    char *spec;
    if (asprintf(&spec, "%s:%s", cli_value(args, "annotations"), cli_value(args, "images")) < 0)
        return error_set(STATUS_OS, "free some memory", "bench loader: out of memory for a name");
    status s = config_set(cfg, "DATASETS.TRAIN", spec);
    free(spec);
    return s;
}

static status run_with(config *cfg, const cli_args *args) {
    int64_t epochs;
    const char *workers = cli_value(args, "workers");
    RETURN_IF_ERROR(cli_int(&epochs, args, "epochs", 1, 1000000, 1));
    RETURN_IF_ERROR(set_dataset(cfg, args));
    if (workers) RETURN_IF_ERROR(config_set(cfg, "DATALOADER.NUM_WORKERS", workers));
    loader_bench_job job = {.cfg = cfg, .epochs = (int)epochs, .json = cli_value(args, "json")};
    return loader_bench_run(&job);
}

static status run(const cli_args *args) {
    config cfg;
    RETURN_IF_ERROR(cli_load_config(&cfg, args));
    status s = run_with(&cfg, args);
    config_release(&cfg);
    return s;
}

static const cli_option options[] = {
    {.name = "annotations",
     .value = "FILE",
     .help = "COCO annotations, with or without objects",
     .required = true},
    {.name = "images", .value = "FOLDER", .help = "the images they name", .required = true},
    {.name = "workers", .value = "N", .help = "worker processes; DATALOADER.NUM_WORKERS by default"},
    {.name = "epochs", .value = "N", .help = "passes over the images that are timed; 1 by default"},
    {.name = "config", .value = "FILE", .help = "configuration, for sizes, batch and masks"},
    {.name = "device", .value = "NAME", .help = "cpu, cuda or cuda:N, for the transform"},
    {.name = "json", .value = "FILE", .help = "file to write the numbers to"},
    {0}};

const cli_command cmd_bench_loader = {
    .name = "bench loader",
    .summary = "how fast training data come: decoding, annotations, transform",
    .usage = "--annotations FILE --images FOLDER [--workers N] [--epochs N] [--json FILE] [KEY VALUE...]",
    .details = "Two passes: the loader alone (img/s decoded), then with what a training step does to a batch "
               "first (filling its inputs; resize, flip, normalise and pad on the device). Up to 64 images "
               "before each warm up. Memory is told of every process.",
    .examples = {"maskrcnn bench loader --annotations annotations/instances_val2017.json --images val2017 "
                 "--workers 4",
                 "maskrcnn bench loader --annotations a.json --images images --workers 2 --epochs 5 --json "
                 "loader.json",
                 "maskrcnn bench loader --annotations a.json --images images --config "
                 "configs/mask_rcnn_R_50_FPN_1x.yaml SOLVER.IMS_PER_BATCH 2 INPUT.MIN_SIZE_TRAIN \"(800,)\""},
    .options = options,
    .overrides = true,
    .one_process = true,
    .run = run,
};
