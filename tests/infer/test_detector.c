/* The detector's own promises, on a small network with random weights: nothing of earlier images is left, every form of
 * output agrees with the others, parameters may change between runs. That it finds what detectron2 and torchvision find is
 * tests/train/test_detector_golden.c's affair. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/clock.h"
#include "base/philox.h"
#include "base/thread_pool.h"
#include "infer/detector.h"
#include "infer/mask_paster.h"
#include "mask_paste/mask_paste.h"

enum { CLASSES = 3, MOST_PIXELS = 512 * 512 * 3 };

static device *dev;
static mask_rcnn model;
static uint8_t pixels[MOST_PIXELS];

static void ok(status s) {
    if (s != STATUS_OK) fail_msg("%s", error_cause());
}

static mask_rcnn_spec small_spec(void) {
    norm_spec norm = {NORM_GROUP, 1e-5, 4};
    mask_rcnn_spec spec = {
        .pixels = {.antialias = true, .bgr = true, .mean = {103, 116, 123}, .std = {57, 57, 58}},
        .backbone = {.depth = 18, .stem_channels = 8, .res2_channels = 8, .norm = norm},
        .fpn_channels = 16,
        .fpn_norm = norm,
        .rpn = {.box_weights = {1, 1, 1, 1},
                .pre_nms_topk = {10, 300},
                .post_nms_topk = {10, 200},
                .nms_threshold = 0.7},
        .roi = {.classes = CLASSES,
                .level_eps = 1e-8,
                .box_pooler = {.resolution = 7, .aligned = true},
                .mask_pooler = {.resolution = 14, .aligned = true},
                .box_weights = {10, 10, 5, 5},
                .fc_dim = 32,
                .mask_convs = 1,
                .mask_dim = 8,
                .mask_norm = norm},
        .mask_on = true,
        .seed = 5};
    anchor_spec *anchors = &spec.rpn.anchors;
    anchors->levels = FPN_LEVELS;
    for (int l = 0; l < FPN_LEVELS; l++) {
        anchors->strides[l] = 4 << l;
        anchors->n_sizes[l] = 1;
        anchors->sizes[l][0] = 16 << l;
        anchors->n_ratios[l] = 3;
        for (int i = 0; i < 3; i++) anchors->ratios[l][i] = (double[]){0.5, 1, 2}[i];
    }
    return spec;
}

/* Start values are so small that every box scores alike: make the predictors decide. */
static void sharpen(const char *name, float factor) {
    int i = param_store_find(&model.params, name);
    assert_true(i >= 0);
    const param *p = &model.params.params[i];
    for (int64_t k = 0; k < p->size; k++) model.params.values[p->offset + k] *= factor;
}

static int set_up(void **state) {
    (void)state;
    mask_rcnn_spec spec = small_spec();
    thread_pool_start(2);
    ok(device_open(&dev, "cpu"));
    ok(mask_rcnn_init(&model, &spec));
    ok(param_store_allocate(&model.params, dev, NULL, false));
    ok(param_store_initialise(&model.params, spec.seed));
    sharpen("roi_heads.box_predictor.cls_score.weight", 200);
    sharpen("roi_heads.box_predictor.bbox_pred.weight", 200);
    sharpen("roi_heads.mask_predictor.mask_fcn_logits.weight", 1000);
    philox_key key = {.seed = 9, .purpose = PHILOX_TEST};
    for (int i = 0; i < MOST_PIXELS; i++)
        pixels[i] =
            (uint8_t)((philox_u32(&key, (uint64_t)i / 96) & 127) + (philox_u32(&key, 1u << 30 | i) & 63));
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    mask_rcnn_release(&model);
    device_close(dev);
    thread_pool_stop();
    return 0;
}

static detector_spec usual(void) {
    return (detector_spec){.short_edge = 96,
                           .max_size = 160,
                           .nms_threshold = 0.5,
                           .max_detections = 60,
                           .paste_rule = MASK_PASTE_GRID_SAMPLE,
                           .masks = true};
}

static detector *make(const detector_spec *spec) {
    detector *d;
    ok(detector_new(&d, &model, dev, spec));
    return d;
}

static void run(detector *d, detection_list *found, int height, int width) {
    ok(detector_run(d, found, pixels, height, width));
    assert_int_equal(found->height, height);
    assert_int_equal(found->width, width);
}

static void assert_equal_boxes(const detection_list *a, const detection_list *b, int count) {
    assert_true(a->count >= count && b->count >= count);
    for (int i = 0; i < count; i++) {
        assert_int_equal(a->items[i].label, b->items[i].label);
        assert_memory_equal(&a->items[i].score, &b->items[i].score, sizeof(float));
        assert_memory_equal(a->items[i].box, b->items[i].box, 4 * sizeof(float));
    }
}

static void assert_equal_masks(const mask_rle *a, const mask_rle *b) {
    assert_int_equal(a->height, b->height);
    assert_int_equal(a->width, b->width);
    assert_int_equal(a->count, b->count);
    assert_memory_equal(a->counts, b->counts, a->count * sizeof *a->counts);
}

