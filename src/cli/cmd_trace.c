/* maskrcnn trace: losses, features and gradients of one step. */
#include "cli/cli.h"
#include "train/trace.h"

static const cli_option options[] = {
    {.name = "config", .value = "FILE", .help = "configuration file", .required = true},
    {.name = "weights", .value = "FILE", .help = "safetensors file; replaces MODEL.WEIGHTS"},
    {.name = "batch",
     .value = "FILE",
     .help = "safetensors file with the batch; without it: the first batch of DATASETS.TRAIN"},
    {.name = "out", .value = "FILE", .help = "safetensors file to write", .required = true},
    {.name = "device", .value = "NAME", .help = "cpu or cuda", .choices = "cpu|cuda"},
    {.name = "trace-shapes", .help = "print every op of the step with its shapes, in order"},
    {0},
};

static status run(const cli_args *args) {
    config cfg;
    RETURN_IF_ERROR(cli_load_config(&cfg, args));
    status s =
        trace_run(&cfg, cli_value(args, "batch"), cli_value(args, "out"), cli_flag(args, "trace-shapes"));
    config_release(&cfg);
    return s;
}

const cli_command cmd_trace = {
    .name = "trace",
    .summary = "writes the losses, features and gradients of one step",
    .usage = "--config FILE --out FILE [--weights FILE] [--batch FILE] [KEY VALUE...]",
    .details = "One forward and one backward pass, no update. A batch file holds images f32 [N,H,W,3] "
               "(normalised and padded), image_sizes i32 [N,2] (height, width), "
               "boxes f32 [G,4], labels i32 [G], box_image i32 [G] and masks u8 [G,H,W]. The output holds "
               "loss/*, feature/p2..p6 and grad/* in PyTorch's layout.",
    .examples =
        {"maskrcnn trace --config configs/mask_rcnn_R_50_FPN_1x.yaml --weights w.safetensors --batch "
         "b.safetensors --out t.safetensors",
         "maskrcnn trace --config configs/quickstart.yaml --out t.safetensors DATASETS.TRAIN ann.json:images",
         "maskrcnn trace --config configs/quickstart.yaml --out t.safetensors --trace-shapes DATASETS.TRAIN "
         "ann.json:images"},
    .options = options,
    .overrides = true,
    .run = run,
};
