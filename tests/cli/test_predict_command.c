/* `maskrcnn predict`: what it writes for files, folders and patterns, what it does about bad images, what it refuses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/train_sandbox.h"
#include "data/image_read.h"
#include "data/image_write.h"
#include "data/json_pairs.h"
#include "data/safetensors.h"
#include "draw/picture.h"

#define PREDICT "maskrcnn~predict~--config~tiny.yaml~--weights~out/model_final.safetensors~--out~"
#define KEYS "~MODEL.ROI_HEADS.SCORE_THRESH_TEST~0~INPUT.MIN_SIZE_TEST~64~TEST.DETECTIONS_PER_IMAGE~3"
enum { MOST = 64 };

static int make(void **state) {
    if (sandbox_make(state)) return -1;
    toy_dataset_write(sandbox_folder(), "toy", &(toy_options){.images = 8});
    sandbox_train_well(0, "out", "~SOLVER.MAX_ITER~1");
    sandbox_write("bad.jpg", "no image", 8);
    mkdir(sandbox_path("many"), 0777);
    for (int i = 0; i < 2; i++) {
        size_t size;
        char *bytes = sandbox_read(i ? "toy/0003.png" : "toy/0001.png", &size);
        sandbox_write(i ? "many/b.png" : "many/a.png", bytes, size);
        free(bytes);
    }
    return 0;
}

static void predict(const char *line) {
    run_program(&sandbox_run, sandbox_folder(), line, SANDBOX_LIMIT);
    if (sandbox_run.code)
        fail_msg("%s ended with %d:\n%s%s", line, sandbox_run.code, sandbox_run.out, sandbox_run.err);
}

typedef struct entry {
    int64_t image, category;
    char file[32];
    double score, box[4];
    bool has_mask;
    int64_t height, width;
} entry;

static double number(const json_pairs *pairs, int i, const char *name) {
    char path[96];
    double value;
    snprintf(path, sizeof path, "%d/%s", i, name);
    if (!json_pairs_f64(&value, pairs, path)) fail_msg("entry %d has no %s", i, name);
    return value;
}

static int read_results(entry entries[MOST], const char *name) {
    size_t size;
    char *text = sandbox_read(name, &size), path[64];
    json_pairs pairs;
    assert_int_equal(json_pairs_parse(&pairs, name, text, size), STATUS_OK);
    int n = 0;
    for (;; n++) {
        snprintf(path, sizeof path, "%d/file_name", n);
        const char *file = json_pairs_get(&pairs, path);
        if (!file) break;
        assert_true(n < MOST);
        entry *e = &entries[n];
        *e = (entry){.image = (int64_t)number(&pairs, n, "image_id"),
                     .category = (int64_t)number(&pairs, n, "category_id"),
                     .score = number(&pairs, n, "score")};
        snprintf(e->file, sizeof e->file, "%s", file);
        for (int k = 0; k < 4; k++) {
            snprintf(path, sizeof path, "bbox/%d", k);
            e->box[k] = number(&pairs, n, path);
        }
        snprintf(path, sizeof path, "%d/segmentation/counts", n);
        e->has_mask = json_pairs_get(&pairs, path) != NULL;
        if (!e->has_mask) continue;
        e->height = (int64_t)number(&pairs, n, "segmentation/size/0");
        e->width = (int64_t)number(&pairs, n, "segmentation/size/1");
    }
    json_pairs_release(&pairs);
    free(text);
    return n;
}

static bool exists(const char *name) {
    return access(sandbox_path("%s", name), F_OK) == 0;
}

static void results_and_pictures_of_a_folder(void **state) {
    (void)state;
    entry entries[MOST];
    predict(PREDICT "folder~toy~--draw-threshold~0" KEYS);
    assert_int_equal(read_results(entries, "folder/coco_instances_results.json"), 24);
    for (int i = 0; i < 24; i++) {
        const entry *e = &entries[i];
        assert_int_equal(e->image, i / 3 + 1);                                 /* 0001.png is image 1 */
        assert_true(e->category == 1 || e->category == 2 || e->category == 5); /* the data set's */
        assert_true(e->has_mask && e->height == 64 && e->width == 64);
        assert_true(e->score > 0 && e->score <= 1);
        assert_true(e->box[0] >= 0 && e->box[1] >= 0 && e->box[0] + e->box[2] <= 64 &&
                    e->box[1] + e->box[3] <= 64);
    }
    const char *stages[] = {"read",         "preprocess", "backbone", "rpn", "box",
                            "mask forward", "mask post",  "write",    "all"};
    for (int i = 0; i < 9; i++) assert_int_equal(count_lines(sandbox_run.out, stages[i]), 1);
    assert_true(HAS_LINE(sandbox_run.out, "8 images", "24 detections", "img/s"));
    if (!picture_built_in()) return;
    image_buffer drawn = {0};
    assert_int_equal(image_read(&drawn, sandbox_path("folder/0008.png"), NULL), STATUS_OK);
    assert_true(drawn.height >= 64 && drawn.width >= 64);
    image_buffer_release(&drawn);
}

