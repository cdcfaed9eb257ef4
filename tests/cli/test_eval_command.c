/* `maskrcnn eval`: the printed numbers, the JSON, and exit codes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file_util.h"
#include "cli/run_program.h"

#define GOLDEN TEST_SOURCE_DIR "/tests/golden/"

static char folder[] = "/tmp/test_eval_command_XXXXXX";
static program_run ran;

static void run_eval(int code, const char *rest) {
    char line[4096];
    snprintf(line, sizeof line, "maskrcnn~eval~%s", rest);
    run_program(&ran, folder, line, 20.0);
    if (ran.code != code) fail_msg("exit code %d, not %d: %s", ran.code, code, ran.err);
}

static void json_holds_what_is_printed(void **state) {
    (void)state;
    char path[64], *json;
    size_t size;
    run_eval(0, "--annotations~" GOLDEN "eval_mixed_gt.json~--results~" GOLDEN
                "eval_mixed_dt.json~--iou-type~segm~--json~scores.json");
    snprintf(path, sizeof path, "%s/scores.json", folder);
    assert_int_equal(read_file(&json, &size, path, 1 << 16), STATUS_OK);
    const char *printed = ran.out;
    const char *value = json;
    for (int i = 0; i < 12; i++) {
        assert_non_null(printed = strstr(printed, "] = "));
        assert_non_null(value = strstr(value, "\": "));
        char expected[32];
        snprintf(expected, sizeof expected, "] = %.3f\n", strtod(value + 3, NULL));
        assert_int_equal(strncmp(printed, expected, strlen(expected)), 0);
        printed += 4;
        value += 3;
    }
    assert_null(strstr(value, "\": "));
    free(json);
    unlink(path);
}

static void no_results_are_no_error(void **state) {
    (void)state;
    run_eval(0, "--annotations~" GOLDEN "eval_empty_gt.json~--results~" GOLDEN
                "eval_empty_dt.json~--iou-type~bbox");
    assert_non_null(strstr(ran.out, "| area=   all | maxDets=100 ] = 0.000\n"));
    assert_non_null(strstr(ran.out, " n/a: there is no detection\n"));
    run_eval(0, "--annotations~" GOLDEN "eval_no_truth_gt.json~--results~" GOLDEN
                "eval_no_truth_dt.json~--iou-type~segm");
    assert_non_null(strstr(ran.out, "| area=   all | maxDets=100 ] = -1.000\n"));
    assert_non_null(strstr(ran.out, " n/a (-1) for area=   all: there is no ground truth but crowds\n"));
}

static void limits_come_from_the_command_line(void **state) {
    (void)state;
    run_eval(0, "--annotations~" GOLDEN "eval_limits_gt.json~--results~" GOLDEN
                "eval_limits_dt.json~--iou-type~bbox~--max-dets~2,3,5");
    assert_non_null(strstr(ran.out, "| area=   all | maxDets=  5 ] = "));
    assert_non_null(
        strstr(ran.out, " Average Recall     (AR) @[ IoU=0.50:0.95 | area=   all | maxDets=  2 ] = "));
    assert_non_null(strstr(ran.err, "more objects of one category than the 5 detections that count"));
    static const char *const wrong[] = {"1,10",   "1,10,10", "0,1,2",          "1,2,3,4",
                                        "1,2,-3", "1,2,x",   "1,2,9999999999", ""};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char line[512];
        snprintf(line, sizeof line, "--annotations~a~--results~b~--iou-type~bbox~--max-dets=%s", wrong[i]);
        run_eval(64, line);
        assert_non_null(strstr(ran.err, "--max-dets"));
    }
}

static void results_of_unknown_categories_are_named(void **state) {
    (void)state;
    run_eval(0, "--annotations~" GOLDEN "eval_strays_gt.json~--results~" GOLDEN
                "eval_strays_dt.json~--iou-type~bbox");
    const char *at = strstr(ran.err, "results do not count");
    assert_non_null(at);
    assert_non_null(strstr(at, "1000"));
}

static void culprits_are_named(void **state) {
    (void)state;
    run_eval(66, "--annotations~gone.json~--results~" GOLDEN "eval_mixed_dt.json~--iou-type~bbox");
    assert_non_null(strstr(ran.err, "gone.json"));
    assert_non_null(strstr(ran.err, "--annotations"));
    run_eval(66, "--annotations~" GOLDEN "eval_mixed_gt.json~--results~gone.json~--iou-type~bbox");
    assert_non_null(strstr(ran.err, "--results"));
    run_eval(65, "--annotations~" GOLDEN "eval_dataset_gt.json~--results~" GOLDEN
                 "eval_mixed_dt.json~--iou-type~bbox");
    assert_non_null(strstr(ran.err, "eval_mixed_dt.json: result 0 at byte 1 is of image_id 88"));
    run_eval(64, "--annotations~" GOLDEN "eval_mixed_gt.json~--results~" GOLDEN
                 "eval_mixed_dt.json~--iou-type~keypoints");
    assert_non_null(strstr(ran.err, "keypoints"));
    run_eval(73, "--annotations~" GOLDEN "eval_mixed_gt.json~--results~" GOLDEN
                 "eval_mixed_dt.json~--iou-type~bbox~--json~no/such/folder.json");
    assert_non_null(strstr(ran.err, "no/such/folder.json"));
}

static int make_folder(void **state) {
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state) {
    (void)state;
    return rmdir(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_holds_what_is_printed),
        cmocka_unit_test(no_results_are_no_error),
        cmocka_unit_test(limits_come_from_the_command_line),
        cmocka_unit_test(results_of_unknown_categories_are_named),
        cmocka_unit_test(culprits_are_named),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
