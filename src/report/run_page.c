#include "report/run_page.h"

#include "report/page_pictures.h"
#include "report/page_style.h"

#include "base/file_util.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Colours are known for the states that run_status.h names. */
static const char *state_class(const char *state) {
    static const char *const known[] = {"done", "failed", "running"};
    for (size_t i = 0; state && i < sizeof known / sizeof *known; i++)
        if (strcmp(state, known[i]) == 0) return known[i];
    return "other";
}

static void format_time(char out[32], time_t time) {
    struct tm parts;
    if (!gmtime_r(&time, &parts) || strftime(out, 32, "%Y-%m-%d %H:%M UTC", &parts) == 0) out[0] = '\0';
}

static void draw_head(markup *page, const run_record *r) {
    const char *slash = strrchr(r->folder, '/'), *name = slash && slash[1] ? slash + 1 : r->folder;
    const char *state = r->state ? r->state : "state unknown";
    markup_put(page,
               "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\n"
               "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src &#39;none&#39;; style-src "
               "&#39;unsafe-inline&#39;; img-src data:\"/>\n"
               "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>");
    markup_text(page, name);
    markup_put(page, " - ");
    markup_text(page, state);
    markup_put(page, "</title>\n<style>\n");
    markup_put(page, page_style);
    markup_put(page, "</style></head>\n<body><main>\n<h1>");
    markup_text(page, name);
    markup_format(page, " <span class=\"state %s\">", state_class(r->state));
    markup_text(page, state);
    markup_put(page, "</span></h1>\n<p class=\"path\">");
    markup_text(page, r->folder);
    markup_put(page, "</p>\n");
    if (r->reason) {
        markup_format(page, "<p class=\"reason %s\">", state_class(r->state));
        markup_text(page, r->reason);
        markup_put(page, "</p>\n");
    }
}

/* --- key figures ----------------------------------------------------------------------------------------------------- */

static void begin_figure(markup *page, const char *name) {
    markup_format(page, "<div><dt>%s</dt><dd>", name);
}
static void end_figure(markup *page) {
    markup_put(page, "</dd></div>\n");
}

static void draw_iterations(markup *page, const run_record *r) {
    const metrics_record *m = &r->metrics;
    if (r->iterations >= 0) {
        begin_figure(page, "Iterations");
        markup_format(page, "%" PRId64, r->iterations);
        if (r->max_iterations >= 0) markup_format(page, " <small>of %" PRId64 "</small>", r->max_iterations);
        end_figure(page);
    }
    if (m->count && isfinite(m->columns[METRICS_TOTAL_LOSS][m->count - 1])) {
        begin_figure(page, "Total loss");
        markup_format(page, "%.4g <small>at iteration %.0f</small>",
                      m->columns[METRICS_TOTAL_LOSS][m->count - 1],
                      m->columns[METRICS_ITERATION][m->count - 1]);
        end_figure(page);
    }
}

/* The best and the last AP of the dataset that was scored last. */
static void draw_ap(markup *page, const evaluation_record *record, evaluation_task task, const char *name) {
    const evaluation *last = record->count ? &record->items[record->count - 1] : NULL, *best = NULL;
    for (int i = 0; i < record->count; i++) {
        const evaluation *e = &record->items[i];
        double ap = evaluation_ap(e, task);
        if (strcmp(e->dataset, last->dataset) != 0 || !(ap <= 1)) continue;
        if (!best || ap > evaluation_ap(best, task)) best = e;
    }
    if (!best) return;
    double ap = evaluation_ap(last, task);
    begin_figure(page, name);
    if (ap <= 1)
        markup_format(page, "%.2f %%", 100 * ap);
    else
        markup_put(page, "n/a");
    if (record->count > 1) {
        markup_format(page, " <small>best %.2f", 100 * evaluation_ap(best, task));
        if (best->iteration >= 0) markup_format(page, " at iteration %" PRId64, best->iteration);
        markup_put(page, "</small>");
    }
    if (*last->dataset) {
        markup_put(page, "<small>");
        markup_text(page, last->dataset);
        markup_put(page, "</small>");
    }
    end_figure(page);
}

