/* `maskrcnn profile` from outside: the rows add up, and the timeline is one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "json_tree.h"
#include "run_program.h"

#define CONFIG TEST_SOURCE_DIR "/configs/quickstart.yaml"
#define SMALL "~INPUT.MIN_SIZE_TRAIN~(64,)~INPUT.MAX_SIZE_TRAIN~96~SEED~3"

static char folder[] = "/tmp/test_profile_XXXXXX";
static program_run result;

static void run(const char *before, const char *line) {
    char words[2048];
    snprintf(words, sizeof words, "%smaskrcnn~profile~--config~" CONFIG "~--json~p.json~%s" SMALL, before,
             line);
    run_program(&result, folder, words, 120);
    if (result.code != 0) fail_msg("%s: exit code %d: %s", line, result.code, result.err);
}

static yajl_val read_tree(const char *name) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return json_tree_read(path);
}

/* Whether a row's name has this in it. */
static int has_row(yajl_val *rows, int count, const char *text) {
    for (int i = 0; i < count; i++)
        if (strstr(json_tree_text(rows[i], "name"), text)) return 1;
    return 0;
}

/* Rows by falling share that add up to the step, and to 100 percent; no name twice. */
static yajl_val *expect_rows(yajl_val tree, int *count) {
    yajl_val *rows = json_tree_list(tree, "ops", count);
    double step = json_tree_positive(tree, "step_ms"), sum = 0, percent = 0, last = 100;
    for (int i = 0; i < *count; i++) {
        double mean = json_tree_number(rows[i], "mean_ms"), share = json_tree_number(rows[i], "percent");
        assert_true(mean >= 0 && json_tree_number(rows[i], "stddev_ms") >= 0);
        assert_true(json_tree_number(rows[i], "count") > 0 && share <= last);
        for (int j = 0; j < i; j++)
            assert_string_not_equal(json_tree_text(rows[i], "name"), json_tree_text(rows[j], "name"));
        sum += mean;
        percent += last = share;
    }
    if (!(fabs(sum - step) <= 0.05 * step)) fail_msg("the rows add up to %g ms of %g", sum, step);
    assert_true(fabs(percent - 100) < 0.01);
    return rows;
}

static void rows_add_up_to_the_step(void **state) {
    (void)state;
    int count;
    run("", "--synthetic~--warmup~1~--iters~3");
    yajl_val tree = read_tree("p.json");
    yajl_val *rows = expect_rows(tree, &count);
    static const char *const names[] = {"conv2d forward",       "conv2d backward", "roi_align_fpn forward",
                                        "rpn_proposals.nms",    "sgd_step",        "data wait",
                                        "batch copy",           "all-reduce",      "between ops",
                                        "conv2d_transpose back"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!has_row(rows, count, names[i])) fail_msg("no row %s", names[i]);
    json_tree_positive(tree, "gflop");
    json_tree_positive(tree, "floor_ms");
    assert_string_equal(json_tree_text(tree, "precision"), "fp32");
    json_tree_positive(rows[0], "flops");
    json_tree_positive(rows[0], "gflop_per_s");
    json_tree_positive(rows[0], "peak_share");
    json_tree_positive(rows[0], "gb_per_s");
    static const char *const heads[] = {"mean", "std", "count", "%", "GFLOP/s", "measured peaks"};
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) assert_non_null(strstr(result.out, heads[i]));
    yajl_tree_free(tree);
}

