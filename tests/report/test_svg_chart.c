/* Axes and charts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report/chart_axis.h"
#include "report/svg_chart.h"
#include "report/xml_check.h"

static void expect_ticks(const chart_axis *axis, int count, const char *const *texts) {
    assert_int_equal(axis->tick_count, count);
    for (int i = 0; i < count; i++) assert_string_equal(axis->ticks[i].text, texts[i]);
}
#define EXPECT_TICKS(axis, ...)                                                                              \
    expect_ticks(axis, sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *), (const char *[]){__VA_ARGS__})

static void ticks_are_round(void **state) {
    (void)state;
    chart_axis axis;
    chart_axis_values(&axis, 0, 3.7);
    EXPECT_TICKS(&axis, "0", "1", "2", "3", "4");
    assert_true(axis.low == 0 && axis.high == 4);
    chart_axis_values(&axis, 0, 0.02);
    EXPECT_TICKS(&axis, "0.000", "0.005", "0.010", "0.015", "0.020");
    chart_axis_values(&axis, 0, 2e-7);
    EXPECT_TICKS(&axis, "0", "5e-08", "1e-07", "1.5e-07", "2e-07");
    chart_axis_values(&axis, 0, 0);
    EXPECT_TICKS(&axis, "0.0", "0.2", "0.4", "0.6", "0.8", "1.0");
    chart_axis_values(&axis, -3, -3);
    assert_true(axis.low < -3 && axis.high > -3);
    chart_axis_counts(&axis, 0, 89999);
    EXPECT_TICKS(&axis, "0", "20k", "40k", "60k", "80k");
    chart_axis_counts(&axis, -1, 1);
    EXPECT_TICKS(&axis, "0", "1");
    chart_axis_counts(&axis, 0, 499);
    EXPECT_TICKS(&axis, "0", "100", "200", "300", "400", "500");
    chart_axis_log(&axis, 0.03, 2000);
    EXPECT_TICKS(&axis, "0.01", "0.1", "1", "10", "100", "1000", "10000");
    assert_true(fabs(chart_axis_place(&axis, 10) - 0.5) < 1e-9);
    assert_true(chart_axis_place(&axis, 0) == -1);
}

static void axes_of_any_values_are_sound(void **state) {
    (void)state;
    static const double values[] = {-1e100, -7, -1e-100,   0,     1e-300, 1e-20,
                                    0.3,    1,  1 + 1e-12, 12345, 1e15,   1e100};
    const int count = sizeof values / sizeof *values;
    for (int i = 0; i < count; i++)
        for (int k = i; k < count; k++) {
            chart_axis axis;
            chart_axis_values(&axis, values[i], values[k]);
            double slack = 1e-6 * (axis.high - axis.low);
            assert_true(slack > 0 && axis.low <= values[i] + slack && axis.high >= values[k] - slack);
            assert_in_range(axis.tick_count, 2, CHART_MAX_TICKS);
            for (int t = 0; t < axis.tick_count; t++)
                assert_true(fabs(chart_axis_place(&axis, axis.ticks[t].value) - 0.5) <= 0.5 + 1e-6);
            if (values[i] <= 0) continue;
            chart_axis_log(&axis, values[i], values[k]);
            assert_true(axis.low < axis.high && axis.low <= values[i] * (1 + 1e-6));
            assert_in_range(axis.tick_count, 2, CHART_MAX_TICKS);
        }
}

static int count_of(const char *text, const char *word) {
    int count = 0;
    for (const char *at = strstr(text, word); at; at = strstr(at + 1, word)) count++;
    return count;
}

static char *draw_series(const double *x, const double *y, int64_t count, bool allow_log) {
    markup m = {0};
    chart_series series = {.name = "a<b", .x = x, .y = y, .count = count, .colour = 3};
    chart c = {.title = "Chart", .unit = "", .series = &series, .series_count = 1, .allow_log = allow_log};
    assert_int_equal(chart_draw(&m, &c), STATUS_OK);
    if (m.text) assert_null(xml_fault(m.text));
    return m.text;
}

/* The part of the picture that begins with `head`, up to its end. */
static char *path_of(const char *text, const char *head) {
    const char *at = strstr(text, head);
    assert_non_null(at);
    const char *end = strchr(at + strlen(head), '"');
    return strndup(at + strlen(head), (size_t)(end - at) - strlen(head));
}

static void few_values_are_points(void **state) {
    (void)state;
    const double x[] = {19, 39, 59, 79}, y[] = {3, 2, NAN, 1};
    char *one = draw_series(x, y, 1, false), *some = draw_series(x, y, 4, false);
    assert_int_equal(count_of(one, "<circle"), 1);
    assert_non_null(strstr(one, "a&lt;b at iteration 19: 3"));
    assert_int_equal(count_of(some, "<circle"), 3);
    assert_int_equal(count_of(some, "faint"), 0);
    char *path = path_of(some, "<path class=\"line s3\" d=\"");
    assert_int_equal(count_of(path, "M"), 2); /* a gap where there is no value */
    assert_int_equal(count_of(path, "L"), 1);
    free(path);
    free(one);
    free(some);
    assert_null(draw_series(x, y + 2, 1, false));
    assert_null(draw_series(x, y, 0, false));
}

enum { MANY = 90000 };

static void many_values_are_gathered(void **state) {
    (void)state;
    double *x = malloc(2 * MANY * sizeof *x), *y = x + MANY;
    for (int i = 0; i < MANY; i++) {
        x[i] = i;
        y[i] = 2 + (i % 2 ? 1 : -1);
    }
    char *text = draw_series(x, y, MANY, false);
    assert_true(strlen(text) < 32768);
    assert_int_equal(count_of(text, "<circle"), 0);
    /* The faint line goes from 1 to 3 everywhere, the strong one stays at 2: on an axis of 0 to 3, a plot of 228 high. */
    char *faint = path_of(text, "<path class=\"faint s3\" d=\""),
         *line = path_of(text, "<path class=\"line s3\" d=\"");
    assert_int_equal(count_of(faint, " 152.0"), CHART_BUCKETS);
    assert_int_equal(count_of(faint, " 0.0"), CHART_BUCKETS);
    assert_int_equal(count_of(line, " 76.0"), CHART_BUCKETS);
    assert_non_null(strstr(text, "a&lt;b <b>2</b>"));
    free(faint);
    free(line);
    free(text);
    /* One value far outside is drawn (and cut off), but does not flatten the others. */
    y[MANY / 2] = 1e6;
    text = draw_series(x, y, MANY, false);
    assert_null(strstr(text, "1e+06</text>"));
    faint = path_of(text, "<path class=\"faint s3\" d=\"");
    assert_int_equal(count_of(faint, " -228.0"), 1);
    free(faint);
    free(text);
    free(x);
}

static void values_far_apart_get_powers(void **state) {
    (void)state;
    double x[40], y[40];
    for (int i = 0; i < 40; i++) {
        x[i] = i;
        y[i] = i < 30 ? 1 : pow(10, i - 30);
    }
    char *log = draw_series(x, y, 40, true), *linear = draw_series(x, y, 40, false);
    assert_non_null(strstr(log, "logarithmic"));
    assert_null(strstr(linear, "logarithmic"));
    free(log);
    free(linear);
    y[0] = 0; /* there is no place for it */
    log = draw_series(x, y, 40, true);
    assert_null(strstr(log, "logarithmic"));
    free(log);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ticks_are_round),
        cmocka_unit_test(axes_of_any_values_are_sound),
        cmocka_unit_test(few_values_are_points),
        cmocka_unit_test(many_values_are_gathered),
        cmocka_unit_test(values_far_apart_get_powers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
