/* Results files: what is written reads back bit for bit, scores as it should, and appears only when it is complete. */
#include "data/coco_test_util.h"

#include <fcntl.h>
#include <math.h>

#include "base/file_util.h"
#include "data/coco_parse.h"
#include "eval/coco_eval.h"
#include "eval/coco_results.h"

enum { HEIGHT = 11, WIDTH = 17 };

/* Detection i: a box whose float corners have long digits; even ones have a mask. */
static void fill(detection_list *list, int count, float from) {
    assert_int_equal(detection_list_reserve(list, count, 0), STATUS_OK);
    list->count = count;
    list->height = HEIGHT;
    list->width = WIDTH;
    for (int i = 0; i < count; i++) {
        detection *d = &list->items[i];
        d->label = i % 2;
        d->score = 1.0f / (3.0f + (float)i + from);
        d->box[0] = 0.1f * (float)i + from / 7;
        d->box[1] = (float)M_PI / (float)(i + 1);
        d->box[2] = i == 0 ? (float)WIDTH : 9.3f + from / 3;
        d->box[3] = i == 1 ? (float)HEIGHT : 7.7f;
        mask_rle_release(&d->mask);
        if (i % 2 == 1) continue;
        uint8_t pixels[HEIGHT * WIDTH] = {0};
        for (int k = 0; k < HEIGHT * WIDTH; k++) pixels[k] = (k * 7 + i) % 5 < 2;
        assert_int_equal(mask_rle_encode(&d->mask, pixels, HEIGHT, WIDTH), STATUS_OK);
    }
}

static void parse_results(raw_coco *raw, const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    if (coco_parse_results_file(raw, fd, path) != STATUS_OK) fail_msg("%s", error_cause());
    close(fd);
    assert_int_equal(raw->findings[COCO_WRONG_TYPE].count, 0);
}

static void assert_same(const raw_coco *raw, size_t at, const detection *d, int64_t image, int64_t category) {
    const raw_annotation *a = &raw->annotations[at];
    assert_int_equal(a->image_id, image);
    assert_int_equal(a->category_id, category);
    assert_true((float)a->score == d->score && a->score == (double)d->score);
    assert_true(a->box[0] == (double)d->box[0] && a->box[1] == (double)d->box[1]);
    assert_true(a->box[0] + a->box[2] == (double)d->box[2] && a->box[1] + a->box[3] == (double)d->box[3]);
    assert_int_equal(a->mask_kind, d->mask.height ? COCO_MASK_RLE : COCO_MASK_NONE);
    if (!d->mask.height) return;
    assert_int_equal(a->rle_height, HEIGHT);
    assert_int_equal(a->rle_width, WIDTH);
    assert_int_equal(a->count, d->mask.count);
    assert_memory_equal(raw->runs + a->data, d->mask.counts, d->mask.count * sizeof *d->mask.counts);
}

static void results_read_back_as_they_were(void **state) {
    (void)state;
    static const int64_t ids[] = {90, ((int64_t)1 << 60) + 1};
    detection_list first = {0}, none = {0}, second = {0};
    fill(&first, 5, 0);
    fill(&second, 3, 0.3f);
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s", in_folder("results.json"));
    results_writer *w;
    assert_int_equal(results_writer_open(&w, path), STATUS_OK);
    assert_int_equal(results_writer_add(w, 7, NULL, &first, ids), STATUS_OK);
    assert_int_equal(results_writer_add(w, 8, NULL, &none, ids), STATUS_OK);
    json_writer lines; /* as another rank would send them */
    json_write_init(&lines);
    assert_int_equal(coco_results_format(&lines, ((int64_t)1 << 53) + 1, "a \"b\"\n.jpg", &second, NULL),
                     STATUS_OK);
    assert_int_equal(results_writer_add_lines(w, lines.text, lines.size), STATUS_OK);
    json_write_release(&lines);
    assert_int_not_equal(access(path, F_OK), 0); /* not there before it is whole */
    assert_int_equal(results_writer_finish(&w), STATUS_OK);
    assert_null(w);
    raw_coco raw;
    parse_results(&raw, path);
    assert_int_equal(raw.annotation_count, 8);
    for (size_t i = 0; i < 5; i++) assert_same(&raw, i, &first.items[i], 7, ids[i % 2]);
    for (size_t i = 0; i < 3; i++)
        assert_same(&raw, 5 + i, &second.items[i], ((int64_t)1 << 53) + 1, (int64_t)i % 2 + 1);
    raw_coco_release(&raw);
    char *text;
    size_t size, newlines = 0;
    assert_int_equal(read_file(&text, &size, path, 1 << 20), STATUS_OK);
    for (size_t i = 0; i < size; i++) newlines += text[i] == '\n';
    assert_int_equal(newlines, 10); /* the brackets and one line for each */
    assert_ptr_equal(strstr(text, "[\n{\"image_id\": 7, \"category_id\": 90, \"bbox\": [0, "), text);
    assert_non_null(strstr(text, "\"file_name\": \"a \\\"b\\\"\\n.jpg\""));
    free(text);
    detection_list_release(&first);
    detection_list_release(&second);
}

