#include "report/run_page.h"

#include "report/svg_chart.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DATASETS = 4 };

static status no_memory(void) {
    return error_set(STATUS_OS, "free some memory", "no memory for a chart");
}

static chart_series column(const metrics_record *m, metrics_column which, const char *name, int colour) {
    return (chart_series){.name = name,
                          .x = m->columns[METRICS_ITERATION],
                          .y = m->columns[which],
                          .count = m->count,
                          .colour = colour};
}

static status draw_losses(markup *page, const metrics_record *m) {
    chart_series total = column(m, METRICS_TOTAL_LOSS, "total_loss", 0), losses[METRICS_RECORD_LOSSES];
    for (int i = 0; i < m->loss_count; i++)
        losses[i] = column(m, METRICS_FIRST_LOSS + i, m->loss_names[i], i % CHART_COLOURS);
    RETURN_IF_ERROR(chart_draw(
        page,
        &(chart){.title = "Total loss", .unit = "", .series = &total, .series_count = 1, .allow_log = true}));
    return chart_draw(page, &(chart){.title = "Losses",
                                     .unit = "",
                                     .series = losses,
                                     .series_count = m->loss_count,
                                     .allow_log = true});
}

/* Images per second, or seconds per iteration where the batch is not known; and the share of waiting. */
static status draw_speed(markup *page, const run_record *r) {
    const metrics_record *m = &r->metrics;
    double *values = malloc(2 * ((size_t)m->count + 1) * sizeof *values);
    if (!values) return no_memory();
    double *speeds = values, *waits = values + m->count;
    bool has_batch = r->images_per_batch > 0;
    for (int64_t i = 0; i < m->count; i++) {
        double time = m->columns[METRICS_TIME][i], data = m->columns[METRICS_DATA_TIME][i];
        bool is_good = time > 1e-9;
        speeds[i] = !is_good ? NAN : has_batch ? (double)r->images_per_batch / time : time;
        waits[i] = is_good && data >= 0 ? 100 * fmin(1, data / time) : NAN;
    }
    chart_series speed = column(m, METRICS_TIME, has_batch ? "throughput" : "time", 0);
    speed.y = speeds;
    chart_series wait = column(m, METRICS_DATA_TIME, "data_time / time", 1);
    wait.y = waits;
    status s = chart_draw(
        page, &(chart){.title = has_batch ? "Throughput" : "Time",
                       .unit = has_batch ? "images per second, all ranks" : "seconds per iteration",
                       .series = &speed,
                       .series_count = 1});
    if (s == STATUS_OK)
        s = chart_draw(page, &(chart){.title = "Waiting for data",
                                      .unit = "% of an iteration's time",
                                      .series = &wait,
                                      .series_count = 1,
                                      .top = 100});
    free(values);
    return s;
}

static status draw_rates(markup *page, const metrics_record *m) {
    chart_series lr = column(m, METRICS_LR, "lr", 0), norm = column(m, METRICS_GRAD_NORM, "grad_norm", 4);
    lr.is_exact = true;
    RETURN_IF_ERROR(
        chart_draw(page, &(chart){.title = "Learning rate", .unit = "", .series = &lr, .series_count = 1}));
    return chart_draw(
        page,
        &(chart){
            .title = "Gradient norm", .unit = "", .series = &norm, .series_count = 1, .allow_log = true});
}

/* --- evaluations --------------------------------------------------------------------------------------------------- */

/* The places of the first evaluations of each dataset; the count. */
static int find_datasets(int first[MAX_DATASETS], const evaluation_record *record) {
    int count = 0;
    for (int i = 0; i < record->count && count < MAX_DATASETS; i++) {
        bool known = false;
        for (int k = 0; k < count; k++)
            known = known || strcmp(record->items[first[k]].dataset, record->items[i].dataset) == 0;
        if (!known) first[count++] = i;
    }
    return count;
}

/* One dataset's numbers over the iterations, which rise; of an iteration that was scored twice the later line counts. */
typedef struct evaluation_curves {
    double *x, *ap[EVALUATION_TASKS], *loss; /* [count]; x owns all */
    int64_t count;
} evaluation_curves;

