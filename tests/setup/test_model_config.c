/* From configuration keys to the model's spec: what may not pass. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

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

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(anchors_have_room),
                                       cmocka_unit_test(masks_are_bitmaps_where_asked_for),
                                       cmocka_unit_test(too_many_anchors_are_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
