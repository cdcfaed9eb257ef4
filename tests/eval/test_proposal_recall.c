/* Recall of proposals against detectron2's: files made by scripts/make_golden.py eval and recall. */
#include "data/coco_test_util.h"

#include <math.h>

#include "base/thread_pool.h"
#include "eval/proposal_recall.h"

static status try_score(proposal_recall *out, const char *gt, const char *dt) {
    coco_truth *truth;
    RETURN_IF_ERROR(coco_truth_open(&truth, gt));
    status s = proposal_recall_results(out, truth, dt, &coco_eval_defaults);
    coco_truth_free(truth);
    return s;
}

static void golden_paths(char gt[PATH_MAX], char dt[PATH_MAX], const char *name) {
    snprintf(gt, PATH_MAX, TEST_SOURCE_DIR "/tests/golden/%s_gt.json", name);
    snprintf(dt, PATH_MAX, TEST_SOURCE_DIR "/tests/golden/%s_dt.json", name);
}

static void recall_equals_detectron2(void **state) {
    (void)state;
    char gt[PATH_MAX], dt[PATH_MAX], name[32];
    FILE *file = fopen(TEST_SOURCE_DIR "/tests/golden/recall_expected.txt", "re");
    assert_non_null(file);
    int lines = 0;
    for (; fscanf(file, "%31s", name) == 1; lines++) {
        double expected[RECALL_NUMBERS];
        for (int i = 0; i < RECALL_NUMBERS; i++) assert_int_equal(fscanf(file, "%lf", &expected[i]), 1);
        golden_paths(gt, dt, name);
        for (int threads = 1; threads <= 3; threads += 2) {
            proposal_recall found;
            thread_pool_start(threads);
            if (try_score(&found, gt, dt) != STATUS_OK) fail_msg("%s: %s", name, error_cause());
            thread_pool_stop();
            for (int i = 0; i < RECALL_NUMBERS; i++)
                if (!(fabs(proposal_recall_number(&found, i) - expected[i]) < 1e-7))
                    fail_msg("%s: %s is %.9g, not %.9g", name, proposal_recall_name(i),
                             proposal_recall_number(&found, i), expected[i]);
        }
    }
    fclose(file);
    assert_int_equal(lines, 9);
}

/* Two objects share the one proposal that covers both: the better covered one gets it, and the other one the rest. */
static void proposals_are_used_once(void **state) {
    (void)state;
    const char *gt = write_text(
        "gt.json",
        "{\"images\":[{\"id\":1,\"width\":99,\"height\":99},{\"id\":2,\"width\":99,\"height\":99}],"
        "\"categories\":[],\"annotations\":["
        "{\"id\":1,\"image_id\":1,\"bbox\":[0,0,10,10],\"area\":100,\"iscrowd\":0},"
        "{\"id\":2,\"image_id\":1,\"bbox\":[0,0,10,8],\"area\":80,\"iscrowd\":0},"
        "{\"id\":3,\"image_id\":2,\"bbox\":[0,0,10,8],\"area\":80,\"iscrowd\":0}]}");
    const char *dt = write_text("dt.json", "[{\"image_id\":1,\"bbox\":[0,0,10,10],\"score\":0.5},"
                                           "{\"image_id\":1,\"bbox\":[50,50,9,9],\"score\":0.9}]");
    proposal_recall found;
    if (try_score(&found, gt, dt) != STATUS_OK) fail_msg("%s", error_cause());
    /* Image 2 has no proposals and does not count. */
    assert_int_equal(found.images, 1);
    assert_int_equal(found.objects[0], 2);
    assert_int_equal(found.proposals, 2);
    assert_true(fabs(found.ar[0][0] - 0.5) < 1e-7 && fabs(found.ar[1][1] - 0.5) < 1e-7);
    assert_true(found.ar[0][2] < 0 && found.ar[0][3] < 0);
    write_text("dt.json", "[{\"image_id\":1,\"bbox\":[0,0,10,10]}]");
    assert_int_equal(try_score(&found, gt, dt), STATUS_DATA);
    assert_non_null(strstr(error_cause(), "has no score"));
    write_text("dt.json", "[{\"image_id\":3,\"bbox\":[0,0,10,10],\"score\":1}]");
    assert_int_equal(try_score(&found, gt, dt), STATUS_DATA);
    assert_non_null(strstr(error_cause(), "image_id 3"));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(recall_equals_detectron2),
                                       cmocka_unit_test(proposals_are_used_once)};
    return cmocka_run_group_tests(tests, make_test_folder, remove_test_folder);
}
