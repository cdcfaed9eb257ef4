/* COCO scores against pycocotools': small datasets made by scripts/make_golden.py eval, COCO's own example, and what is
 * refused. */
#include "data/coco_test_util.h"

#include <math.h>

#include "base/file_util.h"
#include "base/thread_pool.h"
#include "eval/coco_eval.h"
#include "eval/eval_report.h"

static coco_iou_type type_of(const char *name) {
    return strcmp(name, "segm") == 0 ? COCO_IOU_SEGM : COCO_IOU_BBOX;
}

static status try_score(coco_scores *out, const char *gt, const char *dt, coco_iou_type type,
                        const coco_eval_options *options) {
    coco_truth *truth;
    coco_scores scores[COCO_IOU_TYPES];
    coco_eval_options wanted = *options;
    wanted.types[type] = true;
    RETURN_IF_ERROR(coco_truth_open(&truth, gt));
    status s = coco_eval_results(scores, truth, dt, &wanted);
    coco_truth_free(truth);
    *out = scores[type];
    return s;
}

static void score(coco_scores *out, const char *gt, const char *dt, coco_iou_type type) {
    if (try_score(out, gt, dt, type, &coco_eval_defaults) != STATUS_OK)
        fail_msg("%s, %s: %s", gt, dt, error_cause());
}

static void assert_numbers(const char *name, const coco_scores *scores, const double expected[COCO_NUMBERS]) {
    for (int i = 0; i < COCO_NUMBERS; i++)
        if (!(fabs(scores->numbers[i] - expected[i]) < 1e-9))
            fail_msg("%s: number %d is %.17g, not %.17g", name, i, scores->numbers[i], expected[i]);
}

/* The mean of what the table per class shows is the first number. */
static void assert_classes(const char *name, const coco_scores *scores) {
    double sum = 0;
    int n = 0;
    for (size_t k = 0; k < scores->class_count; k++)
        if (scores->classes[k].ap >= 0) sum += scores->classes[k].ap, n++;
    double mean = n ? sum / n : -1;
    if (!(fabs(mean - scores->numbers[COCO_AP]) < 1e-9)) fail_msg("%s: classes give %.17g", name, mean);
}

static void scores_equal_pycocotools(void **state) {
    (void)state;
    const char *golden = TEST_SOURCE_DIR "/tests/golden";
    char path[PATH_MAX], gt[PATH_MAX], dt[PATH_MAX], name[32], type[8];
    FILE *file = fopen(TEST_SOURCE_DIR "/tests/golden/eval_expected.txt", "re");
    assert_non_null(file);
    int lines = 0;
    for (; fscanf(file, "%31s %7s", name, type) == 2; lines++) {
        double expected[COCO_NUMBERS];
        for (int i = 0; i < COCO_NUMBERS; i++) assert_int_equal(fscanf(file, "%lf", &expected[i]), 1);
        snprintf(gt, sizeof gt, "%s/eval_%s_gt.json", golden, name);
        snprintf(dt, sizeof dt, "%s/eval_%s_dt.json", golden, name);
        snprintf(path, sizeof path, "%s by %s", name, type);
        for (int threads = 1; threads <= 3; threads += 2) {
            coco_scores scores;
            thread_pool_start(threads);
            score(&scores, gt, dt, type_of(type));
            thread_pool_stop();
            assert_numbers(path, &scores, expected);
            assert_classes(path, &scores);
            coco_scores_release(&scores);
        }
    }
    fclose(file);
    assert_int_equal(lines, 17);
}

static double number_of(const char *json, const char *section, const char *key) {
    char quoted[32];
    snprintf(quoted, sizeof quoted, "\"%s\":", section);
    const char *at = strstr(json, quoted);
    assert_non_null(at);
    snprintf(quoted, sizeof quoted, "\"%s\":", key);
    at = strstr(at, quoted);
    assert_non_null(at);
    return strtod(at + strlen(quoted), NULL);
}

static void coco_example_has_its_known_scores(void **state) {
    (void)state;
    static const char *const keys[COCO_NUMBERS] = {"AP",  "AP50", "AP75",  "APsmall", "APmedium", "APlarge",
                                                   "AR1", "AR10", "AR100", "ARsmall", "ARmedium", "ARlarge"};
    const char *folder = shared_data("eval_val2014_100");
    if (!folder) skip();
    char gt[PATH_MAX + 64], dt[PATH_MAX + 64], *json;
    size_t size;
    snprintf(gt, sizeof gt, "%s/expected.json", folder);
    assert_int_equal(read_file(&json, &size, gt, 1 << 16), STATUS_OK);
    snprintf(gt, sizeof gt, "%s/instances_val2014_100.json", folder);
    for (int i = 0; i < 2; i++) {
        const char *type = i ? "segm" : "bbox";
        double expected[COCO_NUMBERS];
        for (int k = 0; k < COCO_NUMBERS; k++) expected[k] = number_of(json, type, keys[k]);
        snprintf(dt, sizeof dt, "%s/instances_val2014_fake%s100_results.json", folder, type);
        coco_scores scores;
        score(&scores, gt, dt, type_of(type));
        assert_numbers(type, &scores, expected);
        assert_int_equal(scores.objects, 839);
        assert_int_equal(scores.detections, 734);
        coco_scores_release(&scores);
    }
    free(json);
}

static const char tiny[] =
    "{\"images\": [{\"id\": 1, \"width\": 20, \"height\": 10}],"
    " \"categories\": [{\"id\": 5, \"name\": \"cat\\u0007\"}, {\"id\": 9, \"name\": \"dog\"}],"
    " \"annotations\": [{\"id\": 1, \"image_id\": 1, \"category_id\": 5, \"bbox\": [1, 1, 5, 5], \"area\": "
    "25,"
    " \"iscrowd\": 0}]}";

