/* What OUTPUT_DIR tells of a run, read back. Nothing in it is needed: what is absent stays unknown, what cannot be read is
 * noted and left out. */
#ifndef REPORT_RUN_RECORD_H
#define REPORT_RUN_RECORD_H

#include "base/status.h"
#include "report/evaluation_record.h"
#include "report/metrics_record.h"

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

enum { RUN_RECORD_NOTES = 8, RUN_RECORD_NOTE = 512 };

typedef struct run_record {
    char *folder;                      /* absolute path; owned, as the other texts */
    char *state, *reason, *checkpoint; /* run_status.json; NULL: unknown, or none */
    int64_t iterations;                /* finished ones; -1 */
    time_t written;                    /* the last word of the run; 0 */
    int64_t ranks, images_per_batch;   /* -1 */
    int64_t max_iterations;            /* -1 */
    char *datasets;                    /* DATASETS.TRAIN as config.yaml has it; NULL */
    double throughput;                 /* img/s over iterations 100-500, from the log; NaN */
    char *config;                      /* config.yaml; NULL */
    metrics_record metrics;
    evaluation_record evaluations;
    char notes[RUN_RECORD_NOTES][RUN_RECORD_NOTE]; /* what could not be read, and why */
    int note_count;
} run_record;

/* NO_INPUT: no such folder, or none of a run's files in it; OS. Release it also after a failure. */
status run_record_read(run_record *out, const char *folder);
void run_record_release(run_record *r);

/* Images per second: the log's number, or of the lines of metrics.json with iterations 100..499 (*is_whole false), or of all
 * lines but the first (*is_whole true). NaN where there is nothing to tell it from. */
double run_record_throughput(const run_record *r, bool *is_whole);

/* Seconds in steps: of each line its time for all iterations since the line before. NaN where no line has a time. */
double run_record_step_seconds(const run_record *r);

#endif
