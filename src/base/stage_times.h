/* Times of the stages of repeated work, and their table: mean and 90th percentile. */
#ifndef BASE_STAGE_TIMES_H
#define BASE_STAGE_TIMES_H

#include "base/status.h"

#include <stdio.h>

enum { STAGE_TIMES_MAX = 16 };

typedef struct stage_times {
    const char *const *names; /* [stages], borrowed */
    int stages;
    double *ms[STAGE_TIMES_MAX + 1]; /* [runs] of each stage; the last one is their sum */
    int runs, capacity;
} stage_times;

void stage_times_init(stage_times *times, const char *const *names, int stages);
void stage_times_release(stage_times *times);

/* One run: ms [stages]. OS. */
status stage_times_add(stage_times *times, const double *ms);

/* Of a stage, or of their sum (stage == stages); 0 without runs. The percentile is the smallest value that at least
 * `percent` % of the runs do not exceed. */
double stage_times_mean(const stage_times *times, int stage);
double stage_times_percentile(const stage_times *times, int stage, double percent);

/* A line for each stage and one for all together; nothing without runs. */
void stage_times_print(const stage_times *times, FILE *to);

#endif
