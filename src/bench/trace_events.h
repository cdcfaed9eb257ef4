/* A timeline in the format of Chrome's trace viewer (chrome://tracing, Perfetto): one process for each rank, a row for the host
 * and for each stream of the device. */
#ifndef BENCH_TRACE_EVENTS_H
#define BENCH_TRACE_EVENTS_H

#include "base/json_write.h"

typedef enum trace_row { TRACE_HOST, TRACE_COMPUTE, TRACE_COPY, TRACE_COMM, TRACE_ROWS } trace_row;

typedef struct trace_events {
    json_writer json;
    int rank;
    double origin; /* seconds that the timeline begins at */
} trace_events;

void trace_events_begin(trace_events *t, int rank, double origin);

/* An event from `start` on, as clock_seconds has it. Within one between begin_event and end_event json_output_... adds to its
 * arguments. */
void trace_events_begin_event(trace_events *t, trace_row row, const char *name, double start, double seconds);
void trace_events_end_event(trace_events *t);

/* Codes of json_output_write. trace_events_release in any case. */
status trace_events_write(trace_events *t, const char *path);
void trace_events_release(trace_events *t);

#endif