static void names_that_are_no_numbers_give_places(void **state) {
    (void)state;
    entry entries[MOST];
    predict(PREDICT "places~many/b.png~many/a*.png~toy/0001.png~--no-pictures" KEYS);
    assert_int_equal(read_results(entries, "places/coco_instances_results.json"), 9);
    for (int i = 0; i < 9; i++) assert_int_equal(entries[i].image, i / 3 + 1);
    assert_string_equal(entries[0].file, "b.png");
    assert_string_equal(entries[3].file, "a.png");
    assert_false(exists("places/b.png"));
    for (int i = 0; i < 3; i++) { /* the same picture under another name */
        assert_true(entries[3 + i].score == entries[6 + i].score);
        assert_memory_equal(entries[3 + i].box, entries[6 + i].box, sizeof entries[3 + i].box);
    }
}

static void raw_masks_go_to_a_file_of_their_own(void **state) {
    (void)state;
    entry entries[MOST], plain[MOST];
    predict(PREDICT "raw~--raw-masks~--no-pictures~toy/0001.png~toy/0002.png" KEYS);
    predict(PREDICT "plain~--no-pictures~toy/0001.png~toy/0002.png" KEYS);
    assert_int_equal(read_results(entries, "raw/coco_instances_results.json"), 6);
    assert_int_equal(read_results(plain, "plain/coco_instances_results.json"), 6);
    for (int i = 0; i < 6; i++) {
        assert_false(entries[i].has_mask);
        assert_true(entries[i].score == plain[i].score);
    }
    safetensors *file;
    assert_int_equal(safetensors_open(&file, sandbox_path("raw/raw_masks.safetensors")), STATUS_OK);
    const safetensors_tensor *t = safetensors_find(file, "masks");
    assert_non_null(t);
    assert_true(t->dtype == SAFETENSORS_F32 && t->rank == 3);
    assert_true(t->shape[0] == 6 && t->shape[1] == 28 && t->shape[2] == 28);
    const float *values = t->data;
    for (int64_t i = 0; i < t->elements; i++) assert_true(values[i] > 0 && values[i] < 1);
    safetensors_close(file);
    assert_false(exists("plain/raw_masks.safetensors"));
}

static void a_model_with_masks_can_give_boxes_only(void **state) {
    (void)state;
    entry entries[MOST], plain[MOST];
    predict(PREDICT "boxes~--raw-masks~toy/0001.png~MODEL.MASK_ON~False" KEYS);
    assert_true(HAS_LINE(sandbox_run.err, "MODEL.MASK_ON is False", "mask head") ||
                HAS_LINE(sandbox_run.out, "MODEL.MASK_ON is False", "mask head"));
    assert_true(HAS_LINE(sandbox_run.out, "boxes/coco_instances_results.json"));
    predict(PREDICT "both~--no-pictures~toy/0001.png" KEYS);
    assert_int_equal(read_results(entries, "boxes/coco_instances_results.json"), 3);
    assert_int_equal(read_results(plain, "both/coco_instances_results.json"), 3);
    for (int i = 0; i < 3; i++) {
        assert_false(entries[i].has_mask);
        assert_true(entries[i].score == plain[i].score);
        assert_memory_equal(entries[i].box, plain[i].box, sizeof plain[i].box);
    }
    assert_false(exists("boxes/raw_masks.safetensors"));
    /* Anything else that the model lacks is still refused. */
    sandbox_refuse(&(refusal){
        PREDICT "x~toy~MODEL.MASK_ON~False~MODEL.FPN.NORM~BN", 65, {"16 tensors are missing"}, NULL});
}

