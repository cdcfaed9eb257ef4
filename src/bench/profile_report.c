#include "bench/profile_report.h"

#include "base/clock.h"
#include "base/host_memory.h"
#include "bench/json_output.h"
#include "setup/setup.h"

#include <stdlib.h>
#include <string.h>

status profile_report_open(profile_report *r, op_table_group group, const char *json, const char *trace) {
    *r = (profile_report){.json = json, .trace = trace, .group = group, .table = op_table_new(group)};
    if (json && trace && strcmp(json, trace) == 0)
        return error_set(STATUS_USAGE, "give them different names", "--json and --trace both name %s", json);
    RETURN_IF_ERROR(json_output_check(json));
    return json_output_check(trace);
}

void profile_report_close(profile_report *r) {
    op_table_free(r->table);
    if (r->events.json.text) trace_events_release(&r->events);
}

void profile_report_begin(profile_report *r, int rank) {
    trace_events_begin(&r->events, rank, clock_seconds());
}

bool profile_report_is_traced(const profile_report *r) {
    return r->trace && r->steps < PROFILE_TRACED;
}

void profile_report_trace_run(void *report, const tape_run *run) {
    profile_report *r = report;
    char name[64];
    if (!profile_report_is_traced(r)) return;
    snprintf(name, sizeof name, "%s%s", run->op->name, run->backward ? " backward" : "");
    trace_events_begin_event(&r->events, TRACE_COMPUTE, name, run->start, run->seconds);
    json_writer *w = &r->events.json;
    json_output_text(w, "layer", run->layer);
    json_output_f64(w, "gflop", 1e-9 * run->cost.flops);
    json_output_f64(w, "mb", 1e-6 * (run->cost.read_bytes + run->cost.written_bytes));
    trace_events_end_event(&r->events);
}

void profile_report_trace(profile_report *r, trace_row row, const char *name, double start, double seconds) {
    if (!profile_report_is_traced(r)) return;
    trace_events_begin_event(&r->events, row, name, start, seconds);
    trace_events_end_event(&r->events);
}

void profile_report_end_step(profile_report *r, double seconds) {
    r->steps++;
    r->seconds += seconds;
}

static op_table_peaks peaks_of(const machine *m) {
    return (op_table_peaks){.flops = 1e9 * m->gemm_gflops, .bytes = 1e9 * m->memory_gb_per_s};
}

static void write_row(json_writer *w, const op_table_row *row, const op_table_peaks *peaks) {
    char name[OP_TABLE_NAME + 16];
    bool of_memory;
    double share = op_table_peak_share(row, peaks, &of_memory);
    double bytes = row->cost.read_bytes + row->cost.written_bytes;
    snprintf(name, sizeof name, "%s%s%s", row->name, row->direction[0] ? " " : "", row->direction);
    json_write_begin_object(w);
    json_output_text(w, "name", name);
    json_output_text(w, "direction", row->direction);
    json_output_f64(w, "mean_ms", 1e3 * row->mean);
    json_output_f64(w, "stddev_ms", 1e3 * row->deviation);
    json_output_f64(w, "count", row->calls);
    json_output_f64(w, "percent", 100 * row->share);
    json_output_f64(w, "read_bytes", row->cost.read_bytes);
    json_output_f64(w, "written_bytes", row->cost.written_bytes);
    json_output_f64(w, "flops", row->cost.flops);
    json_output_f64(w, "gb_per_s", row->mean > 0 ? 1e-9 * bytes / row->mean : 0);
    json_output_f64(w, "gflop_per_s", row->mean > 0 ? 1e-9 * row->cost.flops / row->mean : 0);
    json_output_f64(w, "peak_share", share);
    json_output_text(w, "bound", share > 0 ? (of_memory ? "memory" : "flops") : "");
    json_write_end_object(w);
}

/* What all rows cost, and the time that this takes at the measured rate of products. */
static op_cost cost_of(const profile_report *r, double *floor_seconds) {
    op_cost sum = {0};
    int count;
    op_table_row *rows = op_table_rows(r->table, &count);
    for (int i = 0; i < count; i++) {
        sum.flops += rows[i].cost.flops;
        sum.read_bytes += rows[i].cost.read_bytes;
        sum.written_bytes += rows[i].cost.written_bytes;
    }
    free(rows);
    *floor_seconds = r->machine.gemm_gflops > 0 ? 1e-9 * sum.flops / r->machine.gemm_gflops : 0;
    return sum;
}

static status write_json(const profile_report *r, profile_about about, void *context) {
    static const char *const groups[] = {"op", "layer", "call"};
    json_writer w;
    int count;
    op_table_peaks peaks = peaks_of(&r->machine);
    op_table_row *rows = op_table_rows(r->table, &count);
    json_write_init(&w);
    json_write_begin_object(&w);
    json_output_text(&w, "what", r->what);
    json_output_f64(&w, "step_ms", 1e3 * r->seconds / (double)r->steps);
    json_output_i64(&w, "steps", r->steps);
    json_output_text(&w, "by", groups[r->group]);
    json_output_text(&w, "device", r->machine.device);
    json_output_text(&w, "precision", setup_precision_name(&r->precision));
    double floor_seconds;
    op_cost cost = cost_of(r, &floor_seconds);
    json_output_f64(&w, "gflop", 1e-9 * cost.flops);
    json_output_f64(&w, "gb", 1e-9 * (cost.read_bytes + cost.written_bytes));
    json_output_f64(&w, "floor_ms", 1e3 * floor_seconds);
    if (about) about(context, &w);
    json_write_key(&w, "ops");
    json_write_begin_array(&w);
    for (int i = 0; i < count; i++) write_row(&w, &rows[i], &peaks);
    json_write_end_array(&w);
    json_output_f64(&w, "peak_rss_mib", (double)r->peak_rss / 0x1p20);
    machine_write_json(&w, &r->machine);
    json_write_end_object(&w);
    status s = json_output_write(r->json, &w);
    json_write_release(&w);
    free(rows);
    return s;
}

status profile_report_tell(profile_report *r, device *dev, const precision *p, profile_about about,
                           void *context) {
    r->precision = *p;
    r->peak_rss = host_memory_peak(); /* not of the arrays that measure the machine */
    machine_describe(&r->machine, dev);
    RETURN_IF_ERROR(machine_measure(&r->machine, dev, p->storage, p->tf32));
    op_table_peaks peaks = peaks_of(&r->machine);
    machine_print(&r->machine, stdout);
    printf("%s: %.3f ms, mean of %lld\n", r->what, 1e3 * r->seconds / (double)r->steps, (long long)r->steps);
    double floor_seconds, step = r->seconds / (double)r->steps;
    op_cost cost = cost_of(r, &floor_seconds);
    printf("%.3f GFLOP, %.3f GB read and written; at the rate of products alone %.3f ms, %.1f %% of that\n",
           1e-9 * cost.flops, 1e-9 * (cost.read_bytes + cost.written_bytes), 1e3 * floor_seconds,
           100 * floor_seconds / step);
    op_table_print(r->table, stdout, &peaks, r->group == OP_TABLE_BY_OP ? 0 : PROFILE_ROWS);
    RETURN_IF_ERROR(write_json(r, about, context));
    return r->trace ? trace_events_write(&r->events, r->trace) : STATUS_OK;
}
