/* COCO's scores of a results file, equal to pycocotools' COCOeval with its default parameters: ten IoU thresholds from
 * 0.5 to 0.95, recall sampled at 101 points, areas up to 32^2, up to 96^2 and above, 1, 10 and 100 detections of a
 * category in an image. Its habits are kept: an annotation with id 0 is never matched, of annotations with one id the
 * last stands for all of them, a crowd region swallows detections (IoU there: intersection over the detection's area).
 * It differs where a result has a mask and a box: with COCO_IOU_SEGM its area is the mask's, as in detectron2.
 *
 * Results: a list of objects, or a COCO dataset whose annotations have scores; masks as RLE or polygons; ids as numbers
 * or numeric strings. */
#ifndef EVAL_COCO_EVAL_H
#define EVAL_COCO_EVAL_H

#include <stdint.h>
#include <stdio.h>
#include "base/status.h"

typedef enum coco_iou_type { COCO_IOU_BBOX, COCO_IOU_SEGM } coco_iou_type;

/* The twelve numbers in pycocotools' order. */
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

typedef struct coco_class_score {
    int64_t id;
    char *name; /* owned by the scores */
    double ap;  /* -1: no ground truth but crowds */
} coco_class_score;

typedef struct coco_scores {
    double numbers[COCO_NUMBERS]; /* 0..1; -1 where there is nothing to average */
    coco_class_score *classes;    /* ascending by id */
    size_t class_count;
    uint64_t images, objects, detections; /* objects: annotations in the ground truth */
} coco_scores;

/* NO_INPUT, NO_PERMISSION, IO: a file cannot be read. DATA, naming file, object and byte: not JSON; a result of an image
 * or category that the ground truth lacks, without score or shape, or with a mask of another size than its image; ground
 * truth without the shapes that are asked for. OS: no memory. Release *out only after STATUS_OK. */
status coco_eval_files(coco_scores *out, const char *annotations, const char *results, coco_iou_type type);
void coco_scores_release(coco_scores *scores);

/* pycocotools' twelve lines, then a table of AP per class in percent ("n/a" without ground truth). */
void coco_scores_print(FILE *to, const coco_scores *scores);
/* {"AP": .., "AP50": .., "AP75": .., "APs": .., ... "ARl": ..}, digits that read back as the same doubles. Codes of
 * write_file_atomic, OS. */
status coco_scores_write_json(const coco_scores *scores, const char *path);

#endif
