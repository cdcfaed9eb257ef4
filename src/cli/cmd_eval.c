/* maskrcnn eval: COCO's scores of a results file. */
#include "cli/cli.h"

#include <string.h>

#include "base/thread_pool.h"
#include "eval/coco_eval.h"

static const cli_option options[] = {
    {.name = "annotations",
     .value = "GT.json",
     .help = "ground truth: a COCO annotation file",
     .required = true},
    {.name = "results",
     .value = "DT.json",
     .help = "detections: a list of objects with image_id, category_id, score and bbox or segmentation, or a "
             "COCO "
             "dataset whose annotations have scores",
     .required = true},
    {.name = "iou-type",
     .value = "TYPE",
     .help = "bbox compares boxes, segm masks",
     .choices = "bbox|segm",
     .required = true},
    {.name = "json", .value = "OUT", .help = "write the twelve numbers to this file, at full precision"},
    {0},
};

static status run(const cli_args *args) {
    coco_iou_type type = strcmp(cli_value(args, "iou-type"), "segm") == 0 ? COCO_IOU_SEGM : COCO_IOU_BBOX;
    coco_scores scores;
    thread_pool_start(thread_pool_usable_cores());
    status s = coco_eval_files(&scores, cli_value(args, "annotations"), cli_value(args, "results"), type);
    thread_pool_stop();
    RETURN_IF_ERROR(s);
    printf("%llu images, %llu objects, %llu detections\n", (unsigned long long)scores.images,
           (unsigned long long)scores.objects, (unsigned long long)scores.detections);
    coco_scores_print(stdout, &scores);
    const char *json = cli_value(args, "json");
    if (json) s = coco_scores_write_json(&scores, json);
    coco_scores_release(&scores);
    return s;
}

const cli_command cmd_eval = {
    .name = "eval",
    .summary = "COCO scores of a results file",
    .usage = "--annotations GT.json --results DT.json --iou-type bbox|segm [--json OUT]",
    .details =
        "Prints the twelve numbers of pycocotools' COCOeval, equal to it, and the AP of each category in "
        "percent. "
        "-1 stands where there is nothing to average. With segm a detection's area is that of its mask, also "
        "where the result has a box besides.",
    .examples =
        {"maskrcnn eval --annotations instances_val2017.json --results results.json --iou-type segm",
         "maskrcnn eval --annotations val.json --results boxes.json --iou-type bbox --json scores.json",
         "maskrcnn eval --annotations val.json --results coco_with_scores.json --iou-type bbox"},
    .options = options,
    .run = run,
};
