/* The table of a step's times, on runs made up here. */
#include "train/op_table.h"

#include "conv2d/conv2d.h"
#include "rpn_proposals/rpn_proposals.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const double no_parts[OP_MAX_PARTS];

static tape_run run_of(const op_def *op, const char *layer, bool backward, double seconds) {
    return (tape_run){.op = op,
                      .layer = layer,
                      .backward = backward,
                      .seconds = seconds,
                      .cost = {.flops = 1e9, .read_bytes = 2e6, .written_bytes = 1e6},
                      .part_weight = no_parts};
}

/* Two steps: two convolutions forward and one backward, proposals, and waiting for data. */
static op_table *two_steps(op_table_group group, const double *parts) {
    op_table *table = op_table_new(group);
    for (int step = 0; step < 2; step++) {
        tape_run runs[] = {run_of(&conv2d_op, "a", false, 1 + 2 * step), run_of(&conv2d_op, "b", false, 2),
                           run_of(&conv2d_op, "a", true, 10), run_of(&rpn_proposals_op, "rpn", false, 6)};
        runs[3].part_weight = parts;
        for (int i = 0; i < 4; i++) op_table_add_run(table, &runs[i]);
        op_table_add(table, "data wait", 1);
        op_table_end_step(table);
    }
    return table;
}

static op_table_row find(const op_table *table, const char *name, const char *direction) {
    int count;
    op_table_row *rows = op_table_rows(table, &count), found = {0};
    for (int i = 0; i < count; i++)
        if (strcmp(rows[i].name, name) == 0 && strcmp(rows[i].direction, direction) == 0) found = rows[i];
    free(rows);
    if (!found.name[0]) fail_msg("no row %s %s", name, direction);
    return found;
}

static int near(double a, double b) {
    return fabs(a - b) < 1e-9;
}

static void ops_are_summed_within_a_step(void **state) {
    (void)state;
    op_table *table = two_steps(OP_TABLE_BY_OP, no_parts);
    assert_int_equal(op_table_steps(table), 2);
    op_table_row row = find(table, "conv2d", "forward"); /* steps of 3 and 5 seconds */
    assert_true(near(row.mean, 4) && near(row.deviation, sqrt(2)) && near(row.calls, 2));
    assert_true(near(row.share, 4.0 / 21));
    assert_true(near(row.cost.flops, 2e9) && near(row.cost.read_bytes, 4e6));
    row = find(table, "conv2d", "backward");
    assert_true(near(row.mean, 10) && near(row.deviation, 0) && near(row.calls, 1));
    row = find(table, "data wait", "");
    assert_true(near(row.mean, 1) && row.cost.flops == 0);
    row = find(table, "rpn_proposals (top-k, decode, nms, merge)", "forward");
    assert_true(near(row.mean, 6));
    op_table_free(table);
}

static void rows_come_slowest_first_and_are_the_whole(void **state) {
    (void)state;
    int count;
    op_table *table = two_steps(OP_TABLE_BY_CALL, no_parts);
    op_table_row *rows = op_table_rows(table, &count);
    double shares = 0;
    assert_int_equal(count, 5);
    for (int i = 0; i < count; i++) {
        shares += rows[i].share;
        if (i) assert_true(rows[i].mean <= rows[i - 1].mean);
    }
    assert_true(near(shares, 1));
    assert_string_equal(rows[0].name, "a conv2d");
    free(rows);
    op_table_free(table);
}

static void parts_share_the_time_of_their_op(void **state) {
    (void)state;
    static const double parts[OP_MAX_PARTS] = {0.25, 0.25, 1.5, 1};
    op_table *table = two_steps(OP_TABLE_BY_OP, parts);
    assert_true(near(find(table, "rpn_proposals.top-k", "forward").mean, 0.5));
    assert_true(near(find(table, "rpn_proposals.nms", "forward").mean, 3));
    op_table_free(table);
    table = two_steps(OP_TABLE_BY_LAYER, parts);
    assert_true(near(find(table, "rpn", "forward").mean, 6));
    assert_true(near(find(table, "a", "backward").mean, 10));
    op_table_free(table);
}

static void a_row_that_a_step_lacks_counts_as_nothing(void **state) {
    (void)state;
    op_table *table = op_table_new(OP_TABLE_BY_OP);
    op_table_end_step(table);
    op_table_add(table, "late", 4);
    op_table_end_step(table);
    op_table_row row = find(table, "late", "");
    assert_true(near(row.mean, 2) && near(row.deviation, sqrt(8)) && near(row.calls, 0.5));
    op_table_free(table);
}

/* More rows than the table begins with. */
static void many_rows_are_kept_apart(void **state) {
    (void)state;
    op_table *table = op_table_new(OP_TABLE_BY_CALL);
    char layers[1000][20];
    for (int i = 0; i < 1000; i++) {
        snprintf(layers[i], sizeof layers[i], "layer%d", i);
        for (int backward = 0; backward < 2; backward++) {
            tape_run run = run_of(&conv2d_op, layers[i], backward, i + 1);
            op_table_add_run(table, &run);
        }
    }
    op_table_end_step(table);
    int count;
    free(op_table_rows(table, &count));
    assert_int_equal(count, 2000);
    assert_true(near(find(table, "layer777 conv2d", "backward").mean, 778));
    op_table_free(table);
}

static void the_nearer_peak_bounds_a_row(void **state) {
    (void)state;
    bool of_memory;
    op_table_row row = {.mean = 2, .cost = {.flops = 4e9, .read_bytes = 1e9, .written_bytes = 1e9}};
    double share = op_table_peak_share(&row, &(op_table_peaks){.flops = 4e9, .bytes = 10e9}, &of_memory);
    assert_true(near(share, 0.5) && !of_memory);
    share = op_table_peak_share(&row, &(op_table_peaks){.flops = 100e9, .bytes = 4e9}, &of_memory);
    assert_true(near(share, 0.25) && of_memory);
}

static void the_printed_table_sums_up_what_it_leaves_out(void **state) {
    (void)state;
    char text[4096] = "";
    op_table *table = two_steps(OP_TABLE_BY_CALL, no_parts);
    FILE *file = fmemopen(text, sizeof text, "w");
    op_table_print(table, file, &(op_table_peaks){.flops = 1e9, .bytes = 1e9}, 2);
    fclose(file);
    static const char *const words[] = {"mean ms",  "std ms",    "count",      "%",
                                        "a conv2d", "10000.000", "3 more rows"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) assert_non_null(strstr(text, words[i]));
    assert_null(strstr(text, "data wait"));
    op_table_free(table);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ops_are_summed_within_a_step),
        cmocka_unit_test(rows_come_slowest_first_and_are_the_whole),
        cmocka_unit_test(parts_share_the_time_of_their_op),
        cmocka_unit_test(a_row_that_a_step_lacks_counts_as_nothing),
        cmocka_unit_test(many_rows_are_kept_apart),
        cmocka_unit_test(the_nearer_peak_bounds_a_row),
        cmocka_unit_test(the_printed_table_sums_up_what_it_leaves_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
