/* maskrcnn eval: COCO's scores of a results file. */
#include "cli/cli.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/thread_pool.h"
#include "eval/coco_eval.h"
#include "eval/eval_report.h"

enum { MAX_LIMIT = 1000000 };

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
    {.name = "max-dets",
     .value = "N,N,N",
     .help = "detections of a category in an image that count: AR is given at each, all else at the last; "
             "1,10,100 "
             "without it"},
    {.name = "json", .value = "OUT", .help = "write the twelve numbers to this file, at full precision"},
    {0},
};

/* "1,10,100": three rising numbers. */
static status parse_limits(uint32_t limits[COCO_LIMITS], const char *text) {
    const char *at = text;
    for (int i = 0; i < COCO_LIMITS; i++) {
        char *end = NULL;
        errno = 0;
        unsigned long value = isdigit((unsigned char)*at) ? strtoul(at, &end, 10) : 0;
        if (errno || value < (i ? limits[i - 1] + 1ul : 1) || value > MAX_LIMIT ||
            *end != (i + 1 < COCO_LIMITS ? ',' : '\0'))
            return error_set(STATUS_USAGE, "give three rising numbers, e.g. --max-dets 1,10,500",
                             "--max-dets %s: not three rising numbers from 1 to %d", text, MAX_LIMIT);
        limits[i] = (uint32_t)value;
        at = end + 1;
    }
    return STATUS_OK;
}

static status score(coco_scores scores[COCO_IOU_TYPES], const cli_args *args,
                    const coco_eval_options *wanted) {
    coco_truth *truth = NULL;
    status s = coco_truth_open(&truth, cli_value(args, "annotations"));
    if (s == STATUS_NO_INPUT) error_set_remedy("check the path given to --annotations");
    if (s != STATUS_OK) return s;
    s = coco_eval_results(scores, truth, cli_value(args, "results"), wanted);
    if (s == STATUS_NO_INPUT) error_set_remedy("check the path given to --results");
    coco_truth_free(truth);
    return s;
}

static status run(const cli_args *args) {
    coco_iou_type type = strcmp(cli_value(args, "iou-type"), "segm") == 0 ? COCO_IOU_SEGM : COCO_IOU_BBOX;
    coco_eval_options eval_options = coco_eval_defaults;
    eval_options.types[type] = true;
    const char *limits = cli_value(args, "max-dets"), *json = cli_value(args, "json");
    if (limits) RETURN_IF_ERROR(parse_limits(eval_options.max_detections, limits));
    coco_scores all[COCO_IOU_TYPES];
    thread_pool_start(thread_pool_usable_cores());
    status s = score(all, args, &eval_options);
    thread_pool_stop();
    RETURN_IF_ERROR(s);
    coco_scores *scores = &all[type];
    printf("%llu images, %llu objects, %llu detections\n", (unsigned long long)scores->images,
           (unsigned long long)scores->objects, (unsigned long long)scores->detections);
    coco_scores_print(stdout, scores);
    putchar('\n');
    coco_classes_print(stdout, type == COCO_IOU_BBOX ? scores : NULL, type == COCO_IOU_SEGM ? scores : NULL);
    if (json) s = coco_scores_write_json(scores, json);
    coco_scores_release(scores);
    return s;
}

const cli_command cmd_eval = {
    .name = "eval",
    .summary = "COCO scores of a results file",
    .usage =
        "--annotations GT.json --results DT.json --iou-type bbox|segm [--max-dets 1,10,100] [--json OUT]",
    .details =
        "Prints the twelve numbers of pycocotools' COCOeval, equal to it, and the AP of each category in "
        "percent. "
        "-1 stands where there is nothing to average; lines with n/a say why. With segm a detection's area "
        "is that of its mask, also "
        "where the result has a box besides.",
    .examples =
        {"maskrcnn eval --annotations instances_val2017.json --results results.json --iou-type segm",
         "maskrcnn eval --annotations val.json --results boxes.json --iou-type bbox --json scores.json",
         "maskrcnn eval --annotations val.json --results coco_with_scores.json --iou-type bbox"},
    .options = options,
    .run = run,
};
