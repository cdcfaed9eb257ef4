/* Recall of proposals, equal to detectron2's evaluation of box_proposals: objects of all classes, matched one by one with
 * the proposals of highest IoU, the best covered object first; recall is averaged over the IoU thresholds 0.5, 0.55, ..
 * 0.95. Its habits are kept: crowds do not count; single precision; an image without any proposal does not count, nor do
 * its objects; the area of an object is its annotation's "area" (its box's where there is none), both ends of a range
 * belong to it. Of equal scores the file's order decides. */
#ifndef EVAL_PROPOSAL_RECALL_H
#define EVAL_PROPOSAL_RECALL_H

#include <stdio.h>
#include "base/json_write.h"
#include "eval/coco_eval.h"

enum { RECALL_LIMITS = 2, RECALL_AREAS = 4 };

typedef struct proposal_recall {
    /* 0..1 with the 100 and the 1000 best proposals of each image, over all objects, those up to 32^2, up to 96^2 and
     * above; -1: there are no such objects. */
    double ar[RECALL_LIMITS][RECALL_AREAS];
    uint64_t images, proposals;     /* images: with objects and proposals */
    uint64_t objects[RECALL_AREAS]; /* in them */
} proposal_recall;

/* Scores a results file, whose categories are not looked at. Of `options` only the images and skip_unusable count. Codes
 * of coco_eval_results. */
status proposal_recall_results(proposal_recall *out, const coco_truth *truth, const char *results,
                               const coco_eval_options *options);

/* "AR@100", "ARs@100", ... "ARl@1000"; `number` 0..7. */
enum { RECALL_NUMBERS = RECALL_LIMITS * RECALL_AREAS };
const char *proposal_recall_name(int number);
double proposal_recall_number(const proposal_recall *r, int number);

/* A line for each number. */
void proposal_recall_print(FILE *to, const proposal_recall *r);
/* detectron2's three `copypaste:` lines, in percent; nan where there is none. */
void proposal_recall_log(const proposal_recall *r);
/* {"AR@100": .., "ARs@100": .., ...} as a value, digits that read back as the same doubles. */
void proposal_recall_json(json_writer *to, const proposal_recall *r);
/* The object as a file. Codes of write_file_atomic, OS. */
status proposal_recall_write_json(const proposal_recall *r, const char *path);

#endif
