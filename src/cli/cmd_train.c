/* maskrcnn train: one rank of a training job. */
#include "cli/cli.h"
#include "train/trainer.h"

static const cli_option options[] = {
    {.name = "config", .value = "FILE", .help = "configuration file", .required = true},
    {.name = "weights", .value = "FILE", .help = "safetensors file to start from; replaces MODEL.WEIGHTS"},
    {.name = "resume", .help = "go on from the newest whole checkpoint in OUTPUT_DIR"},
    {.name = "device",
     .value = "NAME",
     .help = "cpu or cuda; default: the GPU where there is one",
     .choices = "cpu|cuda"},
    {.name = "deterministic",
     .help =
         "choose the canvas from the batch of all ranks, so that their number changes no padding; GPUs do so "
         "wherever a batch is all wide or all tall"},
    {.name = "trace-shapes", .help = "print every op of a step with its shapes, in order"},
    {.name = "times", .help = "print the mean time of every op at the end"},
    {0},
};

static status run(const cli_args *args) {
    config cfg;
    RETURN_IF_ERROR(cli_load_config(&cfg, args));
    trainer_options job = {.resume = cli_flag(args, "resume"),
                           .deterministic = cli_flag(args, "deterministic"),
                           .trace_shapes = cli_flag(args, "trace-shapes"),
                           .times = cli_flag(args, "times")};
    status s = trainer_run(&cfg, &job);
    config_release(&cfg);
    return s;
}

const cli_command cmd_train = {
    .name = "train",
    .summary = "trains; under mpirun one rank per process",
    .usage = "--config FILE [--weights FILE] [--resume] [--device cpu|cuda] [KEY VALUE...]",
    .details = "Writes log.txt, metrics.json, config.yaml, run_status.json, checkpoints/ and "
               "model_final.safetensors to OUTPUT_DIR. SOLVER.IMS_PER_BATCH is the batch of all ranks "
               "together and must be a multiple of their number.",
    .examples =
        {"maskrcnn train --config configs/quickstart.yaml DATASETS.TRAIN ann.json:images",
         "mpirun -n 2 maskrcnn train --config configs/mask_rcnn_R_50_FPN_1x.yaml --weights "
         "resnet50.safetensors DATASETS.TRAIN ann.json:images",
         "mpirun -n 8 maskrcnn train --config configs/mask_rcnn_R_50_FPN_1x.yaml --resume OUTPUT_DIR runs/a"},
    .options = options,
    .overrides = true,
    .run = run,
};
