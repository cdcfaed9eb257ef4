#include "report/svg_chart.h"

#include "report/chart_axis.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The plot inside the picture; all in units of the view box, which the page scales. */
enum {
    WIDTH = 560,
    HEIGHT = 280,
    LEFT = 60,
    RIGHT = 16,
    TOP = 12,
    BOTTOM = 40,
    PLOT_WIDTH = WIDTH - LEFT - RIGHT,
    PLOT_HEIGHT = HEIGHT - TOP - BOTTOM,
    MOST_POINTS = 60 /* drawn one by one */
};

/* What is drawn at one place: some neighbouring values. */
typedef struct bucket {
    double x, mean, low, high;
    bool low_first;
    int64_t count; /* finite values; 0: a gap */
    double smooth; /* NaN in a gap */
} bucket;

typedef struct curve {
    const chart_series *series;
    bucket *buckets; /* [count] */
    int count;
    int64_t values;   /* finite ones */
    bool is_smoothed; /* `smooth` is not `mean` throughout */
} curve;

static bucket gather(const chart_series *s, int64_t begin, int64_t end) {
    bucket b = {.x = 0.5 * (s->x[begin] + s->x[end - 1]), .smooth = NAN};
    int64_t lowest = begin, highest = begin;
    for (int64_t i = begin; i < end; i++) {
        double y = s->y[i];
        if (!isfinite(y)) continue;
        if (b.count == 0 || y < s->y[lowest]) lowest = i;
        if (b.count == 0 || y > s->y[highest]) highest = i;
        b.mean += (y - b.mean) / (double)++b.count;
    }
    if (b.count == 0) return b;
    b.low = s->y[lowest];
    b.high = s->y[highest];
    b.low_first = lowest <= highest;
    b.smooth = b.mean;
    return b;
}

static void smooth(curve *c) {
    int half = c->series->is_exact || c->count < 12 ? 0 : (int)(sqrt(c->count) / 3.0);
    c->is_smoothed = !c->series->is_exact && (half > 0 || c->series->count > c->count);
    for (int i = 0; i < c->count; i++) {
        double sum = 0, count = 0;
        if (c->buckets[i].count == 0) continue;
        for (int k = i > half ? i - half : 0; k < c->count && k <= i + half; k++) {
            sum += c->buckets[k].mean * (double)c->buckets[k].count;
            count += (double)c->buckets[k].count;
        }
        c->buckets[i].smooth = sum / count;
    }
}

static bool curve_init(curve *c, const chart_series *s) {
    *c = (curve){.series = s, .count = s->count < CHART_BUCKETS ? (int)s->count : CHART_BUCKETS};
    c->buckets = malloc(((size_t)c->count + 1) * sizeof *c->buckets);
    if (!c->buckets) return false;
    for (int i = 0; i < c->count; i++) {
        int64_t begin = s->count * i / c->count, end = s->count * (i + 1) / c->count;
        c->buckets[i] = gather(s, begin, end);
        c->values += c->buckets[i].count;
    }
    smooth(c);
    return true;
}

/* --- axes ---------------------------------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The range that has to be seen: the strong lines, and the faint ones but for the outermost values. */
typedef struct extent {
    double first_x, last_x, low, high, median;
} extent;

static status find_extent(extent *out, const curve *curves, int count) {
    int places = 0, used = 0;
    *out = (extent){.first_x = INFINITY, .last_x = -INFINITY, .low = INFINITY, .high = -INFINITY};
    for (int i = 0; i < count; i++) places += 2 * curves[i].count;
    double *values = malloc((size_t)(places + 1) * sizeof *values);
    if (!values) return error_set(STATUS_OS, "free some memory", "no memory for a chart");
    for (int i = 0; i < count; i++)
        for (int k = 0; k < curves[i].count; k++) {
            const bucket *b = &curves[i].buckets[k];
            if (b->count == 0) continue;
            out->first_x = fmin(out->first_x, b->x);
            out->last_x = fmax(out->last_x, b->x);
            out->low = fmin(out->low, b->smooth);
            out->high = fmax(out->high, b->smooth);
            values[used++] = b->low;
            values[used++] = b->high;
        }
    qsort(values, (size_t)used, sizeof *values, by_value);
    if (used) {
        out->median = values[used / 2];
        out->low = fmin(out->low, values[used / 200]);
        out->high = fmax(out->high, values[used - 1 - used / 200]);
    }
    free(values);
    return STATUS_OK;
}