static void perfect_results_score_one(void **state) {
    (void)state;
    detection_list list = {0};
    fill(&list, 1, 0);
    char truth[1024], gt[PATH_MAX], dt[PATH_MAX], *counts;
    assert_int_equal(mask_rle_to_string(&counts, &list.items[0].mask), STATUS_OK);
    snprintf(
        truth, sizeof truth,
        "{\"images\": [{\"id\": 4, \"width\": %d, \"height\": %d}], \"categories\": [{\"id\": 1, \"name\": "
        "\"a\"}], \"annotations\": [{\"id\": 1, \"image_id\": 4, \"category_id\": 1, \"bbox\": [0, %.17g, "
        "%d, "
        "%.17g], \"area\": 50, \"iscrowd\": 0, \"segmentation\": {\"size\": [%d, %d], \"counts\": \"%s\"}}]}",
        WIDTH, HEIGHT, (double)list.items[0].box[1], WIDTH,
        (double)list.items[0].box[3] - (double)list.items[0].box[1], HEIGHT, WIDTH, counts);
    free(counts);
    snprintf(gt, sizeof gt, "%s", write_text("gt.json", truth));
    snprintf(dt, sizeof dt, "%s", in_folder("dt.json"));
    results_writer *w;
    assert_int_equal(results_writer_open(&w, dt), STATUS_OK);
    assert_int_equal(results_writer_add(w, 4, NULL, &list, NULL), STATUS_OK);
    assert_int_equal(results_writer_finish(&w), STATUS_OK);
    coco_truth *ground;
    coco_scores scores[COCO_IOU_TYPES];
    coco_eval_options options = coco_eval_defaults;
    options.types[COCO_IOU_BBOX] = options.types[COCO_IOU_SEGM] = true;
    assert_int_equal(coco_truth_open(&ground, gt), STATUS_OK);
    if (coco_eval_results(scores, ground, dt, &options) != STATUS_OK) fail_msg("%s", error_cause());
    for (int type = 0; type < COCO_IOU_TYPES; type++) {
        assert_true(fabs(scores[type].numbers[COCO_AP] - 1) < 1e-9);
        coco_scores_release(&scores[type]);
    }
    coco_truth_free(ground);
    detection_list_release(&list);
}

static void no_results_are_an_empty_list(void **state) {
    (void)state;
    const char *path = in_folder("empty.json");
    results_writer *w;
    assert_int_equal(results_writer_open(&w, path), STATUS_OK);
    assert_int_equal(results_writer_finish(&w), STATUS_OK);
    char *text;
    size_t size;
    assert_int_equal(read_file(&text, &size, path, 100), STATUS_OK);
    assert_string_equal(text, "[]\n");
    free(text);
}

static void failures_leave_the_old_file(void **state) {
    (void)state;
    results_writer *w;
    assert_int_equal(results_writer_open(&w, in_folder("absent/results.json")), STATUS_CANT_CREATE);
    assert_null(w);
    assert_non_null(strstr(error_cause(), "absent/results.json.part"));
    char path[PATH_MAX], part[PATH_MAX + 8];
    snprintf(path, sizeof path, "%s", write_text("old.json", "old"));
    snprintf(part, sizeof part, "%s.part", path);
    assert_int_equal(results_writer_open(&w, path), STATUS_OK);
    assert_int_equal(access(part, F_OK), 0);
    results_writer_cancel(&w);
    assert_null(w);
    results_writer_cancel(&w);
    assert_int_not_equal(access(part, F_OK), 0);
    assert_int_equal(mkdir(in_folder("folder.json"), 0777), 0);
    assert_int_equal(results_writer_open(&w, in_folder("folder.json")), STATUS_OK);
    assert_int_not_equal(results_writer_finish(&w), STATUS_OK);
    assert_null(w);
    assert_int_not_equal(access(in_folder("folder.json.part"), F_OK), 0);
    rmdir(in_folder("folder.json"));
    char *text;
    size_t size;
    assert_int_equal(read_file(&text, &size, path, 100), STATUS_OK);
    assert_string_equal(text, "old");
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_read_back_as_they_were),
        cmocka_unit_test(perfect_results_score_one),
        cmocka_unit_test(no_results_are_an_empty_list),
        cmocka_unit_test(failures_leave_the_old_file),
    };
    return cmocka_run_group_tests(tests, make_test_folder, remove_test_folder);
}
