/* metrics.json of a run as columns of numbers, for drawing. */
#ifndef REPORT_METRICS_RECORD_H
#define REPORT_METRICS_RECORD_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

enum { METRICS_RECORD_LOSSES = 8, METRICS_RECORD_NAME = 32 };

typedef enum metrics_column {
    METRICS_ITERATION, /* whole, rising from line to line */
    METRICS_TOTAL_LOSS,
    METRICS_LR,
    METRICS_TIME,      /* seconds of an iteration */
    METRICS_DATA_TIME, /* seconds of it spent waiting for data */
    METRICS_GRAD_NORM,
    METRICS_SKIPPED_IMAGES, /* since the run began */
    METRICS_FIRST_LOSS,     /* the single losses: those whose names begin with loss_ */
    METRICS_COLUMNS = METRICS_FIRST_LOSS + METRICS_RECORD_LOSSES
} metrics_column;

typedef struct metrics_record {
    double *columns
        [METRICS_COLUMNS]; /* [count] each; NaN where a line has no number. Owned; NULL where count is 0 */
    int64_t count, capacity;
    char loss_names[METRICS_RECORD_LOSSES][METRICS_RECORD_NAME];
    int loss_count;
    int64_t unread_lines; /* not an object with an iteration behind that of the line before, or torn */
} metrics_record;

/* Lines of JSON objects; what cannot be read is counted and left out. OS. Release it also after a failure. */
status metrics_record_parse(metrics_record *out, const char *text, size_t size);
void metrics_record_release(metrics_record *record);

#endif
