/* Proposals, anchor targets, RoI targets and mask targets against what detectron2 and torchvision make of the same batch
 * (scripts/make_golden.py detection). */
#include "mask_targets/mask_targets.h"
#include "roi_targets/roi_targets.h"
#include "rpn_proposals/rpn_proposals.h"
#include "rpn_targets/rpn_targets.h"

#include "base/thread_pool.h"
#include "kernels/op_run.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

typedef struct framework {
    const char *file;
    bool torchvision;
} framework;

static const framework detectron2 = {"detection_detectron2", false},
                       torchvision = {"detection_torchvision", true};

static safetensors *open_golden(const char *name) {
    char path[1024];
    safetensors *file;
    snprintf(path, sizeof path, "%s/tests/golden/%s.safetensors", TEST_SOURCE_DIR, name);
    CHECK(safetensors_open(&file, path) == STATUS_OK, "%s", error_cause());
    return file;
}

static anchor_spec anchors_of(const framework *f) {
    anchor_spec spec = {.levels = 5,
                        .rounding = f->torchvision ? ANCHOR_ROUND_CORNERS : ANCHOR_EXACT,
                        .stride_from_canvas = f->torchvision};
    for (int l = 0; l < 5; l++) {
        spec.n_sizes[l] = 1;
        spec.n_ratios[l] = 3;
        spec.sizes[l][0] = 32 << l;
        for (int r = 0; r < 3; r++) spec.ratios[l][r] = 0.5 * (1 << r);
        spec.strides[l] = 4 << l;
    }
    return spec;
}

static const safetensors_tensor *find(const safetensors *file, const char *name) {
    const safetensors_tensor *t = safetensors_find(file, name);
    CHECK(t, "no tensor %s", name);
    return t;
}

static double file_value(const safetensors_tensor *t, int64_t i) {
    float f;
    int32_t n;
    if (t->dtype == SAFETENSORS_U8) return ((const uint8_t *)t->data)[i];
    if (t->dtype == SAFETENSORS_I32) return memcpy(&n, (const char *)t->data + 4 * i, 4), n;
    return memcpy(&f, (const char *)t->data + 4 * i, 4), f;
}

/* The first `rows` rows of `actual` are the file's tensor `name`, within `tolerance`. */
static void assert_rows(const tensor *actual, int64_t rows, const safetensors *file, const char *name,
                        double tolerance) {
    const safetensors_tensor *expected = find(file, name);
    assert_int_equal(rows * tensor_row_size(actual), expected->elements);
    for (int64_t i = 0; i < expected->elements; i++) {
        double a = tensor_get(actual, i), e = file_value(expected, i);
        if (!(fabs(a - e) <= tolerance))
            fail_msg("%s[%lld] is %.9g, expected %.9g", name, (long long)i, a, e);
    }
}

static void proposals_are_the_framework_s(void **state) {
    const framework *f = *state;
    safetensors *file = open_golden(f->file);
    rpn_proposals_params p = {.anchors = anchors_of(f),
                              .canvas_height = 96,
                              .canvas_width = 128,
                              .pre_nms_topk = 60,
                              .post_nms_topk = 80,
                              .nms_threshold = 0.7,
                              .min_size = f->torchvision ? 1e-3 : 0,
                              .min_size_inclusive = f->torchvision,
                              .box_weights = {1, 1, 1, 1}};
    op_run run;
    op_run_init(&run, &rpn_proposals_op, &p);
    char name[32];
    for (int l = 0; l < 5; l++) {
        snprintf(name, sizeof name, "logits%d", l);
        op_run_input_from(&run, RPN_PROPOSALS_LOGITS + l, file, name);
        snprintf(name, sizeof name, "deltas%d", l);
        op_run_input_from(&run, RPN_PROPOSALS_DELTAS + l, file, name);
    }
    op_run_input_from(&run, RPN_PROPOSALS_INFO, file, "info");
    op_run_forward(&run);
    assert_rows(&run.out[RPN_PROPOSALS_COUNTS], 2, file, "counts", 0);
    assert_rows(&run.out[RPN_PROPOSALS_BOXES], 2, file, "proposals", 1e-4);
    /* torchvision gives float sigmoids, whose logits are less exact. */
    assert_rows(&run.out[RPN_PROPOSALS_SCORES], 2, file, "scores", f->torchvision ? 1e-3 : 0);
    op_run_release(&run);
    safetensors_close(file);
}