static void printed_table_and_json_agree(void **state) {
    (void)state;
    coco_scores scores;
    const char *gt = write_text("gt.json", tiny);
    const char *dt = write_text(
        "dt.json", "[{\"image_id\": 1, \"category_id\": 5, \"score\": 0.5, \"bbox\": [1, 1, 5, 4]}]");
    score(&scores, gt, dt, COCO_IOU_BBOX); /* IoU 0.8 and 7 of 10 thresholds up to it */
    assert_true(fabs(scores.numbers[COCO_AP] - 0.7) < 1e-9);
    char *text = NULL;
    size_t size;
    FILE *to = open_memstream(&text, &size);
    coco_scores_print(to, &scores);
    coco_classes_print(to, &scores, NULL);
    assert_int_equal(fclose(to), 0);
    assert_non_null(
        strstr(text, " Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets=100 ] = 0.700\n"));
    assert_non_null(
        strstr(text, " Average Recall     (AR) @[ IoU=0.50:0.95 | area= large | maxDets=100 ] = -1.000\n"));
    assert_non_null(strstr(text, " n/a (-1) for area= large: there is no ground truth of that size\n"));
    assert_null(strstr(text, "area=   all:"));
    assert_null(strstr(text, "no detection"));
    assert_non_null(strstr(text, " 5  cat?                                  1          1   70.000\n"));
    assert_non_null(
        strstr(text, " 9  dog                                   0          0      n/a  no ground truth\n"));
    free(text);
    assert_int_equal(coco_scores_write_json(&scores, in_folder("out.json")), STATUS_OK);
    assert_int_equal(read_file(&text, &size, in_folder("out.json"), 1 << 16), STATUS_OK);
    assert_int_equal(strncmp(text, "{\"AP\": 0.", 9), 0);
    assert_true(strtod(text + 7, NULL) == scores.numbers[COCO_AP]);
    assert_non_null(strstr(text, "\"APl\": -1, \"AR1\": 0."));
    free(text);
    coco_scores_release(&scores);
    assert_int_equal(try_score(&scores, gt, in_folder("absent.json"), COCO_IOU_BBOX, &coco_eval_defaults),
                     STATUS_NO_INPUT);
    assert_int_equal(try_score(&scores, in_folder("absent.json"), dt, COCO_IOU_BBOX, &coco_eval_defaults),
                     STATUS_NO_INPUT);
    assert_int_equal(try_score(&scores, gt, dt, COCO_IOU_SEGM, &coco_eval_defaults), STATUS_DATA);
    assert_non_null(strstr(error_cause(), "annotation 1 at byte"));
}

static void bad_results_are_refused_by_name(void **state) {
    (void)state;
    static const struct {
        const char *text, *cause;
    } cases[] = {
        {"[{\"image_id\": 2, \"category_id\": 5, \"score\": 1, \"bbox\": [1, 1, 2, 2]}]",
         "result 0 at byte 1 is of image_id 2"},
        {"[{\"image_id\": 1, \"category_id\": 5, \"bbox\": [1, 1, 2, 2]}]", "has no score"},
        {"[{\"image_id\": 1, \"category_id\": 5, \"score\": \"high\", \"bbox\": [1, 1, 2, 2]}]",
         "wrong type: score"},
        {"[{\"image_id\": 1.5, \"category_id\": 5, \"score\": 1, \"bbox\": [1, 1, 2, 2]}]",
         "wrong type: image_id"},
        {"[{\"category_id\": 5, \"score\": 1, \"bbox\": [1, 1, 2, 2]}]", "has no image_id"},
        {"[{\"image_id\": 1, \"category_id\": 5, \"score\": 1, \"bbox\": [1, 1, 2, null]}]",
         "no box of four finite numbers"},
        {"[{\"image_id\": 1, \"category_id\": 5, \"score\": 1, \"bbox\": [1, 1, 2]}]",
         "has no bbox and no segmentation"},
        {"[{\"image_id\": 1, \"category_id\": 5, \"score\": 1, \"segmentation\": {\"size\": [10, 20], "
         "\"counts\": [7]}}]",
         "damaged RLE"},
        {"[{\"image_id\": 1, \"category_id\": 5, \"score\": 1, \"segmentation\": {\"size\": [20, 10], "
         "\"counts\": [200]}}]",
         "mask of 20 x 10 pixels"},
        {"[{\"image_id\": 1, \"category_id\": 5, \"score\": 1, \"segmentation\": [[1, 2, 3, 4, \"a\", 6]]}]",
         "something else than finite numbers"},
        {"[3]", "wrong type"},
        {"{\"results\": []}", "not a results file"},
        {"[{\"image_id\": 1,", "ends too early"},
        {"[{]", "not valid JSON at byte"},
    };
    char gt[PATH_MAX];
    snprintf(gt, sizeof gt, "%s", write_text("gt.json", tiny));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        coco_scores scores;
        const char *dt = write_text("dt.json", cases[i].text);
        assert_int_equal(try_score(&scores, gt, dt, COCO_IOU_BBOX, &coco_eval_defaults), STATUS_DATA);
        if (!strstr(error_cause(), cases[i].cause) || !strstr(error_cause(), "dt.json"))
            fail_msg("case %zu: \"%s\" is not in: %s", i, cases[i].cause, error_cause());
        assert_true(error_remedy()[0] != '\0');
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scores_equal_pycocotools),
        cmocka_unit_test(coco_example_has_its_known_scores),
        cmocka_unit_test(printed_table_and_json_agree),
        cmocka_unit_test(bad_results_are_refused_by_name),
    };
    return cmocka_run_group_tests(tests, make_test_folder, remove_test_folder);
}
