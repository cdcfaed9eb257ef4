/* COCO's scores of a results file, equal to pycocotools' COCOeval: ten IoU thresholds from 0.5 to 0.95, recall sampled at
 * 101 points, areas up to 32^2, up to 96^2 and above. Its habits are kept: an annotation with id 0 is never matched, of
 * annotations with one id the last stands for all of them, a crowd region swallows detections (IoU there: intersection
 * over the detection's area), "ignore" has no effect, results of categories that the ground truth lacks do not count.
 * It differs in two things. Where a result has a mask and a box, with COCO_IOU_SEGM its area is the mask's, as in
 * detectron2. With other limits of detections every AP is taken at the largest (pycocotools' first AP is -1 then).
 *
 * Results: a list of objects, or a COCO dataset whose annotations have scores; masks as RLE or polygons; ids as numbers
 * or numeric strings. */
#ifndef EVAL_COCO_EVAL_H
#define EVAL_COCO_EVAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

typedef enum coco_iou_type { COCO_IOU_BBOX, COCO_IOU_SEGM, COCO_IOU_TYPES } coco_iou_type;

/* The twelve numbers in pycocotools' order; AR1, AR10 and AR100 stand for the three limits of detections. */
typedef enum coco_number {
    COCO_AP,
    COCO_AP50,
    COCO_AP75,
    COCO_AP_SMALL,
    COCO_AP_MEDIUM,
    COCO_AP_LARGE,
    COCO_AR1,
    COCO_AR10,
    COCO_AR100,
    COCO_AR_SMALL,
    COCO_AR_MEDIUM,
    COCO_AR_LARGE,
    COCO_NUMBERS
} coco_number;

enum { COCO_LIMITS = 3 };

typedef struct coco_eval_options {
    bool types[COCO_IOU_TYPES]; /* what to score by */
    /* Detections of one category in one image that count, by score; rising. AR is given at each, all else at the last. */
    uint32_t max_detections[COCO_LIMITS];
    uint32_t
        detections_per_image; /* all that a detector gives for an image; 0: not known. For a warning only. */
    const int64_t *image_ids; /* [image_count] only these images are scored; NULL: all */
    size_t image_count;
    bool
        skip_unusable; /* ground truth without the shape that is asked for is left out with a warning, no error */
    bool classless; /* categories are not looked at; set by proposal_recall_results itself */
} coco_eval_options;

/* Scored by nothing yet; 1, 10 and 100 detections. */
extern const coco_eval_options coco_eval_defaults;

typedef struct coco_class_score {
    int64_t id;
    char *name;                   /* owned by the scores */
    double ap;                    /* -1: no ground truth but crowds */
    uint64_t objects, detections; /* crowds do not count */
} coco_class_score;

typedef struct coco_scores {
    coco_iou_type type;
    uint32_t max_detections[COCO_LIMITS];
    double numbers[COCO_NUMBERS]; /* 0..1; -1 where there is nothing to average */
    coco_class_score *classes;    /* ascending by id */
    size_t class_count;
    uint64_t images, objects,
        detections; /* objects: annotations that were compared; detections: of known categories */
    /* What was warned of: */
    uint64_t unknown_categories; /* results left out because of their category */
    uint64_t unusable;           /* annotations left out because of their shape */
    uint64_t same_ids, zero_ids; /* annotations with the id of a later one, and with id 0 */
    uint64_t dense_pairs;  /* times that an image has more objects of one category than the largest limit */
    uint64_t dense_images; /* images with more objects than detections_per_image */
    /* What it took: reading the results file (the same for all types), checking and grouping, matching, averaging. */
    struct coco_seconds {
        double read, group, match, average;
    } seconds;
} coco_scores;

/* An annotation file, read once for any number of evaluations. */
typedef struct coco_truth coco_truth;

/* NO_INPUT, NO_PERMISSION, IO: cannot be read. DATA, naming file and byte: not a COCO dataset. OS: no memory. */
status coco_truth_open(coco_truth **out, const char *annotations);
void coco_truth_free(coco_truth *truth);

/* Scores a results file by each type asked for: *scores [COCO_IOU_TYPES], those not asked for are 0. Logs warnings.
 * Codes: those of coco_truth_open for the results; DATA, naming file, object and byte, also for a result of an image that
 * the ground truth lacks, without score or shape, or with a mask of another size than its image, and for ground truth
 * without the shapes that are asked for (with skip_unusable: if none has them). After a failure there is nothing to
 * release. */
status coco_eval_results(coco_scores scores[COCO_IOU_TYPES], const coco_truth *truth, const char *results,
                         const coco_eval_options *options);
/* The same without any results: tells early whether ground truth can be scored. */
status coco_eval_check(const coco_truth *truth, const coco_eval_options *options);
void coco_scores_release(coco_scores *scores);

#endif
