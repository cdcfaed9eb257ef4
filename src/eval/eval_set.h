/* What scoring needs of a ground truth file and a results file: both read and checked against each other, and their
 * objects grouped by category and image in the order in which pycocotools takes them. Used inside src/eval only. */
#ifndef EVAL_EVAL_SET_H
#define EVAL_EVAL_SET_H

#include "data/coco_parse.h"
#include "eval/coco_eval.h"

struct coco_truth {
    char *path;
    raw_coco raw;
};

typedef struct eval_image {
    int64_t id;
    uint32_t raw;  /* in truth.images */
    bool left_out; /* not among the images that are asked for */
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
    uint32_t truths, detections; /* detections: at most the largest of max_detections */
} eval_pair;

/* What is worth a warning. */
typedef struct eval_notes {
    uint64_t same_ids; /* annotations of which another one with their id takes the place */
    uint64_t zero_ids; /* annotations with id 0, which never match */
    uint64_t unusable; /* annotations left out because of their shape */
    uint64_t unknown;  /* results of categories that the ground truth lacks */
    char first_unusable[256], unknown_ids[128];
} eval_notes;

typedef struct eval_set {
    const char *truth_path, *results_path;
    const raw_coco *truth, *results; /* borrowed */
    const coco_eval_options *options;
    coco_iou_type type;
    eval_image *images; /* ascending by id, of those given twice the last */
    eval_category
        *categories; /* likewise; not looked at where options->classless: then all objects have category 0 */
    eval_ref *truths, *detections;
    eval_pair *pairs; /* ascending by category, then image */
    size_t image_count, category_count, truth_count, detection_count, pair_count;
    eval_notes notes;
} eval_set;

/* Resolves what has been parsed: the first five members of *out are set, the others 0. eval_set_release after a failure
 * too. Codes of coco_eval_results. */
status eval_set_resolve(eval_set *out);
void eval_set_release(eval_set *set); /* truth and results stay */

/* Parses a file with coco_parse_file or coco_parse_results_file. raw_coco_release after a failure too. */
typedef status (*eval_parser)(raw_coco *out, int fd, const char *path);
status eval_parse_file(raw_coco *out, const char *path, eval_parser parser);

#endif
