#include "report/run_page.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DATASETS = 8, MAX_EVALUATIONS = 200 };

static const char *const task_titles[EVALUATION_TASKS] = {"bbox", "segm", "proposals"};
/* What evaluation_ap gives of them. */
static const char *const main_numbers[EVALUATION_TASKS] = {"bbox AP", "segm AP", "proposals AR@1000"};

/* A score of 0..1 in percent. */
static void cell(markup *page, double score) {
    if (isnan(score))
        markup_put(page, "<td></td>");
    else if (score >= 0 && score <= 1)
        markup_format(page, "<td>%.2f</td>", 100 * score);
    else
        markup_put(page, "<td>n/a</td>");
}

static bool has_task(const evaluation *e, evaluation_task task) {
    for (int i = 0; i < e->score_count; i++)
        if (!isnan(e->scores[i].values[task])) return true;
    for (int i = 0; i < e->class_count; i++)
        if (!isnan(e->classes[i].ap[task])) return true;
    return false;
}

static void draw_heads(markup *page, const bool tasks[EVALUATION_TASKS]) {
    for (int task = 0; task < EVALUATION_TASKS; task++)
        if (tasks[task]) markup_format(page, "<th>%s</th>", main_numbers[task]);
}

static void draw_scores(markup *page, const evaluation *e, const bool tasks[EVALUATION_TASKS]) {
    if (e->score_count == 0) return;
    markup_put(page, "<div class=\"scroll\"><table><thead><tr><th class=\"name\">%</th>");
    for (int i = 0; i < e->score_count; i++) {
        markup_put(page, "<th>");
        markup_text(page, e->scores[i].name);
        markup_put(page, "</th>");
    }
    markup_put(page, "</tr></thead><tbody>\n");
    for (int task = 0; task < EVALUATION_TASKS; task++) {
        if (!tasks[task]) continue;
        markup_format(page, "<tr><td class=\"name\">%s</td>", task_titles[task]);
        for (int i = 0; i < e->score_count; i++) cell(page, e->scores[i].values[task]);
        markup_put(page, "</tr>\n");
    }
    markup_put(page, "</tbody></table></div>\n");
}

/* --- classes ------------------------------------------------------------------------------------------------------- */

/* What classes are sorted by: of masks where there are any; no number comes last. */
typedef struct ranked_class {
    const evaluation_class *class;
    double key;
} ranked_class;

static int by_falling_ap(const void *a, const void *b) {
    const ranked_class *x = a, *y = b;
    if (x->key != y->key) return x->key > y->key ? -1 : 1;
    return x->class < y->class ? -1 : x->class > y->class; /* then as in the file */
}

static void draw_class(markup *page, const ranked_class *ranked, const bool tasks[EVALUATION_TASKS],
                       int colour) {
    const evaluation_class *class = ranked->class;
    markup_put(page, "<tr><td class=\"name\">");
    markup_text(page, class->name ? class->name : "");
    markup_put(page, "</td>");
    for (int task = 0; task < EVALUATION_TASKS; task++)
        if (tasks[task]) cell(page, class->ap[task]);
    markup_put(page, "<td class=\"bar\">");
    if (ranked->key > 0 && ranked->key <= 1)
        markup_format(page, "<i class=\"b%d\" style=\"width:%.1f%%\"></i>", colour, 100 * ranked->key);
    markup_put(page, "</td></tr>\n");
}

static status draw_classes(markup *page, const evaluation *e, const bool tasks[EVALUATION_TASKS]) {
    if (e->class_count == 0) return STATUS_OK;
    evaluation_task by = tasks[TASK_SEGM] ? TASK_SEGM : TASK_BBOX;
    ranked_class *ranked = malloc((size_t)e->class_count * sizeof *ranked);
    if (!ranked)
        return error_set(STATUS_OS, "free some memory", "no memory for a table of %d classes",
                         e->class_count);
    for (int i = 0; i < e->class_count; i++) {
        double ap = e->classes[i].ap[by];
        ranked[i] = (ranked_class){.class = &e->classes[i], .key = ap >= 0 ? ap : -1};
    }
    qsort(ranked, (size_t)e->class_count, sizeof *ranked, by_falling_ap);
    markup_format(page, "<details%s><summary>AP of the %d classes</summary>\n",
                  e->class_count <= 25 ? " open=\"open\"" : "", e->class_count);
    markup_put(page, "<div class=\"scroll\"><table><thead><tr><th class=\"name\">class</th>");
    draw_heads(page, tasks);
    markup_format(page, "<th class=\"bar\">%s, 0 to 100 %%</th></tr></thead><tbody>\n", main_numbers[by]);
    for (int i = 0; i < e->class_count; i++) draw_class(page, &ranked[i], tasks, by == TASK_SEGM);
    markup_put(page, "</tbody></table></div></details>\n");
    free(ranked);
    return STATUS_OK;
}