static void anchor_targets_are_the_framework_s(void **state) {
    const framework *f = *state;
    safetensors *file = open_golden(f->file);
    rpn_targets_params p = {.anchors = anchors_of(f),
                            .canvas_height = 96,
                            .canvas_width = 128,
                            .iou_background = 0.3,
                            .iou_foreground = 0.7,
                            .batch_size_per_image = 1000000,
                            .positive_fraction = 1,
                            .straddle = -1,
                            .box_weights = {1, 1, 1, 1}};
    op_run run;
    op_run_init(&run, &rpn_targets_op, &p);
    op_run_input_from(&run, RPN_TARGETS_GT_BOXES, file, "gt_boxes");
    op_run_input_from(&run, RPN_TARGETS_GT_COUNT, file, "gt_count");
    op_run_input_from(&run, RPN_TARGETS_INFO, file, "info");
    *(int32_t *)op_run_input(&run, RPN_TARGETS_STEP, DTYPE_I32, 1, (int64_t[]){1}, NULL) = 3;
    op_run_forward(&run);
    const safetensors_tensor *labels = find(file, "anchor_labels"), *targets = find(file, "anchor_targets");
    int64_t rows = *tensor_i32(&run.out[RPN_TARGETS_COUNT]), wanted = 0, positive = 0;
    for (int64_t i = 0; i < labels->elements; i++) wanted += file_value(labels, i) >= 0;
    assert_int_equal(rows, wanted);
    for (int64_t row = 0; row < rows; row++) {
        int32_t index = tensor_i32(&run.out[RPN_TARGETS_INDEX])[row];
        float label = tensor_f32(&run.out[RPN_TARGETS_LABELS])[row];
        assert_int_equal((int)label, (int)file_value(labels, index));
        assert_true(label == tensor_f32(&run.out[RPN_TARGETS_BOX_WEIGHTS])[row]);
        for (int k = 0; k < 4; k++) {
            double expected = label > 0 ? file_value(targets, 4 * positive + k) : 0;
            assert_true(fabs(tensor_f32(&run.out[RPN_TARGETS_BOX_TARGETS])[4 * row + k] - expected) <= 1e-5);
        }
        positive += label > 0;
    }
    assert_int_equal(4 * positive, targets->elements);
    assert_true(tensor_f32(&run.out[RPN_TARGETS_SAMPLED])[1] == (float)positive);
    op_run_release(&run);
    safetensors_close(file);
}

static void roi_targets_are_the_framework_s(void **state) {
    const framework *f = *state;
    safetensors *file = open_golden(f->file);
    roi_targets_params p = {.append_gt = true,
                            .iou_foreground = 0.5,
                            .batch_size_per_image = 1000000,
                            .positive_fraction = 1,
                            .box_weights = {10, 10, 5, 5}};
    op_run run;
    op_run_init(&run, &roi_targets_op, &p);
    op_run_input_from(&run, ROI_TARGETS_PROPOSALS, file, "candidates");
    op_run_input_from(&run, ROI_TARGETS_COUNTS, file, "candidate_count");
    op_run_input_from(&run, ROI_TARGETS_GT_BOXES, file, "gt_boxes");
    op_run_input_from(&run, ROI_TARGETS_GT_LABELS, file, "gt_labels");
    op_run_input_from(&run, ROI_TARGETS_GT_COUNT, file, "gt_count");
    op_run_input_from(&run, ROI_TARGETS_INFO, file, "info");
    op_run_input(&run, ROI_TARGETS_STEP, DTYPE_I32, 1, (int64_t[]){1}, NULL);
    op_run_forward(&run);
    int64_t rows = *tensor_i32(&run.out[ROI_TARGETS_COUNT]),
            masks = *tensor_i32(&run.out[ROI_TARGETS_MASK_COUNT]), row = 0;
    assert_rows(&run.out[ROI_TARGETS_ROIS], rows, file, "rois", 0);
    assert_rows(&run.out[ROI_TARGETS_LABELS], rows, file, "roi_labels", 0);
    assert_rows(&run.out[ROI_TARGETS_BOX_TARGETS], rows, file, "roi_targets", 1e-5);
    assert_rows(&run.out[ROI_TARGETS_MASK_GT], masks, file, "mask_gt", 0);
    for (int64_t m = 0; m < masks; m++, row++) {
        while (tensor_i32(&run.out[ROI_TARGETS_LABELS])[row] == 0) row++;
        assert_int_equal(tensor_i32(&run.out[ROI_TARGETS_MASK_LABELS])[m],
                         tensor_i32(&run.out[ROI_TARGETS_LABELS])[row]);
        for (int k = 0; k < 5; k++)
            assert_true(tensor_f32(&run.out[ROI_TARGETS_MASK_ROIS])[5 * m + k] ==
                        tensor_f32(&run.out[ROI_TARGETS_ROIS])[5 * row + k]);
    }
    op_run_release(&run);
    safetensors_close(file);
}

