/* What `profile` prints and writes, of a training step or of an image: the table, its JSON, the timeline. */
#ifndef BENCH_PROFILE_REPORT_H
#define BENCH_PROFILE_REPORT_H

#include "bench/machine.h"
#include "bench/trace_events.h"
#include "layers/param_store.h"
#include "train/op_table.h"

/* Steps of which each run of an op goes into the timeline. */
enum { PROFILE_TRACED = 5, PROFILE_ROWS = 60 };

typedef struct profile_report {
    const char *what;         /* "training step", "image" */
    const char *json, *trace; /* files; NULL: none */
    op_table_group group;
    op_table *table;
    trace_events events;
    int64_t steps;
    double seconds; /* of all steps */
    size_t peak_rss;
    machine machine;
    precision precision;
} profile_report;

/* Codes of json_output_check for both files; USAGE: they are one. profile_report_close in any case. */
status profile_report_open(profile_report *r, op_table_group group, const char *json, const char *trace);
void profile_report_close(profile_report *r);

/* Before the first step: the timeline begins now. */
void profile_report_begin(profile_report *r, int rank);

/* Whether the step that comes next goes into the timeline. */
bool profile_report_is_traced(const profile_report *r);

/* A tape_run_hook: into the timeline, if the step goes there. The table is the caller's to fill. */
void profile_report_trace_run(void *report, const tape_run *run);
void profile_report_trace(profile_report *r, trace_row row, const char *name, double start, double seconds);

/* A step is over. */
void profile_report_end_step(profile_report *r, double seconds);

/* Measures the machine, prints the table and writes the files. `about` adds keys to the open JSON object; it may be NULL. */
typedef void (*profile_about)(void *context, json_writer *w);
status profile_report_tell(profile_report *r, device *dev, const precision *p, profile_about about,
                           void *context);

#endif
