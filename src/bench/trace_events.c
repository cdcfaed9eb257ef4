#include "bench/trace_events.h"

#include "bench/json_output.h"

/* What names a process or a row. */
static void name_it(trace_events *t, const char *kind, int row, const char *name) {
    json_writer *w = &t->json;
    json_write_begin_object(w);
    json_output_text(w, "name", kind);
    json_output_text(w, "ph", "M");
    json_output_i64(w, "pid", t->rank);
    json_output_i64(w, "tid", row);
    json_write_key(w, "args");
    json_write_begin_object(w);
    json_output_text(w, "name", name);
    json_write_end_object(w);
    json_write_end_object(w);
}

void trace_events_begin(trace_events *t, int rank, double origin) {
    static const char *const rows[TRACE_ROWS] = {"host", "compute", "copy", "comm"};
    char process[32];
    *t = (trace_events){.rank = rank, .origin = origin};
    snprintf(process, sizeof process, "rank %d", rank);
    json_write_init(&t->json);
    json_write_begin_object(&t->json);
    json_output_text(&t->json, "displayTimeUnit", "ms");
    json_write_key(&t->json, "traceEvents");
    json_write_begin_array(&t->json);
    name_it(t, "process_name", TRACE_HOST, process);
    for (int row = 0; row < TRACE_ROWS; row++) name_it(t, "thread_name", row, rows[row]);
}

void trace_events_begin_event(trace_events *t, trace_row row, const char *name, double start,
                              double seconds) {
    json_writer *w = &t->json;
    json_write_begin_object(w);
    json_output_text(w, "name", name);
    json_output_text(w, "ph", "X");
    json_output_f64(w, "ts", 1e6 * (start - t->origin));
    json_output_f64(w, "dur", 1e6 * seconds);
    json_output_i64(w, "pid", t->rank);
    json_output_i64(w, "tid", row);
    json_write_key(w, "args");
    json_write_begin_object(w);
}

void trace_events_end_event(trace_events *t) {
    json_write_end_object(&t->json);
    json_write_end_object(&t->json);
}

status trace_events_write(trace_events *t, const char *path) {
    json_write_end_array(&t->json);
    json_write_end_object(&t->json);
    return json_output_write(path, &t->json);
}

void trace_events_release(trace_events *t) {
    json_write_release(&t->json);
}