static void assert_equal_lists(const detection_list *a, const detection_list *b) {
    assert_int_equal(a->count, b->count);
    assert_equal_boxes(a, b, a->count);
    for (int i = 0; i < a->count; i++) assert_equal_masks(&a->items[i].mask, &b->items[i].mask);
}

static void detections_are_sorted_and_inside_the_image(void **state) {
    (void)state;
    detector_spec spec = usual();
    detector *d = make(&spec);
    detection_list found = {0};
    double start = clock_seconds();
    run(d, &found, 120, 150);
    double wall = 1e3 * (clock_seconds() - start), sum = 0;
    assert_int_equal(found.count, spec.max_detections);
    int labels = 0;
    int64_t area = 0;
    for (int i = 0; i < found.count; i++) {
        const detection *x = &found.items[i];
        assert_in_range(x->label, 0, CLASSES - 1);
        labels |= 1 << x->label;
        assert_true(x->score > 0 && x->score <= (i ? found.items[i - 1].score : 1.0f));
        assert_true(x->box[0] >= 0 && x->box[1] >= 0 && x->box[2] <= 150 && x->box[3] <= 120);
        assert_true(x->box[0] < x->box[2] && x->box[1] < x->box[3]);
        assert_int_equal(x->mask.height, 120);
        assert_int_equal(x->mask.width, 150);
        area += mask_rle_area(&x->mask);
    }
    assert_true(area > 1000);
    assert_true(labels & (labels - 1)); /* more than one class */
    for (int i = 0; i < DETECTOR_STAGES; i++) {
        assert_true(detector_stage_ms(d)[i] > 0);
        sum += detector_stage_ms(d)[i];
    }
    assert_true(sum <= wall);
    detection_list_release(&found);
    detector_free(d);
}

/* More canvases than are kept, each with larger or smaller memory than the one before. */
static void nothing_of_earlier_images_is_left(void **state) {
    (void)state;
    detector_spec spec = usual();
    detector *d = make(&spec);
    detection_list first = {0}, found = {0};
    run(d, &first, 60, 80);
    size_t before = detector_memory(d);
    for (int i = 0; i < 40; i++) run(d, &found, i % 2 ? 33 + 6 * i : 40, i % 2 ? 30 : 60 + 10 * i);
    assert_true(detector_memory(d) > before);
    run(d, &found, 60, 80);
    assert_equal_lists(&first, &found);
    detection_list_release(&first);
    detection_list_release(&found);
    detector_free(d);
}

/* More masks than one run of the paster takes; each equal to the one that is pasted alone out of the raw probabilities. */
static void raw_masks_are_those_that_are_pasted(void **state) {
    (void)state;
    detector_spec spec = usual();
    spec.max_detections = 300;
    spec.nms_threshold = 0.9;
    detector *d = make(&spec);
    detection_list pasted = {0}, raw = {0};
    run(d, &pasted, 150, 110);
    detector_free(d);
    assert_true(pasted.count > 2 * MASK_PASTER_BATCH);
    spec.raw_masks = true;
    d = make(&spec);
    run(d, &raw, 150, 110);
    assert_int_equal(raw.raw_side, 28);
    assert_int_equal(raw.count, pasted.count);
    assert_equal_boxes(&raw, &pasted, raw.count);
    mask_paster paster;
    mask_paster_init(&paster, dev, 28, 1, spec.paste_rule);
    ok(mask_paster_reserve(&paster, 110));
    mask_rle alone = {0};
    for (int i = 0; i < raw.count; i++) {
        float roi[5] = {0};
        int32_t count = 1, info[8] = {150, 110};
        assert_int_equal(raw.items[i].mask.height, 0);
        mask_paster_input in = {.probs = raw.raw_masks + i * 28 * 28,
                                .boxes = raw.items[i].box,
                                .rois = roi,
                                .count = &count,
                                .info = info};
        mask_paster_run(&paster, &in, 0, 1);
        ok(mask_paster_read(&alone, &paster, 0, 150, 110));
        assert_equal_masks(&alone, &pasted.items[i].mask);
    }
    mask_rle_release(&alone);
    mask_paster_release(&paster);
    detector_free(d);

    spec.raw_masks = false;
    spec.max_detections = 100;
    d = make(&spec);
    run(d, &raw, 150, 110);
    assert_equal_boxes(&raw, &pasted, 100);
    detection_list_release(&raw);
    detection_list_release(&pasted);
    detector_free(d);
}

static void masks_can_be_left_out(void **state) {
    (void)state;
    detector_spec spec = usual();
    detector *with = make(&spec);
    spec.masks = false;
    detector *without = make(&spec);
    detection_list a = {0}, b = {0};
    run(with, &a, 90, 130);
    run(without, &b, 90, 130);
    assert_int_equal(a.count, b.count);
    assert_equal_boxes(&a, &b, a.count);
    for (int i = 0; i < b.count; i++) assert_int_equal(b.items[i].mask.height, 0);
    assert_true(detector_stage_ms(without)[DETECTOR_MASK_FORWARD] == 0);
    detection_list_release(&a);
    detection_list_release(&b);
    detector_free(with);
    detector_free(without);
}