/* `bitmap`: the object of each image as its bitmap instead of its polygons. */
static void check_masks(const safetensors *file, const mask_targets_params *p, bool bitmap,
                        const char *expected, double tolerance) {
    op_run run;
    op_run_init(&run, &mask_targets_op, p);
    op_run_input_from(&run, MASK_TARGETS_ROIS, file, "rois");
    op_run_input_from(&run, MASK_TARGETS_RECORDS, file, "records");
    op_run_input_from(&run, MASK_TARGETS_BLOB, file, "blob");
    op_run_input_from(&run, MASK_TARGETS_INFO, file, "info");
    int64_t rows = run.in[MASK_TARGETS_ROIS].shape[0];
    int32_t *gt = op_run_input(&run, MASK_TARGETS_GT, DTYPE_I32, 1, &rows, NULL);
    for (int64_t m = 0; m < rows; m++)
        gt[m] = 2 * (int32_t)tensor_f32(&run.in[MASK_TARGETS_ROIS])[5 * m] + bitmap;
    op_run_forward(&run);
    assert_rows(&run.out[0], rows, file, expected, tolerance);
    op_run_release(&run);
}

static void mask_targets_are_the_frameworks(void **state) {
    (void)state;
    safetensors *file = open_golden("mask_targets");
    const mask_targets_params by_polygon = {.resolution = 28, .canvas_height = 160, .canvas_width = 160},
                              as_bitmap = {.resolution = 28,
                                           .bitmaps = true,
                                           .canvas_height = 160,
                                           .canvas_width = 160},
                              soft = {
                                  .resolution = 28, .soft = true, .canvas_height = 160, .canvas_width = 160};
    check_masks(file, &by_polygon, false, "polygon_in_roi", 0);
    check_masks(file, &as_bitmap, false, "polygon_as_bitmap", 0);
    check_masks(file, &by_polygon, true, "bitmap", 0);
    check_masks(file, &as_bitmap, true, "bitmap", 0);
    check_masks(file, &soft, true, "soft", 1e-6);
    check_masks(file, &soft, false, "soft", 1e-6);
    safetensors_close(file);
}

int main(void) {
    thread_pool_start(2);
    void *d = (void *)&detectron2, *t = (void *)&torchvision;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(proposals_are_the_framework_s, d),
        cmocka_unit_test_prestate(proposals_are_the_framework_s, t),
        cmocka_unit_test_prestate(anchor_targets_are_the_framework_s, d),
        cmocka_unit_test_prestate(anchor_targets_are_the_framework_s, t),
        cmocka_unit_test_prestate(roi_targets_are_the_framework_s, d),
        cmocka_unit_test_prestate(roi_targets_are_the_framework_s, t),
        cmocka_unit_test(mask_targets_are_the_frameworks),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    thread_pool_stop();
    return failed;
}
