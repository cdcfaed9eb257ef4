#include "report/chart_axis.h"

#include <math.h>
#include <stdio.h>

/* The smallest of 1, 2, 5 times a power of ten that cuts `range` into at most `parts` parts. */
static double nice_step(double range, int parts) {
    double raw = range / parts, power = pow(10, floor(log10(raw)));
    double steps[] = {1, 2, 5, 10};
    int i = 0;
    while (i < 3 && steps[i] * power < raw * (1 - 1e-9)) i++;
    return steps[i] * power;
}

static void add_tick(chart_axis *axis, double value, const char *text) {
    if (axis->tick_count == CHART_MAX_TICKS) return;
    chart_tick *tick = &axis->ticks[axis->tick_count++];
    tick->value = value;
    snprintf(tick->text, sizeof tick->text, "%s", text);
}

/* As many decimals as the step needs; powers where that would be long. */
static void format_value(char text[CHART_TICK_TEXT], double value, double step, double largest) {
    if (largest >= 1e5 || step < 1e-5)
        snprintf(text, CHART_TICK_TEXT, "%.6g", value);
    else
        snprintf(text, CHART_TICK_TEXT, "%.*f", step < 1 ? (int)ceil(-log10(step) - 1e-9) : 0, value);
}

void chart_axis_values(chart_axis *axis, double low, double high) {
    *axis = (chart_axis){0};
    double largest = fmax(fabs(low), fabs(high));
    if (largest < 1e-100) largest = high = 1;
    if (high - low < 1e-9 * largest) { /* nothing between: a range around it */
        low = fmin(low, low - 0.1 * largest);
        high = fmax(high, high + 0.1 * largest);
    }
    double step = nice_step(high - low, 5);
    axis->low = floor(low / step + 1e-9) * step;
    axis->high = ceil(high / step - 1e-9) * step;
    int parts = (int)round((axis->high - axis->low) / step);
    for (int i = 0; i <= parts && i < CHART_MAX_TICKS; i++) {
        char text[CHART_TICK_TEXT];
        double value = (round(axis->low / step) + i) * step;
        format_value(text, value, step, largest);
        add_tick(axis, value, text);
    }
}

void chart_axis_log(chart_axis *axis, double low, double high) {
    *axis = (chart_axis){.is_log = true};
    int first = (int)floor(log10(low) + 1e-9), last = (int)ceil(log10(high) - 1e-9);
    if (last == first) last++;
    int step = (last - first + 6) / 7;
    axis->low = pow(10, first);
    axis->high = pow(10, last);
    for (int power = first; power <= last; power += step) {
        char text[CHART_TICK_TEXT];
        double value = pow(10, power);
        snprintf(text, sizeof text, "%g", value);
        add_tick(axis, value, text);
    }
}

void chart_axis_counts(chart_axis *axis, double low, double high) {
    *axis = (chart_axis){.low = low, .high = high};
    double step = fmax(1, nice_step(high - low, 7));
    for (double value = fmax(0, ceil(low / step - 1e-9)) * step; value <= high + 0.01 * (high - low);
         value += step) {
        char text[CHART_TICK_TEXT];
        if (high >= 1e6)
            snprintf(text, sizeof text, "%.6gM", value / 1e6);
        else if (high >= 1e4)
            snprintf(text, sizeof text, "%.6gk", value / 1e3);
        else
            snprintf(text, sizeof text, "%.0f", value);
        add_tick(axis, value, value > 0 ? text : "0");
        if (axis->tick_count == CHART_MAX_TICKS) break;
    }
}

double chart_axis_place(const chart_axis *axis, double value) {
    double place = axis->is_log ? value > 0 ? log(value / axis->low) / log(axis->high / axis->low) : -1
                                : (value - axis->low) / (axis->high - axis->low);
    return fmin(2, fmax(-1, place));
}