/* --- all evaluations of a dataset ------------------------------------------------------------------------------------ */

static void draw_history(markup *page, const evaluation_record *record, const evaluation *last, int count,
                         const bool tasks[EVALUATION_TASKS]) {
    int at = 0;
    markup_format(page,
                  "<details><summary>All %d evaluations</summary>\n<div "
                  "class=\"scroll\"><table><thead><tr><th>iteration</th>",
                  count);
    draw_heads(page, tasks);
    markup_put(page, "<th>validation loss</th><th>images</th><th>seconds</th></tr></thead><tbody>\n");
    for (int i = 0; i < record->count; i++) {
        const evaluation *e = &record->items[i];
        if (strcmp(e->dataset, last->dataset) != 0 || at++ < count - MAX_EVALUATIONS) continue;
        markup_put(page, "<tr><td>");
        if (e->iteration >= 0) markup_format(page, "%" PRId64, e->iteration);
        markup_put(page, "</td>");
        for (int task = 0; task < EVALUATION_TASKS; task++)
            if (tasks[task]) cell(page, evaluation_ap(e, task));
        markup_put(page, "<td>");
        if (isfinite(e->validation_loss)) markup_format(page, "%.4g", e->validation_loss);
        markup_put(page, "</td><td>");
        if (e->images >= 0) markup_format(page, "%" PRId64, e->images);
        markup_put(page, "</td><td>");
        if (isfinite(e->seconds)) markup_format(page, "%.4g", e->seconds);
        markup_put(page, "</td></tr>\n");
    }
    markup_put(page, "</tbody></table></div></details>\n");
}

static status draw_dataset(markup *page, const evaluation_record *record, const evaluation *last) {
    bool tasks[EVALUATION_TASKS];
    int count = 0;
    for (int task = 0; task < EVALUATION_TASKS; task++) tasks[task] = has_task(last, task);
    for (int i = 0; i < record->count; i++) count += strcmp(record->items[i].dataset, last->dataset) == 0;
    markup_put(page, "<h3>");
    markup_text(page, *last->dataset ? last->dataset : "dataset without a name");
    if (last->iteration >= 0)
        markup_format(page, " <small>after iteration %" PRId64, last->iteration);
    else
        markup_put(page, " <small>iteration unknown");
    if (last->images >= 0) markup_format(page, ", %" PRId64 " images", last->images);
    if (isfinite(last->seconds)) markup_format(page, ", %.4g s", last->seconds);
    markup_put(page, "</small></h3>\n");
    draw_scores(page, last, tasks);
    RETURN_IF_ERROR(draw_classes(page, last, tasks));
    if (count > 1) draw_history(page, record, last, count, tasks);
    return STATUS_OK;
}

/* Whether no later evaluation is of the same dataset. */
static bool is_last(const evaluation_record *record, int at) {
    for (int i = at + 1; i < record->count; i++)
        if (strcmp(record->items[i].dataset, record->items[at].dataset) == 0) return false;
    return true;
}

status page_tables_draw(markup *page, const run_record *r) {
    const evaluation_record *record = &r->evaluations;
    int shown = 0;
    if (record->count == 0) return STATUS_OK;
    markup_put(page, "<section><h2>Scores</h2>\n");
    for (int i = 0; i < record->count && shown < MAX_DATASETS; i++) {
        if (!is_last(record, i)) continue;
        RETURN_IF_ERROR(draw_dataset(page, record, &record->items[i]));
        shown++;
    }
    markup_put(page, "</section>\n");
    return STATUS_OK;
}
