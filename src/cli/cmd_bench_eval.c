/* maskrcnn bench eval: how fast a results file is scored. */
#include "bench/eval_bench.h"
#include "cli/cli.h"

#include <string.h>

static status run(const cli_args *args) {
    eval_bench_job job = {.annotations = cli_value(args, "annotations"),
                          .results = cli_value(args, "results"),
                          .keep = cli_value(args, "keep"),
                          .json = cli_value(args, "json")};
    int64_t images, iterations;
    RETURN_IF_ERROR(cli_int(&images, args, "synthetic", 1, 1000000, 1000));
    RETURN_IF_ERROR(cli_int(&iterations, args, "iters", 1, 100000, 3));
    if (!job.annotations != !job.results)
        return error_set(STATUS_USAGE, "give both, or neither and --synthetic N",
                         "bench eval: --annotations and --results go together");
    if (job.annotations && cli_value(args, "synthetic"))
        return error_set(STATUS_USAGE, "leave one of them out",
                         "bench eval: --synthetic makes files, --annotations names one");
    if (job.annotations && job.keep)
        return error_set(STATUS_USAGE, "leave --keep out: files that are given stay",
                         "bench eval: --keep is for files that are made up");
    const char *type = cli_value(args, "iou-type");
    job.types[COCO_IOU_BBOX] = !type || strcmp(type, "segm") != 0;
    job.types[COCO_IOU_SEGM] = !type || strcmp(type, "bbox") != 0;
    job.synthetic_images = (int)images;
    job.iterations = (int)iterations;
    return eval_bench_run(&job);
}

static const cli_option options[] = {
    {.name = "annotations", .value = "GT.json", .help = "ground truth: a COCO annotation file"},
    {.name = "results", .value = "DT.json", .help = "detections, as eval --results takes them"},
    {.name = "synthetic",
     .value = "N",
     .help = "instead of those: files made up for N images, much like COCO's; 1000 by default"},
    {.name = "keep", .value = "FOLDER", .help = "leave the made up annotations.json and results.json there"},
    {.name = "iou-type", .value = "TYPE", .help = "only this one; both by default", .choices = "bbox|segm"},
    {.name = "iters", .value = "N", .help = "times that everything is done; 3 by default"},
    {.name = "json", .value = "FILE", .help = "file to write the numbers to"},
    {0}};

const cli_command cmd_bench_eval = {
    .name = "bench eval",
    .summary = "how fast a results file is scored",
    .usage = "[--annotations GT.json --results DT.json | --synthetic N [--keep FOLDER]] [--iou-type "
             "bbox|segm] [--iters N] "
             "[--json FILE]",
    .details = "From opening the files to the twelve numbers: reading both, grouping by category and image, "
               "matching, averaging. The median of the iterations.",
    .examples = {"maskrcnn bench eval --synthetic 5000",
                 "maskrcnn bench eval --annotations instances_val2017.json --results results.json --iters 5",
                 "maskrcnn bench eval --iou-type segm --json eval.json"},
    .options = options,
    .one_process = true,
    .run = run,
};
