/* evaluations.json of a run: one JSON object per line and evaluated dataset,
 *   {"iteration": 499, "dataset": "val", "images": 16, "seconds": 3.2, "bbox": {"AP": 0.31, ...}, "segm": {...},
 *    "classes": [{"id": 1, "name": "disk", "bbox": 0.31, "segm": 0.29}], "validation_loss": 0.9}
 * or, of an RPN alone, "box_proposals": {"AR@100": 0.2, ...} instead of bbox, segm and classes.
 * Scores are 0..1, -1 where there was nothing to average. All keys but the iteration may be absent. */
#ifndef REPORT_EVALUATION_RECORD_H
#define REPORT_EVALUATION_RECORD_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

enum { EVALUATION_MAX_SCORES = 16, EVALUATION_SCORE_NAME = 16 };

typedef enum evaluation_task { TASK_BBOX, TASK_SEGM, TASK_PROPOSALS, EVALUATION_TASKS } evaluation_task;

typedef struct evaluation_score {
    char name[EVALUATION_SCORE_NAME]; /* "AP", "AP50", ... as in the file */
    double values[EVALUATION_TASKS];  /* NaN where the file has none */
} evaluation_score;

typedef struct evaluation_class {
    char *name; /* owned, NULL where the file has none */
    int64_t id;
    double ap[EVALUATION_TASKS]; /* NaN where the file has none */
} evaluation_class;

typedef struct evaluation {
    int64_t iteration; /* of the last step before it, counted from 0; -1: weights from elsewhere */
    char *dataset;     /* owned; "" where the file has none */
    int64_t images;    /* -1 where the file has none */
    double seconds;    /* NaN where the file has none, as validation_loss */
    double validation_loss;
    evaluation_score scores[EVALUATION_MAX_SCORES]; /* in the order of the file */
    int score_count;
    evaluation_class *classes; /* owned */
    int class_count, class_capacity;
} evaluation;

typedef struct evaluation_record {
    evaluation *items; /* in the order of the file */
    int count, capacity;
    int64_t unread_lines;
} evaluation_record;

/* What cannot be read is counted and left out. OS. Release it also after a failure. */
status evaluation_record_parse(evaluation_record *out, const char *text, size_t size);
void evaluation_record_release(evaluation_record *record);

/* "AP" of a task, of proposals "AR@1000"; NaN where there is none or nothing was to be averaged. */
double evaluation_ap(const evaluation *e, evaluation_task task);

#endif
