/* Scores as text: pycocotools' lines, tables per class, JSON, and the lines that detectron2's users copy. */
#ifndef EVAL_EVAL_REPORT_H
#define EVAL_EVAL_REPORT_H

#include <stdio.h>
#include "base/json_write.h"
#include "eval/coco_eval.h"

/* "bbox" or "segm". */
const char *coco_iou_type_name(coco_iou_type type);

/* pycocotools' twelve lines, digit for digit, and below them, for numbers that are -1 or 0 for want of anything to
 * compare, "n/a" lines with the reason. */
void coco_scores_print(FILE *to, const coco_scores *scores);

/* A table of AP per class in percent, boxes and masks side by side; either may be NULL. "n/a" without ground truth. */
void coco_classes_print(FILE *to, const coco_scores *boxes, const coco_scores *masks);

/* Logs detectron2's three `copypaste:` lines (AP,AP50,AP75,APs,APm,APl in percent with 4 decimals, nan where there is
 * none, or no detection at all) and "box AP: 23.45" or "mask AP: 23.45" ("n/a" instead, with the reason). */
void coco_scores_log(const coco_scores *scores);

/* {"AP": .., "AP50": .., "AP75": .., "APs": .., ... "ARl": ..} as a value, digits that read back as the same doubles;
 * AR1, AR10 and AR100 are named by the limits. */
void coco_scores_json(json_writer *to, const coco_scores *scores);
/* [{"id": 1, "name": "disk", "bbox": 0.31, "segm": 0.29}, ...]; either may be NULL, -1 without ground truth. */
void coco_classes_json(json_writer *to, const coco_scores *boxes, const coco_scores *masks);
/* The object of coco_scores_json as a file. Codes of write_file_atomic, OS. */
status coco_scores_write_json(const coco_scores *scores, const char *path);

#endif