static void a_bad_image_does_not_stop_the_others(void **state) {
    (void)state;
    entry entries[MOST];
    predict(PREDICT "some~toy/0002.png~bad.jpg~toy/0001.png~--no-pictures" KEYS);
    assert_int_equal(read_results(entries, "some/coco_instances_results.json"), 6);
    assert_true(HAS_LINE(sandbox_run.err, "bad.jpg"));
    assert_true(HAS_LINE(sandbox_run.err, "1 of 3"));
    assert_int_equal(entries[0].image, 1); /* bad.jpg is no number: places */
    assert_int_equal(entries[3].image, 3);
    sandbox_refuse(&(refusal){.line = PREDICT "none~bad.jpg", .code = 65, .culprits = {"none of 1"}});
    assert_false(exists("none/coco_instances_results.json"));
}

/* Longer than a picture may be: its detections count all the same. */
static void what_cannot_be_drawn_is_detected_in(void **state) {
    (void)state;
    enum { LONG = 33000 };
    static uint8_t grey[LONG * 2 * 3];
    entry entries[MOST];
    if (!picture_built_in()) {
        print_message("[  SKIPPED ] built without cairo\n");
        return;
    }
    assert_int_equal(image_write_png(sandbox_path("long.png"), grey, 2, LONG), STATUS_OK);
    predict(PREDICT "long~long.png~toy/0001.png" KEYS);
    assert_true(HAS_LINE(sandbox_run.err, "long.png: no picture"));
    assert_true(read_results(entries, "long/coco_instances_results.json") >= 3);
    assert_false(exists("long/long.png"));
    assert_true(exists("long/0001.png"));
}

static void wrong_calls_are_refused(void **state) {
    (void)state;
    const refusal rows[] = {
        {PREDICT "x~toy/0001.png~gone.png", 66, {"gone.png"}, NULL},
        {PREDICT "x~'*.tif'", 66, {"*.tif"}, NULL},
        {PREDICT "x", 64, {"IMAGE"}, NULL},
        {PREDICT "x~--draw-threshold~2~toy", 64, {"--draw-threshold"}, NULL},
        {"maskrcnn~predict~--config~tiny.yaml~toy", 64, {"--out"}, NULL},
        {"maskrcnn~predict~--config~tiny.yaml~--out~x~toy", 64, {"weights"}, "--weights"},
        {"maskrcnn~predict~--config~tiny.yaml~--out~x~--weights~gone.safetensors~toy",
         66,
         {"gone.safetensors"},
         NULL},
        {PREDICT "toy.json~toy", 73, {"toy.json"}, NULL},
        {PREDICT "x~toy~MODEL.ROI_HEADS.NUM_CLASSES~4", 65, {"cls_score"}, "MODEL.ROI_HEADS.NUM_CLASSES 3"},
        {"mpirun~--allow-run-as-root~--oversubscribe~--bind-to~none~-n~2~" TEST_PROGRAM
         "~predict~--config~tiny.yaml~--weights~out/model_final.safetensors~--out~x~toy",
         64,
         {"predict", "one process", "2"},
         "without mpirun"},
        {PREDICT "x~toy~TEST.DETECTIONS_PER_IMAGE~0", 78, {"TEST.DETECTIONS_PER_IMAGE"}, NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) sandbox_refuse(&rows[i]);
    if (picture_built_in())
        sandbox_refuse(&(refusal){PREDICT "toy~toy/0001.png", 64, {"toy/0001.png"}, "--out"});
    assert_false(exists("x/coco_instances_results.json"));
}

static void augmentation_is_a_key(void **state) {
    (void)state;
    entry entries[MOST];
    predict(PREDICT "aug~toy/0001.png~--no-pictures" KEYS
                    "~TEST.AUG.ENABLED~True~TEST.AUG.MIN_SIZES~(64,96)");
    assert_int_equal(read_results(entries, "aug/coco_instances_results.json"), 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_and_pictures_of_a_folder),
        cmocka_unit_test(names_that_are_no_numbers_give_places),
        cmocka_unit_test(raw_masks_go_to_a_file_of_their_own),
        cmocka_unit_test(a_model_with_masks_can_give_boxes_only),
        cmocka_unit_test(a_bad_image_does_not_stop_the_others),
        cmocka_unit_test(what_cannot_be_drawn_is_detected_in),
        cmocka_unit_test(wrong_calls_are_refused),
        cmocka_unit_test(augmentation_is_a_key),
    };
    return cmocka_run_group_tests(tests, make, sandbox_remove);
}
