/* From configuration keys to the model's spec: what may not pass. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "setup/model_config.h"

static status spec_of(mask_rcnn_spec *spec, const char *key, const char *value) {
    char *arguments[] = {(char *)key, (char *)value};
    config cfg;
    assert_int_equal(config_load(&cfg, NULL, arguments, 2), STATUS_OK);
    status s = model_spec_from_config(spec, &cfg);
    config_release(&cfg);
    return s;
}

static void anchors_have_room(void **state) {
    (void)state;
    mask_rcnn_spec spec;
    /* detectron2's default of a model without FPN: five sizes on one level. */
    assert_int_equal(spec_of(&spec, "MODEL.ANCHOR_GENERATOR.SIZES", "[[32, 64, 128, 256, 512]]"), STATUS_OK);
    for (int level = 0; level < FPN_LEVELS; level++) {
        assert_int_equal(spec.rpn.anchors.n_sizes[level], 5);
        assert_true(spec.rpn.anchors.sizes[level][4] == 512);
        assert_int_equal(spec.rpn.anchors.n_ratios[level], 3);
    }
}

static void too_many_anchors_are_refused(void **state) {
    (void)state;
    static const char *const rows[][2] = {
        {"MODEL.ANCHOR_GENERATOR.SIZES", "[[1, 2, 3, 4, 5, 6]]"}, /* 18 with the ratios */
        {"MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", "[[1, 2, 3, 4, 5, 6, 7, 8, 9]]"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        mask_rcnn_spec spec;
        assert_int_equal(spec_of(&spec, rows[i][0], rows[i][1]), STATUS_CONFIG);
        assert_non_null(strstr(error_cause(), "MODEL.ANCHOR_GENERATOR"));
    }
}

/* detectron2 resizes polygons and rasterises them then; only torchvision makes bitmaps of the original image. */
static void masks_are_bitmaps_where_asked_for(void **state) {
    (void)state;
    mask_rcnn_spec spec;
    assert_int_equal(spec_of(&spec, "INPUT.MASK_FORMAT", "polygon"), STATUS_OK);
    assert_false(spec.roi.bitmap_mask_targets || spec.roi.soft_mask_targets);
    assert_int_equal(spec_of(&spec, "INPUT.MASK_FORMAT", "bitmask"), STATUS_OK);
    assert_true(spec.roi.bitmap_mask_targets && !spec.roi.soft_mask_targets);
    assert_int_equal(spec_of(&spec, "MODEL.ROI_MASK_HEAD.TARGET", "soft"), STATUS_OK);
    assert_true(spec.roi.soft_mask_targets);
}

/* detectron2's counts of its recipes' tensors and values. It has no box (4 rows) and no mask of the background. */
static void recipes_have_detectron2s_parameters(void **state) {
    (void)state;
    static const struct {
        const char *config;
        int tensors;
        int64_t values, trained;
        int64_t background;
        map_kind maps;
        int levels, anchors, mask_side;
    } rows[] = {
        {"rpn_R_50_C4_1x", 221, 18088971, 17805387, 0, MAPS_C4, 1, 15, 0},
        {"rpn_R_50_FPN_1x", 287, 27499471, 27170831, 0, MAPS_FPN, 5, 3, 0},
        {"mask_rcnn_R_50_C4_1x", 279, 36015852, 35687212, 4 * 2049 + 257, MAPS_C4, 1, 15, 14},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char path[512];
        config cfg;
        mask_rcnn_spec spec;
        mask_rcnn model;
        snprintf(path, sizeof path, TEST_SOURCE_DIR "/configs/%s.yaml", rows[i].config);
        assert_int_equal(config_load(&cfg, path, NULL, 0), STATUS_OK);
        assert_int_equal(model_spec_from_config(&spec, &cfg), STATUS_OK);
        assert_int_equal(mask_rcnn_init(&model, &spec), STATUS_OK);
        int64_t values = 0, trained = 0;
        for (int k = 0; k < model.params.count; k++) {
            const param *p = &model.params.params[k];
            values += p->size;
            trained += p->trainable ? p->size : 0;
        }
        assert_int_equal(model.params.count, rows[i].tensors);
        assert_int_equal(values, rows[i].values + rows[i].background);
        assert_int_equal(trained, rows[i].trained + rows[i].background);
        assert_int_equal(spec.maps, rows[i].maps);
        assert_int_equal(spec.rpn_only, rows[i].mask_side == 0);
        assert_int_equal(spec.rpn.anchors.levels, rows[i].levels);
        assert_int_equal(spec.rpn.anchors.n_sizes[0] * spec.rpn.anchors.n_ratios[0], rows[i].anchors);
        assert_int_equal(spec.rpn.anchors.strides[0], rows[i].maps == MAPS_C4 ? 16 : 4);
        if (rows[i].mask_side) assert_int_equal(mask_rcnn_mask_side(&spec), rows[i].mask_side);
        mask_rcnn_release(&model);
        config_release(&cfg);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(anchors_have_room),
                                       cmocka_unit_test(masks_are_bitmaps_where_asked_for),
                                       cmocka_unit_test(too_many_anchors_are_refused),
                                       cmocka_unit_test(recipes_have_detectron2s_parameters)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