static void choose_axes(chart_axis *x, chart_axis *y, const extent *e, const chart *c) {
    double first = e->first_x <= 0.5 * e->last_x ? 0 : e->first_x, last = e->last_x;
    if (last - first < 1) {
        first -= 1;
        last += 1;
    }
    chart_axis_counts(x, first, last);
    if (c->allow_log && e->low > 0 && e->high > 50 * e->median)
        chart_axis_log(y, e->low, e->high);
    else
        chart_axis_values(y, fmin(0, e->low), c->top > 0 ? c->top : fmax(0, e->high));
}

static void draw_axes(markup *out, const chart_axis *x, const chart_axis *y) {
    for (int i = 0; i < y->tick_count; i++) {
        double at = TOP + PLOT_HEIGHT * (1 - chart_axis_place(y, y->ticks[i].value));
        markup_format(out, "<line class=\"grid\" x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\"/>", LEFT, at,
                      LEFT + PLOT_WIDTH, at);
        markup_format(out, "<text class=\"tick\" x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text>", LEFT - 7,
                      at + 4, y->ticks[i].text);
    }
    markup_format(out, "<line class=\"axis\" x1=\"%d\" y1=\"%d\" x2=\"%d\" y2=\"%d\"/>", LEFT,
                  TOP + PLOT_HEIGHT, LEFT + PLOT_WIDTH, TOP + PLOT_HEIGHT);
    for (int i = 0; i < x->tick_count; i++) {
        double at = LEFT + PLOT_WIDTH * chart_axis_place(x, x->ticks[i].value);
        markup_format(out, "<line class=\"axis\" x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\"/>", at,
                      TOP + PLOT_HEIGHT, at, TOP + PLOT_HEIGHT + 4);
        markup_format(out, "<text class=\"tick\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>", at,
                      TOP + PLOT_HEIGHT + 17, x->ticks[i].text);
    }
    markup_format(out, "<text class=\"tick\" x=\"%d\" y=\"%d\" text-anchor=\"end\">iteration</text>",
                  LEFT + PLOT_WIDTH, HEIGHT - 6);
}

/* --- lines --------------------------------------------------------------------------------------------------------- */

typedef struct pen {
    markup *out;
    const chart_axis *x, *y;
    bool is_down;
} pen;

/* A place of the inner picture, which cuts off what is outside of the plot. */
static double across(const pen *p, double x) {
    return PLOT_WIDTH * chart_axis_place(p->x, x);
}
static double down(const pen *p, double y) {
    return PLOT_HEIGHT * (1 - chart_axis_place(p->y, y));
}

static void line_to(pen *p, double x, double y) {
    markup_format(p->out, "%c%.1f %.1f", p->is_down ? 'L' : 'M', across(p, x), down(p, y));
    p->is_down = true;
}

static void draw_faint(pen *p, const curve *c) {
    markup_format(p->out, "<path class=\"faint s%d\" d=\"", c->series->colour);
    p->is_down = false;
    for (int i = 0; i < c->count; i++) {
        const bucket *b = &c->buckets[i];
        if (b->count == 0) {
            p->is_down = false;
            continue;
        }
        line_to(p, b->x, b->low_first ? b->low : b->high);
        if (b->count > 1) line_to(p, b->x, b->low_first ? b->high : b->low);
    }
    markup_put(p->out, "\"/>");
}

static void draw_strong(pen *p, const curve *c) {
    markup_format(p->out, "<path class=\"line s%d\" d=\"", c->series->colour);
    p->is_down = false;
    for (int i = 0; i < c->count; i++) {
        const bucket *b = &c->buckets[i];
        if (b->count == 0)
            p->is_down = false;
        else
            line_to(p, b->x, b->smooth);
    }
    markup_put(p->out, "\"/>");
}

