/* COCO scores against pycocotools': small datasets made by scripts/make_golden.py eval, COCO's own example, and what is
 * refused. */
#include "data/coco_test_util.h"

#include <math.h>

#include "base/file_util.h"
#include "base/log.h"
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

/* AP by class: the file's line goes on with their count. */
static void assert_classes(const char *name, const coco_scores *scores, const double *expected,
                           size_t count) {
    assert_int_equal(scores->class_count, count);
    for (size_t k = 0; k < count; k++) {
        if (!(fabs(scores->classes[k].ap - expected[k]) < 1e-9))
            fail_msg("%s: AP of class %zu is %.17g, not %.17g", name, k, scores->classes[k].ap, expected[k]);
        assert_true(k == 0 || scores->classes[k].id > scores->classes[k - 1].id);
    }
}

static void read_doubles(FILE *from, double *out, size_t count) {
    for (size_t i = 0; i < count; i++) assert_int_equal(fscanf(from, "%lf", &out[i]), 1);
}

static void scores_equal_pycocotools(void **state) {
    (void)state;
    const char *golden = TEST_SOURCE_DIR "/tests/golden";
    char path[PATH_MAX], gt[PATH_MAX], dt[PATH_MAX], name[32], type[8];
    FILE *file = fopen(TEST_SOURCE_DIR "/tests/golden/eval_expected.txt", "re");
    assert_non_null(file);
    int lines = 0;
    for (; fscanf(file, "%31s %7s", name, type) == 2; lines++) {
        double limits[COCO_LIMITS], expected[COCO_NUMBERS], count, classes[16];
        read_doubles(file, limits, COCO_LIMITS);
        read_doubles(file, expected, COCO_NUMBERS);
        read_doubles(file, &count, 1);
        assert_in_range(count, 1, 16);
        read_doubles(file, classes, (size_t)count);
        coco_eval_options options = coco_eval_defaults;
        for (int i = 0; i < COCO_LIMITS; i++) options.max_detections[i] = (uint32_t)limits[i];
        snprintf(gt, sizeof gt, "%s/eval_%s_gt.json", golden, name);
        snprintf(dt, sizeof dt, "%s/eval_%s_dt.json", golden, name);
        snprintf(path, sizeof path, "%s by %s", name, type);
        for (int threads = 1; threads <= 3; threads += 2) {
            coco_scores scores;
            thread_pool_start(threads);
            if (try_score(&scores, gt, dt, type_of(type), &options) != STATUS_OK)
                fail_msg("%s: %s", path, error_cause());
            thread_pool_stop();
            assert_numbers(path, &scores, expected);
            assert_classes(path, &scores, classes, (size_t)count);
            coco_scores_release(&scores);
        }
    }
    fclose(file);
    assert_int_equal(lines, 28);
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
        {"[{\"image_id\": 1, \"category_id\": 5, \"score\": 1, \"bbox\": []}]",
         "has no bbox and no segmentation"},
        {"[{\"image_id\": 1, \"category_id\": 5, \"score\": 1, \"bbox\": [1, 1, 2]}]",
         "bbox that is not four numbers"},
        {"[{\"image_id\": 1, \"category_id\": 5, \"score\": 1, \"bbox\": [1, 1, 2, 2, 1], \"segmentation\": "
         "[[1, 1, 3, 1, 3, 3]]}]",
         "bbox that is not four numbers"},
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

/* Image 1 with three objects of category 5 and one of category 9, image 2 with one; the last annotation has no usable
 * mask, one has the id 0, two share one. */
static const char crowded[] =
    "{\"images\": [{\"id\": 1, \"width\": 20, \"height\": 10}, {\"id\": 2, \"width\": 20, \"height\": 10}],"
    " \"categories\": [{\"id\": 5, \"name\": \"cat\"}, {\"id\": 9, \"name\": \"dog\"}], \"annotations\": ["
    "{\"id\": 1, \"image_id\": 1, \"category_id\": 5, \"bbox\": [0, 0, 4, 4], \"segmentation\": [[0, 0, 4, "
    "0, 4, "
    "4]]},"
    "{\"id\": 2, \"image_id\": 1, \"category_id\": 5, \"bbox\": [5, 0, 4, 4], \"segmentation\": [[5, 0, 9, "
    "0, 9, "
    "4]]},"
    "{\"id\": 3, \"image_id\": 1, \"category_id\": 5, \"bbox\": [5, 5, 4, 4], \"segmentation\": [[5, 5, 9, "
    "5, 9, "
    "9]]},"
    "{\"id\": 4, \"image_id\": 1, \"category_id\": 5, \"bbox\": [0, 0, 9, 9], \"iscrowd\": 1, "
    "\"segmentation\": "
    "[[0, 0, 9, 0, 9, 9]]},"
    "{\"id\": 7, \"image_id\": 1, \"category_id\": 9, \"bbox\": [9, 5, 4, 4], \"segmentation\": [[9, 5, 13, "
    "5, "
    "13, 9]]},"
    "{\"id\": 7, \"image_id\": 2, \"category_id\": 9, \"bbox\": [9, 0, 4, 4], \"segmentation\": [[9, 0, 13, "
    "0, "
    "13, 4]]},"
    "{\"id\": 0, \"image_id\": 2, \"category_id\": 9, \"bbox\": [1, 1, 4, 4], \"segmentation\": []}]}";

static void what_changes_scores_silently_is_counted(void **state) {
    (void)state;
    char gt[PATH_MAX], dt[PATH_MAX];
    snprintf(gt, sizeof gt, "%s", write_text("crowded.json", crowded));
    snprintf(dt, sizeof dt, "%s",
             write_text("dt.json",
                        "[{\"image_id\": 1, \"category_id\": 5, \"score\": 0.5, \"bbox\": [0, 0, 4, 4]},"
                        " {\"image_id\": 1, \"category_id\": 6, \"score\": 0.5, \"bbox\": [0, 0, 4, 4]},"
                        " {\"image_id\": 2, \"category_id\": -1, \"score\": 0.5}]"));
    coco_eval_options options = coco_eval_defaults;
    const uint32_t limits[COCO_LIMITS] = {1, 2, 3};
    memcpy(options.max_detections, limits, sizeof limits);
    options.detections_per_image = 4;
    coco_scores scores;
    assert_int_equal(try_score(&scores, gt, dt, COCO_IOU_BBOX, &options), STATUS_OK);
    assert_int_equal(scores.unknown_categories, 2);
    assert_int_equal(scores.detections, 1);
    assert_int_equal(scores.same_ids, 1);
    assert_int_equal(scores.zero_ids, 1);
    assert_int_equal(scores.dense_pairs, 0); /* three objects and a crowd, three detections */
    assert_int_equal(scores.dense_images, 0);
    assert_int_equal(scores.unusable, 0);
    assert_int_equal(scores.classes[0].objects, 3);
    assert_int_equal(scores.classes[0].detections, 1);
    coco_scores_release(&scores);
    options.max_detections[2] = 3, options.max_detections[1] = 2;
    options.detections_per_image = 2;
    assert_int_equal(try_score(&scores, gt, dt, COCO_IOU_BBOX, &options), STATUS_OK);
    assert_int_equal(scores.dense_images, 2); /* the annotation with a later one's id counts where that is */
    coco_scores_release(&scores);
}

static void limits_decide_what_counts_and_names(void **state) {
    (void)state;
    char gt[PATH_MAX], dt[PATH_MAX];
    snprintf(gt, sizeof gt, "%s", write_text("crowded.json", crowded));
    char text[4096] = "[";
    for (int i = 0; i < 5; i++) /* two misses, then the three objects of category 5 */
        snprintf(text + strlen(text), sizeof text - strlen(text),
                 "%s{\"image_id\": 1, \"category_id\": 5, \"score\": 0.%d, \"bbox\": [%d, %d, 4, 4]}",
                 i ? "," : "", 9 - i,
                 i < 2   ? 15
                 : i > 2 ? 5
                         : 0,
                 i == 4 ? 5 : 0);
    strcat(text, "]");
    snprintf(dt, sizeof dt, "%s", write_text("dt.json", text));
    coco_eval_options options = coco_eval_defaults;
    const uint32_t limits[COCO_LIMITS] = {2, 4, 5};
    memcpy(options.max_detections, limits, sizeof limits);
    coco_scores scores;
    assert_int_equal(try_score(&scores, gt, dt, COCO_IOU_BBOX, &options), STATUS_OK);
    assert_true(scores.numbers[COCO_AR1] == 0); /* categories 5 and 9; 9 has no detection */
    assert_true(fabs(scores.numbers[COCO_AR10] - 1.0 / 3) < 1e-9);
    assert_true(fabs(scores.numbers[COCO_AR100] - 0.5) < 1e-9);
    assert_true(fabs(scores.classes[0].ap - 0.6) < 1e-9);
    json_writer json;
    json_write_init(&json);
    coco_scores_json(&json, &scores);
    assert_int_equal(json_write_finish(&json), STATUS_OK);
    assert_non_null(strstr(json.text, "\"AR2\": 0, \"AR4\": 0.33"));
    assert_non_null(strstr(json.text, "\"AR5\": 0.5, \"ARs\": "));
    json_write_release(&json);
    coco_scores_release(&scores);
    options.max_detections[2] = 6, options.max_detections[1] = 5, options.max_detections[0] = 1;
    assert_int_equal(try_score(&scores, gt, dt, COCO_IOU_BBOX, &options), STATUS_OK);
    assert_int_equal(scores.dense_pairs, 0);
    coco_scores_release(&scores);
}

static void some_images_can_be_scored_alone(void **state) {
    (void)state;
    char gt[PATH_MAX], dt[PATH_MAX];
    snprintf(gt, sizeof gt, "%s", write_text("crowded.json", crowded));
    snprintf(dt, sizeof dt, "%s",
             write_text("dt.json",
                        "[{\"image_id\": 1, \"category_id\": 5, \"score\": 0.5, \"bbox\": [0, 0, 4, 4]},"
                        " {\"image_id\": 2, \"category_id\": 9, \"score\": 0.5, \"bbox\": [9, 0, 4, 4]}]"));
    static const int64_t ids[] = {77, 1};
    coco_eval_options options = coco_eval_defaults;
    options.image_ids = ids;
    options.image_count = 2;
    coco_scores scores;
    assert_int_equal(try_score(&scores, gt, dt, COCO_IOU_BBOX, &options), STATUS_OK);
    assert_int_equal(scores.images, 1);
    assert_int_equal(scores.objects, 4); /* the object of category 9 has its id again in image 2 */
    assert_int_equal(scores.detections, 1);
    assert_true(scores.classes[1].ap == -1 && scores.classes[0].ap > 0.3);
    coco_scores_release(&scores);
    options.image_count = 0;
    assert_int_equal(try_score(&scores, gt, dt, COCO_IOU_BBOX, &options), STATUS_OK);
    assert_true(scores.images == 0 && scores.numbers[COCO_AP] == -1);
    coco_scores_release(&scores);
}

static void unusable_ground_truth_is_an_error_or_left_out(void **state) {
    (void)state;
    coco_truth *truth;
    coco_eval_options options = coco_eval_defaults;
    options.types[COCO_IOU_SEGM] = true;
    assert_int_equal(coco_truth_open(&truth, write_text("crowded.json", crowded)), STATUS_OK);
    assert_int_equal(coco_eval_check(truth, &options), STATUS_DATA);
    assert_non_null(strstr(error_cause(), "annotation 0 at byte"));
    options.skip_unusable = true;
    assert_int_equal(coco_eval_check(truth, &options), STATUS_OK);
    coco_scores scores[COCO_IOU_TYPES];
    const char *dt = write_text("dt.json", "[]");
    assert_int_equal(coco_eval_results(scores, truth, dt, &options), STATUS_OK);
    assert_int_equal(scores[COCO_IOU_SEGM].unusable, 1);
    assert_int_equal(scores[COCO_IOU_SEGM].objects, 6);
    assert_int_equal(scores[COCO_IOU_BBOX].class_count, 0); /* was not asked for */
    coco_scores_release(&scores[COCO_IOU_SEGM]);
    coco_truth_free(truth);
    assert_int_equal(coco_truth_open(&truth, write_text("gt.json", tiny)), STATUS_OK);
    assert_int_equal(coco_eval_check(truth, &options), STATUS_DATA); /* none has a mask */
    assert_non_null(strstr(error_cause(), "no annotation can be used"));
    coco_truth_free(truth);
}

static void both_types_come_from_one_reading(void **state) {
    (void)state;
    char gt[PATH_MAX], dt[PATH_MAX];
    snprintf(gt, sizeof gt, "%s/tests/golden/eval_mixed_gt.json", TEST_SOURCE_DIR);
    snprintf(dt, sizeof dt, "%s/tests/golden/eval_mixed_dt.json", TEST_SOURCE_DIR);
    coco_truth *truth;
    coco_scores both[COCO_IOU_TYPES], one;
    coco_eval_options options = coco_eval_defaults;
    options.types[COCO_IOU_BBOX] = options.types[COCO_IOU_SEGM] = true;
    assert_int_equal(coco_truth_open(&truth, gt), STATUS_OK);
    assert_int_equal(coco_eval_results(both, truth, dt, &options), STATUS_OK);
    coco_truth_free(truth);
    for (int type = 0; type < COCO_IOU_TYPES; type++) {
        score(&one, gt, dt, (coco_iou_type)type);
        assert_memory_equal(one.numbers, both[type].numbers, sizeof one.numbers);
        coco_scores_release(&one);
    }
    char *text = NULL;
    size_t size;
    FILE *to = open_memstream(&text, &size);
    coco_classes_print(to, &both[COCO_IOU_BBOX], &both[COCO_IOU_SEGM]);
    assert_int_equal(fclose(to), 0);
    assert_non_null(strstr(text, "   box AP  mask AP\n"));
    assert_non_null(strstr(text, "   41.007   42.199\n"));
    assert_non_null(strstr(text, "      n/a      n/a  no ground truth\n"));
    free(text);
    json_writer json;
    json_write_init(&json);
    coco_classes_json(&json, &both[COCO_IOU_BBOX], &both[COCO_IOU_SEGM]);
    assert_int_equal(json_write_finish(&json), STATUS_OK);
    assert_ptr_equal(strstr(json.text, "[{\"id\": 2, \"name\": \"class 0\", \"bbox\": 0.41007438243824"),
                     json.text);
    assert_non_null(strstr(json.text, ", \"segm\": 0.4219896247042"));
    assert_non_null(strstr(json.text, "\"bbox\": -1, \"segm\": -1}]"));
    json_write_release(&json);
    coco_scores_release(&both[0]);
    coco_scores_release(&both[1]);
}

static const char *log_of(const coco_scores *scores, char **text) {
    size_t size;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s", in_folder("log.txt"));
    unlink(path);
    assert_int_equal(log_open(path), STATUS_OK);
    coco_scores_log(scores);
    log_close();
    assert_int_equal(read_file(text, &size, path, 1 << 16), STATUS_OK);
    return *text;
}

static void logged_lines_are_detectron2s(void **state) {
    (void)state;
    coco_scores scores = {.type = COCO_IOU_SEGM, .detections = 3, .max_detections = {1, 10, 100}};
    for (int i = 0; i < COCO_NUMBERS; i++) scores.numbers[i] = i == COCO_AP_LARGE ? -1 : 0.2345 + i / 1e6;
    char *text;
    assert_non_null(strstr(log_of(&scores, &text), "]: copypaste: Task: segm\n"));
    assert_non_null(strstr(text, "]: copypaste: AP,AP50,AP75,APs,APm,APl\n"));
    assert_non_null(strstr(text, "]: copypaste: 23.4500,23.4501,23.4502,23.4503,23.4504,nan\n"));
    assert_non_null(strstr(text, "]: mask AP: 23.45\n"));
    free(text);
    scores.detections = 0;
    scores.type = COCO_IOU_BBOX;
    assert_non_null(strstr(log_of(&scores, &text), "]: copypaste: Task: bbox\n"));
    assert_non_null(strstr(text, "]: copypaste: nan,nan,nan,nan,nan,nan\n"));
    assert_non_null(strstr(text, "]: box AP: n/a (there is no detection)\n"));
    free(text);
    scores.numbers[COCO_AP] = -1;
    assert_non_null(strstr(log_of(&scores, &text), "]: box AP: n/a (there is no ground truth but crowds)\n"));
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scores_equal_pycocotools),
        cmocka_unit_test(coco_example_has_its_known_scores),
        cmocka_unit_test(printed_table_and_json_agree),
        cmocka_unit_test(bad_results_are_refused_by_name),
        cmocka_unit_test(what_changes_scores_silently_is_counted),
        cmocka_unit_test(limits_decide_what_counts_and_names),
        cmocka_unit_test(some_images_can_be_scored_alone),
        cmocka_unit_test(unusable_ground_truth_is_an_error_or_left_out),
        cmocka_unit_test(both_types_come_from_one_reading),
        cmocka_unit_test(logged_lines_are_detectron2s),
    };
    return cmocka_run_group_tests(tests, make_test_folder, remove_test_folder);
}
