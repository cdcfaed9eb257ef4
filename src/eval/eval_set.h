/* What scoring needs of a ground truth file and a results file: both read and checked against each other, and their
 * objects grouped by category and image in the order in which pycocotools takes them. Used inside src/eval only. */
#ifndef EVAL_EVAL_SET_H
#define EVAL_EVAL_SET_H

#include "data/coco_parse.h"
#include "eval/coco_eval.h"

enum { EVAL_MAX_DETECTIONS = 100 }; /* of one category in one image; those of lower score do not count */

typedef struct eval_image {
    int64_t id;
    uint32_t raw; /* in truth.images */
} eval_image;

typedef struct eval_category {
    int64_t id;
    uint32_t raw; /* in truth.categories */
} eval_category;

/* An object of a category and an image (indices of the tables below). */
typedef struct eval_ref {
    uint32_t category, image;
    uint64_t order; /* among the objects of one category and image; detections: after the score */
    uint32_t raw;   /* in truth.annotations or results.annotations */
    double score;
} eval_ref;

/* A category and an image that share any object. */
typedef struct eval_pair {
    uint32_t category, image;
    size_t first_truth, first_detection;
    uint32_t truths, detections; /* detections: at most EVAL_MAX_DETECTIONS */
} eval_pair;

typedef struct eval_set {
    const char *truth_path, *results_path;
    coco_iou_type type;
    raw_coco truth, results;
    eval_image *images;        /* ascending by id, of those given twice the last */
    eval_category *categories; /* likewise */
    eval_ref *truths, *detections;
    eval_pair *pairs; /* ascending by category, then image */
    size_t image_count, category_count, truth_count, detection_count, pair_count;
} eval_set;

/* Reads both files. eval_set_release after a failure too. Codes of coco_eval_files. */
status eval_set_open(eval_set *out, const char *truth_path, const char *results_path, coco_iou_type type);
/* Resolves what has been parsed into out->truth and out->results (paths and type set); eval_set_open ends with it. */
status eval_set_resolve(eval_set *out);
void eval_set_release(eval_set *set);

#endif
