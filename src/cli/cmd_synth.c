/* maskrcnn synth: a generated COCO-format dataset to try things on. */
#include "cli/cli.h"

#include "base/log.h"
#include "data/synth.h"

static const cli_option options[] = {
    {.name = "out",
     .value = "DIR",
     .help = "folder to make: new, empty, or an earlier dataset of this command",
     .required = true},
    {.name = "images", .value = "N", .help = "how many pictures", .required = true},
    {.name = "seed", .value = "S", .help = "another seed gives other pictures (0)"},
    {.name = "width",
     .value = "W",
     .help = "width of every picture, 64 to 4096; without it: several sizes up to 192"},
    {.name = "height", .value = "H", .help = "height of every picture, likewise"},
    {0},
};

static status run(const cli_args *args) {
    int64_t images, seed, width, height;
    RETURN_IF_ERROR(cli_int(&images, args, "images", 1, SYNTH_MAX_IMAGES, 0));
    RETURN_IF_ERROR(cli_int(&seed, args, "seed", 0, INT64_MAX, 0));
    RETURN_IF_ERROR(cli_int(&width, args, "width", SYNTH_MIN_SIDE, SYNTH_MAX_SIDE, 0));
    RETURN_IF_ERROR(cli_int(&height, args, "height", SYNTH_MIN_SIDE, SYNTH_MAX_SIDE, 0));
    synth_options sizes = {.height = (int)height, .width = (int)width};
    const char *out = cli_value(args, "out");
    RETURN_IF_ERROR(synth_dataset(out, (int)images, (uint64_t)seed, &sizes));
    log_info("data", "%lld images in %s/images, their objects in %s/annotations.json", (long long)images, out,
             out);
    return STATUS_OK;
}

const cli_command cmd_synth = {
    .name = "synth",
    .summary = "makes a small COCO-format dataset of simple shapes",
    .usage = "--out DIR --images N [--seed S] [--width W] [--height H]",
    .details =
        "Disks, boxes, triangles and rings with polygons, RLE masks, crowds, overlaps and empty pictures, "
        "as JPEG and PNG. The same seed gives the same dataset. Train on it as "
        "DATASETS.TRAIN DIR/annotations.json:DIR/images.",
    .examples = {"maskrcnn synth --out shapes/train --images 200",
                 "maskrcnn synth --out shapes/val --images 40 --seed 1",
                 "maskrcnn synth --out wide --images 10 --width 640 --height 480"},
    .options = options,
    .one_process = true,
    .run = run,
};
