/* maskrcnn eval: COCO's scores of weights on a data set, or of a results file. */
#include "cli/cli.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/thread_pool.h"
#include "eval/coco_eval.h"
#include "eval/eval_report.h"
#include "eval/proposal_recall.h"
#include "evaluate/evaluation_job.h"

enum { MAX_LIMIT = 1000000 };

static const cli_option options[] = {
    {.name = "config", .value = "FILE", .help = "configuration file: evaluates weights on DATASETS.TEST"},
    {.name = "weights", .value = "FILE", .help = "with --config: safetensors file; replaces MODEL.WEIGHTS"},
    {.name = "device",
     .value = "NAME",
     .help = "with --config: cpu or cuda; default: the GPU where there is one",
     .choices = "cpu|cuda"},
    {.name = "annotations",
     .value = "GT.json",
     .help = "ground truth of a results file: a COCO annotation file"},
    {.name = "results",
     .value = "DT.json",
     .help = "detections to score: a list of objects with image_id, category_id, score and bbox or "
             "segmentation, or a COCO dataset whose annotations have scores"},
    {.name = "iou-type",
     .value = "TYPE",
     .help = "with --results: bbox compares boxes, segm masks; proposals: recall of boxes without classes",
     .choices = "bbox|segm|proposals"},
    {.name = "max-dets",
     .value = "N,N,N",
     .help =
         "with --results: detections of a category in an image that count: AR is given at each, all else at "
         "the last; 1,10,100 without it (with --config: TEST.MAX_DETS)"},
    {.name = "json", .value = "OUT", .help = "write the numbers to this file, at full precision"},
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

static status open_truth(coco_truth **truth, const cli_args *args) {
    status s = coco_truth_open(truth, cli_value(args, "annotations"));
    if (s == STATUS_NO_INPUT) error_set_remedy("check the path given to --annotations");
    return s;
}

static status check_results(status s) {
    if (s == STATUS_NO_INPUT) error_set_remedy("check the path given to --results");
    return s;
}

static status score_detections(const cli_args *args, const coco_truth *truth,
                               const coco_eval_options *wanted) {
    coco_iou_type type = wanted->types[COCO_IOU_SEGM] ? COCO_IOU_SEGM : COCO_IOU_BBOX;
    coco_scores all[COCO_IOU_TYPES], *scores = &all[type];
    const char *json = cli_value(args, "json");
    RETURN_IF_ERROR(check_results(coco_eval_results(all, truth, cli_value(args, "results"), wanted)));
    printf("%llu images, %llu objects, %llu detections\n", (unsigned long long)scores->images,
           (unsigned long long)scores->objects, (unsigned long long)scores->detections);
    coco_scores_print(stdout, scores);
    putchar('\n');
    coco_classes_print(stdout, type == COCO_IOU_BBOX ? scores : NULL, type == COCO_IOU_SEGM ? scores : NULL);
    status s = json ? coco_scores_write_json(scores, json) : STATUS_OK;
    coco_scores_release(scores);
    return s;
}

static status score_proposals(const cli_args *args, const coco_truth *truth) {
    proposal_recall recall;
    const char *json = cli_value(args, "json");
    RETURN_IF_ERROR(check_results(
        proposal_recall_results(&recall, truth, cli_value(args, "results"), &coco_eval_defaults)));
    proposal_recall_print(stdout, &recall);
    return json ? proposal_recall_write_json(&recall, json) : STATUS_OK;
}

static status score_file(const cli_args *args) {
    const char *type = cli_value(args, "iou-type"), *limits = cli_value(args, "max-dets");
    bool proposals = strcmp(type, "proposals") == 0;
    coco_eval_options wanted = coco_eval_defaults;
    wanted.types[strcmp(type, "segm") == 0 ? COCO_IOU_SEGM : COCO_IOU_BBOX] = true;
    if (limits && proposals)
        return error_set(STATUS_USAGE, "leave --max-dets away",
                         "eval: --max-dets: the recall of proposals is that of 100 and of 1000");
    if (limits) RETURN_IF_ERROR(parse_limits(wanted.max_detections, limits));
    coco_truth *truth;
    RETURN_IF_ERROR(open_truth(&truth, args));
    thread_pool_start(thread_pool_usable_cores());
    status s = proposals ? score_proposals(args, truth) : score_detections(args, truth, &wanted);
    thread_pool_stop();
    coco_truth_free(truth);
    return s;
}

static status evaluate_weights(const cli_args *args) {
    config cfg;
    RETURN_IF_ERROR(cli_load_config(&cfg, args));
    status s = evaluation_job_run(&cfg, cli_value(args, "json"));
    config_release(&cfg);
    return s;
}

/* The first of the options that was given; NULL: none. */
static const char *find_given(const cli_args *args, const char *const *names) {
    for (int i = 0; names[i]; i++)
        if (cli_value(args, names[i])) return names[i];
    return NULL;
}

static const char forms[] = "either --config FILE --weights FILE [KEY VALUE...], or --annotations GT.json "
                            "--results DT.json --iou-type "
                            "bbox|segm|proposals";

/* The command has two forms; options of one mean nothing in the other. */
static status run(const cli_args *args) {
    static const char *const of_config[] = {"config", "weights", "device", NULL}, *const of_file[] = {
                                                                                      "annotations",
                                                                                      "results", "iou-type",
                                                                                      "max-dets", NULL};
    const char *config_option = find_given(args, of_config), *file_option = find_given(args, of_file);
    if (config_option && file_option)
        return error_set(STATUS_USAGE, forms, "eval: --%s and --%s do not go together", config_option,
                         file_option);
    if (!config_option && !file_option)
        return error_set(STATUS_USAGE, forms, "eval: neither --config nor --annotations is given");
    if (config_option && !cli_value(args, "config"))
        return error_set(STATUS_USAGE, forms, "eval: --%s needs --config", config_option);
    if (config_option) return evaluate_weights(args);
    for (int i = 0; i < 3; i++)
        if (!cli_value(args, of_file[i]))
            return error_set(STATUS_USAGE, forms, "eval: --%s is missing", of_file[i]);
    if (args->override_count > 0)
        return error_set(STATUS_USAGE, forms, "eval: %.100s: configuration keys need --config",
                         args->overrides[0]);
    RETURN_IF_ERROR(cli_check_one_process("eval --results"));
    return score_file(args);
}

const cli_command cmd_eval = {
    .name = "eval",
    .summary = "COCO scores of weights on a data set, or of a results file",
    .usage =
        "--config FILE --weights FILE [--json OUT] [KEY VALUE...] | --annotations GT.json --results DT.json "
        "--iou-type bbox|segm|proposals [--max-dets 1,10,100] [--json OUT]",
    .details =
        "With --config: detects in the images of DATASETS.TEST, under mpirun on all ranks, and writes "
        "coco_instances_results.json, evaluations.json and pictures to OUTPUT_DIR. The weights must fit the "
        "configuration, and their classes the data set's. With --results: scores that file alone. Both print "
        "the "
        "twelve numbers of pycocotools' COCOeval, equal to it, and the AP of each category in percent. -1 "
        "stands "
        "where there is nothing to average; lines with n/a say why. With segm a detection's area is that of "
        "its "
        "mask, also where the result has a box besides. Of an RPN alone (MODEL.META_ARCHITECTURE "
        "ProposalNetwork), "
        "and with proposals, it is the recall of the 100 and the 1000 best boxes of an image, whatever their "
        "class, by "
        "detectron2's rules.",
    .examples =
        {"mpirun -n 2 maskrcnn eval --config output/config.yaml --weights output/model_final.safetensors "
         "DATASETS.TEST val.json:images",
         "maskrcnn eval --annotations instances_val2017.json --results results.json --iou-type segm",
         "maskrcnn eval --annotations val.json --results boxes.json --iou-type bbox --json scores.json"},
    .options = options,
    .overrides = true,
    .run = run,
};
