/* Means and percentiles of stages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/stage_times.h"

static const char *const names[] = {"read", "write"};

static void numbers_are_those_of_the_definition(void **state) {
    (void)state;
    stage_times times;
    stage_times_init(&times, names, 2);
    assert_true(stage_times_mean(&times, 0) == 0 && stage_times_percentile(&times, 0, 90) == 0);
    for (int i = 100; i >= 1; i--)
        assert_int_equal(stage_times_add(&times, (double[]){i, 1000 - i}), STATUS_OK);
    assert_int_equal(times.runs, 100);
    assert_true(stage_times_mean(&times, 0) == 50.5);
    assert_true(stage_times_percentile(&times, 0, 90) == 90);
    assert_true(stage_times_percentile(&times, 0, 100) == 100);
    assert_true(stage_times_percentile(&times, 0, 0) == 1);
    assert_true(stage_times_percentile(&times, 1, 90) == 989);
    assert_true(stage_times_mean(&times, 2) == 1000); /* both together */
    stage_times_release(&times);
}

static void the_table_has_a_line_for_each_stage_and_all(void **state) {
    (void)state;
    char text[512] = "";
    stage_times times;
    FILE *to = fmemopen(text, sizeof text, "w");
    assert_non_null(to);
    stage_times_init(&times, names, 2);
    stage_times_print(&times, to);
    assert_int_equal(ftell(to), 0);
    assert_int_equal(stage_times_add(&times, (double[]){1.25, 2}), STATUS_OK);
    stage_times_print(&times, to);
    fclose(to);
    assert_string_equal(text, "stage             mean ms    90 % ms\n"
                              "read                 1.25       1.25\n"
                              "write                2.00       2.00\n"
                              "all                  3.25       3.25\n");
    stage_times_release(&times);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_those_of_the_definition),
        cmocka_unit_test(the_table_has_a_line_for_each_stage_and_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