/* Rank 0 of two, by layer: sums over the ranks are events of their own row. */
static void the_timeline_has_a_row_for_each_stream(void **state) {
    (void)state;
    int count, events[4] = {0}, names = 0;
    run("mpirun~--allow-run-as-root~--oversubscribe~-n~2~",
        "--synthetic~--warmup~1~--iters~2~--by~layer~--trace~t.json");
    yajl_val tree = read_tree("t.json");
    yajl_val *list = json_tree_list(tree, "traceEvents", &count);
    double end[4] = {0};
    for (int i = 0; i < count; i++) {
        int row = (int)json_tree_number(list[i], "tid");
        assert_true(row >= 0 && row < 4 && json_tree_number(list[i], "pid") == 0);
        if (strcmp(json_tree_text(list[i], "ph"), "M") == 0) {
            names += strcmp(json_tree_text(list[i], "name"), "thread_name") == 0;
            continue;
        }
        assert_string_equal(json_tree_text(list[i], "ph"), "X");
        double start = json_tree_number(list[i], "ts"), length = json_tree_number(list[i], "dur");
        assert_true(start >= 0 && length >= 0);
        if (row != 0)
            assert_true(start >=
                        end[row] - 0.001); /* one after another; those of the host lie within a step */
        end[row] = start + length;
        events[row]++;
    }
    assert_int_equal(names, 4);
    assert_int_equal(events[0], 2 * 6); /* a step and its stages but for the copy */
    assert_true(events[1] > 2 * 200);
    assert_int_equal(events[2], 2);
    assert_int_equal(events[3], 2); /* one bucket */
    yajl_tree_free(tree);
    tree = read_tree("p.json");
    assert_true(json_tree_number(tree, "ranks") == 2);
    yajl_val *rows = expect_rows(tree, &count);
    assert_true(has_row(rows, count, "backbone.body.layer1.0.conv1 forward"));
    assert_true(has_row(rows, count, "backbone.body.layer1.0.conv1 backward"));
    assert_false(has_row(rows, count, "conv2d"));
    assert_non_null(strstr(result.out, "more rows"));
    yajl_tree_free(tree);
}

/* By call. */
static void detections_are_profiled(void **state) {
    (void)state;
    int count, events;
    run("", "--inference~--synthetic~--warmup~1~--iters~3~--by~call~--trace~t.json~INPUT.MIN_SIZE_TEST~64~"
            "INPUT.MAX_"
            "SIZE_TEST~96");
    yajl_val tree = read_tree("p.json");
    yajl_val *rows = expect_rows(tree, &count);
    static const char *const names[] = {"backbone.body.layer1.0.conv1 conv2d forward",
                                        "roi_align_fpn forward",
                                        "rpn_proposals.nms",
                                        "select_detections.nms",
                                        "mask_paste",
                                        "data wait"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!has_row(rows, count, names[i])) fail_msg("no row %s", names[i]);
    assert_false(has_row(rows, count, "backward"));
    assert_true(json_tree_positive(tree, "detections") <= 100);
    yajl_tree_free(tree);
    tree = read_tree("t.json");
    json_tree_list(tree, "traceEvents", &events);
    assert_true(events > 3 * 100);
    yajl_tree_free(tree);
}

static void wrong_calls_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *line, *word;
        int code;
    } calls[] = {{"--synthetic", "--config", 64},
                 {"--config~" CONFIG "~--synthetic~--by~color", "--by", 64},
                 {"--config~" CONFIG "~--synthetic~--iters~0", "--iters", 64},
                 {"--config~missing.yaml", "missing.yaml", 66},
                 {"--config~" CONFIG "~--inference", "DATASETS.TEST", 78},
                 {"--config~" CONFIG "~--synthetic~--trace~no/t.json", "no/t.json", 73},
                 {"--config~" CONFIG "~--synthetic~--json~.", "cannot create .", 73},
                 {"--config~" CONFIG "~--synthetic~--json~t.json~--trace~t.json", "--trace", 64}};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        char words[512];
        snprintf(words, sizeof words, "maskrcnn~profile~%s", calls[i].line);
        run_program(&result, folder, words, 20);
        if (result.code != calls[i].code || !strstr(result.err, calls[i].word))
            fail_msg("%s: exit code %d: %s", calls[i].line, result.code, result.err);
    }
}

static int make_folder(void **state) {
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state) {
    (void)state;
    char command[64];
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_add_up_to_the_step),
        cmocka_unit_test(the_timeline_has_a_row_for_each_stream),
        cmocka_unit_test(detections_are_profiled),
        cmocka_unit_test(wrong_calls_are_refused),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
