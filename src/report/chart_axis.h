/* Where numbers stand on an axis, and which of them are named. */
#ifndef REPORT_CHART_AXIS_H
#define REPORT_CHART_AXIS_H

#include <stdbool.h>

enum { CHART_MAX_TICKS = 16, CHART_TICK_TEXT = 32 };

typedef struct chart_tick {
    double value;
    char text[CHART_TICK_TEXT];
} chart_tick;

typedef struct chart_axis {
    double low, high; /* low < high; above 0 where is_log */
    bool is_log;
    chart_tick ticks[CHART_MAX_TICKS]; /* inside low..high, rising */
    int tick_count;
} chart_axis;

/* An axis that holds low..high (finite, within +-1e100): from the tick below to the tick above it. */
void chart_axis_values(chart_axis *axis, double low, double high);

/* The same by powers of ten; 0 < low. */
void chart_axis_log(chart_axis *axis, double low, double high);

/* Exactly low..high, with ticks at whole numbers from 0 on (the last may stand a hundredth beyond, as 90000 after
 * iteration 89999); "20k", "1.5M" for long ones. */
void chart_axis_counts(chart_axis *axis, double low, double high);

/* 0 at low, 1 at high; beyond, held within -1..2. */
double chart_axis_place(const chart_axis *axis, double value);

#endif
