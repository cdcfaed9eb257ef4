/* The detector against torchvision and detectron2: boxes, classes, scores and pasted masks of small models, whose weights
 * are formulas (scripts/golden_predict.py). Also with 1, 2 and 3 threads, bit for bit. */
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

#include "base/thread_pool.h"
#include "device/device.h"
#include "infer/detector.h"
#include "train/formula_model.h"
#include "setup/model_config.h"
#include "setup/setup.h"

/* Largest errors; of masks: the share of their pixels that differ, in all masks together. */
static const double SCORE = 1e-4, BOX = 0.02, MASK = 1e-3;

typedef struct fixture {
    safetensors *file;
    config cfg;
    char folder[64], weights[96];
    device *dev;
    mask_rcnn model;
    detector *d;
} fixture;

static void fixture_open(fixture *f, const char *name) {
    char path[4096];
    snprintf(f->folder, sizeof f->folder, "/tmp/test_detector_golden_XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    snprintf(path, sizeof path, TEST_SOURCE_DIR "/tests/golden/predict_%s.safetensors", name);
    snprintf(f->weights, sizeof f->weights, "%s/weights.safetensors", f->folder);
    formula_ok(safetensors_open(&f->file, path));
    formula_config(&f->cfg, f->file);
    formula_weights(f->weights, &f->cfg, f->file);
    formula_ok(device_open(&f->dev, "cpu"));
    formula_ok(setup_model(&f->model, &f->cfg, f->dev, false, f->weights, NULL, WEIGHTS_EXACT));
}

static void fixture_close(fixture *f) {
    mask_rcnn_release(&f->model);
    device_close(f->dev);
    config_release(&f->cfg);
    safetensors_close(f->file);
    unlink(f->weights);
    assert_int_equal(rmdir(f->folder), 0);
}

/* Graphs are planned for the threads there are: each number of threads gets a detector of its own. */
static void detect(detection_list *found, fixture *f, int threads) {
    detector_spec spec;
    thread_pool_start(threads);
    detector_spec_from_config(&spec, &f->cfg);
    formula_ok(detector_new(&f->d, &f->model, f->dev, &spec));
    const safetensors_tensor *image = safetensors_find(f->file, "image");
    formula_ok(detector_run(f->d, found, image->data, (int)image->shape[0], (int)image->shape[1]));
    detector_free(f->d);
}

static void add_areas(int64_t *different, int64_t *all, const mask_rle *a, const mask_rle *b) {
    mask_rle both = {0}, either = {0};
    formula_ok(mask_rle_merge(&both, a, b, true));
    formula_ok(mask_rle_merge(&either, a, b, false));
    *different += mask_rle_area(&either) - mask_rle_area(&both);
    *all += mask_rle_area(&either);
    mask_rle_release(&both);
    mask_rle_release(&either);
}

/* Both lists are sorted by score, and the fixture's scores are apart or its order is kept by ties alike. */
static void compare(const detection_list *found, const safetensors *file) {
    const safetensors_tensor *scores = safetensors_find(file, "scores");
    const float *boxes = formula_data(file, "boxes"), *score = formula_data(file, "scores");
    bool masks = safetensors_find(file, "runs") != NULL;
    const int32_t *labels = formula_data(file, "labels"),
                  *counts = masks ? formula_data(file, "run_counts") : NULL,
                  *runs = masks ? formula_data(file, "runs") : NULL;
    double worst_box = 0, worst_score = 0;
    int64_t different = 0, all = 0;
    assert_int_equal(found->count, scores->elements);
    for (int i = 0; i < found->count; i++) {
        const detection *d = &found->items[i];
        assert_int_equal(d->label, labels[i]);
        worst_score = fmax(worst_score, fabs((double)d->score - (double)score[i]));
        for (int k = 0; k < 4; k++)
            worst_box = fmax(worst_box, fabs((double)d->box[k] - (double)boxes[4 * i + k]));
        if (!masks) continue;
        int64_t expected[4096];
        mask_rle mask = {0};
        assert_in_range(counts[i], 1, 4096);
        for (int k = 0; k < counts[i]; k++) expected[k] = *runs++;
        formula_ok(mask_rle_from_counts(&mask, expected, (size_t)counts[i], found->height, found->width));
        add_areas(&different, &all, &mask, &d->mask);
        mask_rle_release(&mask);
    }
    print_message("%d detections: score %.1e, box %.1e px at worst; %lld of %lld pixels of masks differ\n",
                  found->count, worst_score, worst_box, (long long)different, (long long)all);
    assert_true(worst_score <= SCORE && worst_box <= BOX);
    assert_true(!masks || all > 100);
    assert_true((double)different <= MASK * (double)all);
}

static void assert_equal_lists(const detection_list *a, const detection_list *b) {
    assert_int_equal(a->count, b->count);
    for (int i = 0; i < a->count; i++) {
        const detection *x = &a->items[i], *y = &b->items[i];
        assert_int_equal(x->label, y->label);
        assert_memory_equal(&x->score, &y->score, sizeof x->score);
        assert_memory_equal(x->box, y->box, sizeof x->box);
        assert_int_equal(x->mask.count, y->mask.count);
        assert_memory_equal(x->mask.counts, y->mask.counts, x->mask.count * sizeof *x->mask.counts);
    }
}

static void run_case(const char *name) {
    fixture f;
    fixture_open(&f, name);
    detection_list first = {0}, again = {0};
    detect(&first, &f, 1);
    compare(&first, f.file);
    for (int threads = 2; threads <= 3; threads++) {
        detect(&again, &f, threads);
        assert_equal_lists(&first, &again);
    }
    thread_pool_stop();
    detection_list_release(&first);
    detection_list_release(&again);
    fixture_close(&f);
}

static void torchvisions_recipe(void **state) {
    (void)state;
    run_case("torchvision");
}

static void batch_norms_use_their_running_statistics(void **state) {
    (void)state;
    run_case("torchvision_batch_norm");
}

static void detectron2s_1x_recipe(void **state) {
    (void)state;
    run_case("detectron2_1x");
}

static void detectron2s_noaug_1x_recipe(void **state) {
    (void)state;
    run_case("detectron2_noaug_1x");
}

static void detectron2s_test_time_augmentation(void **state) {
    (void)state;
    run_case("detectron2_1x_augmented");
}

static void detectron2s_c4_recipe(void **state) {
    (void)state;
    run_case("detectron2_c4");
}

static void detectron2s_rpns_alone(void **state) {
    (void)state;
    run_case("detectron2_rpn_c4");
    run_case("detectron2_rpn_fpn");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(torchvisions_recipe),
        cmocka_unit_test(batch_norms_use_their_running_statistics),
        cmocka_unit_test(detectron2s_1x_recipe),
        cmocka_unit_test(detectron2s_noaug_1x_recipe),
        cmocka_unit_test(detectron2s_test_time_augmentation),
        cmocka_unit_test(detectron2s_c4_recipe),
        cmocka_unit_test(detectron2s_rpns_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
