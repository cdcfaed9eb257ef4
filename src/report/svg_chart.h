/* A line chart over iterations as a figure: heading, SVG, legend. Drawn by our own style sheet's classes (page_style.c), so
 * it follows the page into the dark. A few KB whatever the number of values: neighbours are gathered into at most
 * CHART_BUCKETS places, where the faint line spans the least and the greatest value and the strong one follows the mean,
 * smoothed over a few places. Few values are drawn as they are, each with a point that names it. */
#ifndef REPORT_SVG_CHART_H
#define REPORT_SVG_CHART_H

#include "base/status.h"
#include "report/markup.h"

#include <stdbool.h>
#include <stdint.h>

enum { CHART_BUCKETS = 500, CHART_COLOURS = 8 };

typedef struct chart_series {
    const char *name;    /* for the legend; any text */
    const double *x, *y; /* [count] borrowed; x rises, y may be NaN: a gap. Within +-1e100 */
    int64_t count;
    int colour;    /* 0..CHART_COLOURS-1 */
    bool is_exact; /* measured, not sampled: is not smoothed */
} chart_series;

typedef struct chart {
    const char *title, *unit; /* markup; unit may be "" */
    const chart_series *series;
    int series_count;
    double top;     /* the axis goes to there, 0: as the values ask */
    bool allow_log; /* powers of ten where values far apart would else be flat */
} chart;

/* Draws nothing where there is not one finite value. OS. */
status chart_draw(markup *out, const chart *c);

#endif