static bool curves_init(evaluation_curves *c, const evaluation_record *record, const char *dataset) {
    int64_t n = 0;
    *c =
        (evaluation_curves){.x = malloc((EVALUATION_TASKS + 2) * ((size_t)record->count + 1) * sizeof *c->x)};
    if (!c->x) return false;
    for (size_t task = 0; task < EVALUATION_TASKS; task++)
        c->ap[task] = c->x + (task + 1) * (size_t)record->count;
    c->loss = c->x + (EVALUATION_TASKS + 1) * (size_t)record->count;
    for (int i = 0; i < record->count; i++) {
        const evaluation *e = &record->items[i];
        if (strcmp(e->dataset, dataset) != 0 || e->iteration < 0) continue;
        while (n > 0 && c->x[n - 1] >= (double)e->iteration) n--;
        c->x[n] = (double)e->iteration;
        for (int task = 0; task < EVALUATION_TASKS; task++) {
            double ap = evaluation_ap(e, task);
            c->ap[task][n] = ap <= 1 ? 100 * ap : NAN;
        }
        c->loss[n++] = fabs(e->validation_loss) <= 1e100 ? e->validation_loss : NAN;
    }
    c->count = n;
    return true;
}

static bool has_task(const evaluation_curves *c, evaluation_task task) {
    for (int64_t i = 0; i < c->count; i++)
        if (!isnan(c->ap[task][i])) return true;
    return false;
}

static status draw_ap(markup *page, const evaluation_curves *c, const char *dataset) {
    static const char *const names[EVALUATION_TASKS] = {"box AP", "mask AP", "AR@1000 of proposals"};
    bool proposals = has_task(c, TASK_PROPOSALS);
    int first = proposals ? TASK_PROPOSALS : TASK_BBOX, count = proposals ? 1 : 2;
    chart_series series[2];
    for (int i = 0; i < count; i++)
        series[i] = (chart_series){.name = names[first + i],
                                   .x = c->x,
                                   .y = c->ap[first + i],
                                   .count = c->count,
                                   .colour = i,
                                   .is_exact = true};
    if (c->count < 2) return STATUS_OK;
    markup unit = {0};
    markup_put(&unit, "%, ");
    markup_text(&unit, dataset);
    status s = markup_finish(&unit);
    if (s == STATUS_OK)
        s = chart_draw(page, &(chart){.title = proposals ? "AR" : "AP",
                                      .unit = *dataset ? unit.text : "%",
                                      .series = series,
                                      .series_count = count});
    markup_release(&unit);
    return s;
}

static status draw_evaluations(markup *page, const run_record *r) {
    const evaluation_record *record = &r->evaluations;
    int first[MAX_DATASETS], count = find_datasets(first, record), made = 0;
    evaluation_curves curves[MAX_DATASETS];
    chart_series series[MAX_DATASETS + 1] = {column(&r->metrics, METRICS_TOTAL_LOSS, "training", 0)};
    status s = STATUS_OK;
    bool any = false;
    for (int i = 0; i < count && s == STATUS_OK; i++) {
        const char *dataset = record->items[first[i]].dataset;
        if (!curves_init(&curves[i], record, dataset)) {
            s = no_memory();
            break;
        }
        made++;
        s = draw_ap(page, &curves[i], dataset);
        series[1 + i] = (chart_series){.name = *dataset ? dataset : "validation",
                                       .x = curves[i].x,
                                       .y = curves[i].loss,
                                       .count = curves[i].count,
                                       .colour = 1 + i,
                                       .is_exact = true};
        for (int64_t k = 0; k < curves[i].count; k++) any = any || isfinite(curves[i].loss[k]);
    }
    if (s == STATUS_OK && any)
        s = chart_draw(page, &(chart){.title = "Validation loss",
                                      .unit = "beside the total loss of training",
                                      .series = series,
                                      .series_count = 1 + made,
                                      .allow_log = true});
    for (int i = 0; i < made; i++) free(curves[i].x);
    return s;
}

status page_charts_draw(markup *page, const run_record *r) {
    markup charts = {0};
    status s = draw_losses(&charts, &r->metrics);
    if (s == STATUS_OK) s = draw_evaluations(&charts, r);
    if (s == STATUS_OK) s = draw_rates(&charts, &r->metrics);
    if (s == STATUS_OK) s = draw_speed(&charts, r);
    if (s == STATUS_OK) s = markup_finish(&charts);
    markup_put(page, "<section><h2>Curves</h2>\n");
    if (charts.text) {
        markup_put(page, "<div class=\"charts\">\n");
        markup_put(page, charts.text);
        markup_put(page, "</div>\n");
    } else
        markup_put(page, "<p class=\"note\">metrics.json has no line yet.</p>\n");
    markup_put(page, "</section>\n");
    markup_release(&charts);
    return s;
}