static void an_image_without_detections_is_fine(void **state) {
    (void)state;
    for (int augment = 0; augment < 2; augment++) {
        detector_spec spec = usual();
        spec.score_threshold = 1;
        spec.augment = augment;
        spec.augment_sizes[0] = 64;
        spec.augment_size_count = 1;
        spec.augment_max_size = 200;
        detector *d = make(&spec);
        detection_list found = {0};
        run(d, &found, 1, 200);
        assert_int_equal(found.count, 0);
        detection_list_release(&found);
        detector_free(d);
    }
}

/* At the image's own size nothing is rounded on the way to its pixels and back. */
static void one_view_of_the_image_itself_is_no_augmentation(void **state) {
    (void)state;
    detector_spec spec = usual();
    spec.short_edge = 0;
    detector *plain = make(&spec);
    spec.augment = true;
    spec.augment_sizes[0] = 100;
    spec.augment_size_count = 1;
    spec.augment_max_size = 1000;
    detector *augmented = make(&spec);
    detection_list a = {0}, b = {0};
    run(plain, &a, 100, 140);
    run(augmented, &b, 100, 140);
    assert_equal_lists(&a, &b);
    detection_list_release(&b);
    detector_free(augmented);

    b = (detection_list){0};
    spec.augment_flip = true;
    spec.augment_sizes[1] = 130;
    spec.augment_size_count = 2;
    augmented = make(&spec);
    run(augmented, &b, 100, 140);
    assert_true(b.count == spec.max_detections && b.items[0].score >= a.items[0].score);
    assert_true(detector_stage_ms(augmented)[DETECTOR_RPN] > 0);
    spec.raw_masks = true;
    detector *raw = make(&spec);
    run(raw, &a, 100, 140);
    assert_int_equal(a.count, b.count);
    assert_equal_boxes(&a, &b, a.count);
    assert_int_equal(a.raw_side, 28);
    detection_list_release(&a);
    detection_list_release(&b);
    detector_free(plain);
    detector_free(augmented);
    detector_free(raw);
}

static void parameters_may_change_between_runs(void **state) {
    (void)state;
    detector_spec spec = usual();
    detector *d = make(&spec);
    detection_list before = {0}, changed = {0}, after = {0};
    run(d, &before, 80, 80);
    sharpen("roi_heads.box_predictor.cls_score.weight", 0.5f);
    run(d, &changed, 80, 80);
    sharpen("roi_heads.box_predictor.cls_score.weight", 2);
    run(d, &after, 80, 80);
    assert_true(changed.items[0].score < before.items[0].score);
    assert_equal_lists(&before, &after);
    detection_list_release(&before);
    detection_list_release(&changed);
    detection_list_release(&after);
    detector_free(d);
}

static void what_is_too_large_is_refused(void **state) {
    (void)state;
    detector_spec spec = usual();
    detector *d = make(&spec);
    detection_list found = {0};
    assert_int_equal(detector_run(d, &found, pixels, 70000, 1), STATUS_DATA);
    assert_non_null(strstr(error_cause(), "70000"));
    run(d, &found, 50, 60);
    assert_int_equal(found.count, spec.max_detections);
    detection_list_release(&found);
    detector_free(d);

    model.spec.rpn.post_nms_topk[1] = INT32_MAX / 2;
    assert_int_equal(detector_new(&d, &model, dev, &spec), STATUS_CONFIG);
    assert_null(d);
    assert_non_null(strstr(error_remedy(), "MODEL.RPN.POST_NMS_TOPK_TEST"));
    model.spec.rpn.post_nms_topk[1] = 400000000; /* pooled: 1.1 TiB */
    d = make(&spec);
    assert_int_equal(detector_run(d, &found, pixels, 64, 64), STATUS_OS);
    assert_non_null(strstr(error_cause(), "MiB"));
    model.spec.rpn.post_nms_topk[1] = 200;
    detector_free(d);

    spec.max_detections = 600000000; /* times four classes: more than 32 bits count */
    assert_int_equal(detector_new(&d, &model, dev, &spec), STATUS_CONFIG);
    assert_non_null(strstr(error_remedy(), "TEST.DETECTIONS_PER_IMAGE"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(detections_are_sorted_and_inside_the_image),
        cmocka_unit_test(nothing_of_earlier_images_is_left),
        cmocka_unit_test(raw_masks_are_those_that_are_pasted),
        cmocka_unit_test(masks_can_be_left_out),
        cmocka_unit_test(an_image_without_detections_is_fine),
        cmocka_unit_test(one_view_of_the_image_itself_is_no_augmentation),
        cmocka_unit_test(parameters_may_change_between_runs),
        cmocka_unit_test(what_is_too_large_is_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