static void draw_speed(markup *page, const run_record *r) {
    bool is_whole;
    double speed = run_record_throughput(r, &is_whole), seconds = run_record_step_seconds(r);
    if (isfinite(speed)) {
        begin_figure(page, "Throughput");
        markup_format(page, "%.3g img/s <small>%s</small>", speed,
                      is_whole ? "all lines of metrics.json but the first" : "iterations 100-500");
        end_figure(page);
    }
    if (r->ranks > 0 || r->images_per_batch >= 0) {
        begin_figure(page, "Ranks");
        if (r->ranks > 0)
            markup_format(page, "%" PRId64, r->ranks);
        else
            markup_put(page, "unknown");
        if (r->images_per_batch >= 0)
            markup_format(page, " <small>%" PRId64 " images per iteration</small>", r->images_per_batch);
        end_figure(page);
    }
    if (seconds >= 0 && seconds < 1e12) {
        long long s = (long long)(seconds + 0.5);
        begin_figure(page, "Time in steps");
        markup_format(page, "%lld:%02lld:%02lld <small>h:mm:ss, from metrics.json</small>", s / 3600,
                      s / 60 % 60, s % 60);
        end_figure(page);
    }
}

static void draw_rest(markup *page, const run_record *r) {
    const metrics_record *m = &r->metrics;
    char time[32];
    double skipped = m->count ? m->columns[METRICS_SKIPPED_IMAGES][m->count - 1] : 0;
    if (skipped > 0) {
        begin_figure(page, "Skipped images");
        markup_format(page, "%.0f", skipped);
        end_figure(page);
    }
    if (r->written > 0) {
        format_time(time, r->written);
        begin_figure(page, "Last written");
        markup_format(page, "%.10s <small>%s</small>", time, strlen(time) > 11 ? time + 11 : "");
        end_figure(page);
    }
    if (r->datasets) {
        begin_figure(page, "Training data");
        markup_put(page, "<small>");
        markup_text(page, r->datasets);
        markup_put(page, "</small>");
        end_figure(page);
    }
    if (r->checkpoint) {
        begin_figure(page, "Last checkpoint");
        markup_put(page, "<small>");
        markup_text(page, r->checkpoint);
        markup_put(page, "</small>");
        end_figure(page);
    }
}

static void draw_tail(markup *page, const run_record *r) {
    if (r->config) {
        markup_put(page, "<section><h2>Configuration</h2>\n<details><summary>config.yaml</summary><pre>");
        markup_text(page, r->config);
        markup_put(page, "</pre></details></section>\n");
    }
    for (int i = 0; i < r->note_count; i++) {
        markup_put(page, "<p class=\"note\">");
        markup_text(page, r->notes[i]);
        markup_put(page, "</p>\n");
    }
    markup_put(page, "</main></body></html>\n");
}

status run_page_draw(markup *page, const run_record *r) {
    char pictures[PATH_MAX];
    draw_head(page, r);
    markup_put(page, "<dl class=\"figures\">\n");
    draw_iterations(page, r);
    draw_ap(page, &r->evaluations, TASK_BBOX, "Box AP");
    draw_ap(page, &r->evaluations, TASK_SEGM, "Mask AP");
    draw_ap(page, &r->evaluations, TASK_PROPOSALS, "Proposals' AR@1000");
    draw_speed(page, r);
    draw_rest(page, r);
    markup_put(page, "</dl>\n");
    RETURN_IF_ERROR(page_charts_draw(page, r));
    RETURN_IF_ERROR(page_tables_draw(page, r));
    RETURN_IF_ERROR(path_join(pictures, r->folder, "pictures"));
    RETURN_IF_ERROR(page_pictures_draw(page, pictures));
    draw_tail(page, r);
    return markup_finish(page);
}