/* Values that no line shows because they stand alone, and all where they are few. */
static void draw_points(pen *p, const curve *c) {
    for (int i = 0; i < c->count; i++) {
        const bucket *b = &c->buckets[i];
        bool alone =
            (i == 0 || c->buckets[i - 1].count == 0) && (i + 1 == c->count || c->buckets[i + 1].count == 0);
        if (b->count == 0 || (!alone && (c->is_smoothed || c->values > MOST_POINTS))) continue;
        markup_format(p->out, "<circle class=\"point s%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"3\"><title>",
                      c->series->colour, across(p, b->x), down(p, b->smooth));
        markup_text(p->out, c->series->name);
        markup_format(p->out, " at iteration %.0f: %.4g</title></circle>", b->x, b->smooth);
    }
}

static void draw_curves(markup *out, const curve *curves, int count, const chart_axis *x,
                        const chart_axis *y) {
    const int edge = 4; /* half a point's width is drawn beyond the plot */
    pen p = {.out = out, .x = x, .y = y};
    markup_format(out, "<svg x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" viewBox=\"%d %d %d %d\">",
                  LEFT - edge, TOP - edge, PLOT_WIDTH + 2 * edge, PLOT_HEIGHT + 2 * edge, -edge, -edge,
                  PLOT_WIDTH + 2 * edge, PLOT_HEIGHT + 2 * edge);
    for (int i = 0; i < count; i++)
        if (curves[i].values && curves[i].is_smoothed) draw_faint(&p, &curves[i]);
    for (int i = 0; i < count; i++) {
        if (!curves[i].values) continue;
        draw_strong(&p, &curves[i]);
        draw_points(&p, &curves[i]);
    }
    markup_put(out, "</svg>");
}

static double last_value(const curve *c) {
    for (int i = c->count; i-- > 0;)
        if (c->buckets[i].count) return c->buckets[i].smooth;
    return NAN;
}

static void draw_legend(markup *out, const curve *curves, int count) {
    bool faint = false;
    markup_put(out, "<figcaption>");
    for (int i = 0; i < count; i++) {
        if (!curves[i].values) continue;
        faint = faint || curves[i].is_smoothed;
        markup_format(out, "<span class=\"key\"><i class=\"b%d\"></i>", curves[i].series->colour);
        markup_text(out, curves[i].series->name);
        markup_format(out, " <b>%.4g</b></span> ", last_value(&curves[i]));
    }
    markup_put(out, faint ? "<span class=\"hint\">faint: as logged; strong: smoothed</span>"
                          : "<span class=\"hint\">the last value is named</span>");
    markup_put(out, "</figcaption>");
}

static status draw(markup *out, const chart *c, const curve *curves) {
    extent e;
    chart_axis x, y;
    RETURN_IF_ERROR(find_extent(&e, curves, c->series_count));
    choose_axes(&x, &y, &e, c);
    markup_format(out, "<figure><h3>%s%s%s%s%s</h3>\n", c->title, *c->unit ? " <small>" : "", c->unit,
                  *c->unit ? "</small>" : "", y.is_log ? " <small>logarithmic</small>" : "");
    markup_format(
        out,
        "<svg class=\"chart\" viewBox=\"0 0 %d %d\" xmlns=\"http://www.w3.org/2000/svg\" role=\"img\">"
        "<title>%s</title>",
        WIDTH, HEIGHT, c->title);
    draw_axes(out, &x, &y);
    draw_curves(out, curves, c->series_count, &x, &y);
    markup_put(out, "</svg>\n");
    draw_legend(out, curves, c->series_count);
    markup_put(out, "</figure>\n");
    return markup_finish(out);
}

status chart_draw(markup *out, const chart *c) {
    curve *curves = calloc((size_t)c->series_count + 1, sizeof *curves);
    bool memory = curves != NULL;
    int64_t values = 0;
    for (int i = 0; i < c->series_count && memory; i++) {
        memory = curve_init(&curves[i], &c->series[i]);
        values += curves[i].values;
    }
    status s = memory ? STATUS_OK : error_set(STATUS_OS, "free some memory", "no memory for a chart");
    if (s == STATUS_OK && values) s = draw(out, c, curves);
    for (int i = 0; curves && i < c->series_count; i++) free(curves[i].buckets);
    free(curves);
    return s;
}
