/* Detections and pasted masks against what detectron2 and torchvision make of the same predictions
 * (scripts/make_golden.py inference). */
#include "image_info.h"
#include "mask_paste/mask_paste.h"
#include "select_detections/select_detections.h"

#include "base/thread_pool.h"
#include "data/mask_rle.h"
#include "kernels/op_run.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

static safetensors *file;

static int open_file(const char *name) {
    char path[1024];
    snprintf(path, sizeof path, "%s/tests/golden/%s.safetensors", TEST_SOURCE_DIR, name);
    CHECK(safetensors_open(&file, path) == STATUS_OK, "%s", error_cause());
    return 0;
}

static int open_detections(void **state) {
    (void)state;
    return open_file("inference_detections");
}

static int open_masks(void **state) {
    (void)state;
    return open_file("inference_masks");
}

static int close_file(void **state) {
    (void)state;
    safetensors_close(file);
    return 0;
}

/* "scene.framework.kind", or "scene.kind" where framework is NULL. */
static const safetensors_tensor *find(const char *scene, const char *framework, const char *kind) {
    char name[96];
    snprintf(name, sizeof name, "%s%s%s.%s", scene, framework ? "." : "", framework ? framework : "", kind);
    const safetensors_tensor *t = safetensors_find(file, name);
    CHECK(t, "no tensor %s", name);
    return t;
}

static void input_from(op_run *run, int i, const char *scene, const char *kind) {
    op_run_input_from(run, i, file, find(scene, NULL, kind)->name);
}

/* --- detections ------------------------------------------------------------------------------------------------ */

typedef struct scene {
    const char *name;
    double score_threshold, nms_threshold;
    int max_detections;
} scene;

static const scene scenes[] = {{"usual", 0.05, 0.5, 100},
                               {"crowded", 0, 0.5, 20},
                               {"many_classes", 0.02, 0.3, 100},
                               {"equal_scores", 0.05, 0.5, 30},
                               {"nothing", 0.5, 0.5, 100}};

static void assert_rows(const tensor *actual, int64_t rows, const safetensors_tensor *expected,
                        double tolerance) {
    assert_int_equal(rows * tensor_row_size(actual), expected->elements);
    for (int64_t i = 0; i < expected->elements; i++) {
        float f;
        int32_t n;
        memcpy(&f, (const char *)expected->data + 4 * i, 4);
        memcpy(&n, &f, 4);
        double a = tensor_get(actual, i), e = expected->dtype == SAFETENSORS_I32 ? n : (double)f;
        if (!(fabs(a - e) <= tolerance))
            fail_msg("%s[%lld] is %.9g, expected %.9g", expected->name, (long long)i, a, e);
    }
}

static void check_detections(const scene *s, const char *framework) {
    select_detections_params p = {.score_threshold = s->score_threshold,
                                  .nms_threshold = s->nms_threshold,
                                  .max_detections = s->max_detections,
                                  .min_box_size = strcmp(framework, "torchvision") == 0 ? 1e-2 : 0,
                                  .box_weights = {10, 10, 5, 5}};
    op_run run;
    op_run_init(&run, &select_detections_op, &p);
    input_from(&run, SELECT_DETECTIONS_LOGITS, s->name, "logits");
    input_from(&run, SELECT_DETECTIONS_DELTAS, s->name, "deltas");
    input_from(&run, SELECT_DETECTIONS_ROIS, s->name, "rois");
    input_from(&run, SELECT_DETECTIONS_INFO, s->name, "info");
    op_run_forward(&run);
    const tensor *counts = &run.out[SELECT_DETECTIONS_COUNTS], *rois = &run.out[SELECT_DETECTIONS_DET_ROIS];
    int64_t count = *tensor_i32(&run.out[SELECT_DETECTIONS_COUNT]), images = counts->shape[0], row = 0;
    assert_rows(counts, images, find(s->name, framework, "counts"), 0);
    assert_rows(&run.out[SELECT_DETECTIONS_LABELS], count, find(s->name, framework, "labels"), 0);
    assert_rows(&run.out[SELECT_DETECTIONS_SCORES], count, find(s->name, framework, "scores"), 1e-6);
    assert_rows(&run.out[SELECT_DETECTIONS_BOXES], count, find(s->name, framework, "boxes"), 2e-4);
    float *resized = malloc((size_t)(count ? count : 1) * 4 * sizeof *resized);
    for (int64_t n = 0; n < images; n++)
        for (int32_t i = 0; i < tensor_i32(counts)[n]; i++, row++) {
            assert_true(tensor_f32(rois)[5 * row] == (float)n);
            memcpy(resized + 4 * row, tensor_f32(rois) + 5 * row + 1, 4 * sizeof *resized);
        }
    tensor corners = tensor_make("det_rois", DTYPE_F32, 2, (int64_t[]){count, 4}, resized);
    assert_rows(&corners, count, find(s->name, framework, "rois"), 2e-4);
    free(resized);
    op_run_release(&run);
}

static void detections_are_the_framework_s(void **state) {
    for (size_t i = 0; i < sizeof scenes / sizeof *scenes; i++) check_detections(&scenes[i], *state);
}

/* --- masks ----------------------------------------------------------------------------------------------------- */

static bool bit_of(const uint8_t *bits, int64_t i) {
    return bits[i / 8] >> i % 8 & 1;
}

/* `unsure`: sorted numbers of bits that may be either. */
static void compare_masks(const op_run *run, const safetensors_tensor *bits,
                          const safetensors_tensor *unsure) {
    const mask_paste_params *p = run->call.params;
    const image_info *info = run->in[MASK_PASTE_INFO].data;
    int64_t masks = run->in[MASK_PASTE_PROBS].shape[0], next = 0,
            pixels = (int64_t)info->original_height * info->original_width;
    uint8_t *bitmap = malloc((size_t)pixels);
    int64_t *runs = malloc((size_t)p->capacity * sizeof *runs);
    mask_rle mask = {0};
    for (int64_t m = 0; m < masks; m++) {
        int32_t count = tensor_i32(&run->out[MASK_PASTE_COUNTS])[m];
        assert_in_range(count, 1, p->capacity);
        for (int32_t i = 0; i < count; i++)
            runs[i] = tensor_i32(&run->out[MASK_PASTE_RUNS])[m * p->capacity + i];
        for (int32_t i = 1; i < count; i++) assert_true(runs[i] > 0);
        assert_int_equal(
            mask_rle_from_counts(&mask, runs, (size_t)count, info->original_height, info->original_width),
            STATUS_OK);
        mask_rle_decode(bitmap, &mask);
        for (int64_t i = 0; i < pixels; i++) {
            int32_t doubtful = -1;
            if (next < unsure->elements) memcpy(&doubtful, (const char *)unsure->data + 4 * next, 4);
            if (doubtful == m * pixels + i)
                next++;
            else if (bitmap[i] != bit_of(bits->data, m * pixels + i))
                fail_msg("%s: mask %lld, pixel x %lld y %lld is %d", bits->name, (long long)m,
                         (long long)(i % info->original_width), (long long)(i / info->original_width),
                         bitmap[i]);
        }
    }
    assert_int_equal(next, unsure->elements);
    mask_rle_release(&mask);
    free(runs);
    free(bitmap);
}

static void masks_are_the_framework_s(void **state) {
    static const char *const names[] = {"usual", "coarse", "large"};
    const char *framework = *state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        mask_paste_params p = {.rule = strcmp(framework, "torchvision") == 0 ? MASK_PASTE_RESIZE
                                                                             : MASK_PASTE_GRID_SAMPLE,
                               .threshold = 0.5};
        op_run run;
        op_run_init(&run, &mask_paste_op, &p);
        input_from(&run, MASK_PASTE_PROBS, names[i], "probs");
        input_from(&run, MASK_PASTE_BOXES, names[i], "boxes");
        input_from(&run, MASK_PASTE_INFO, names[i], "info");
        const int64_t *shape = run.in[MASK_PASTE_PROBS].shape;
        op_run_input(&run, MASK_PASTE_ROIS, DTYPE_F32, 2, (int64_t[]){shape[0], 5}, NULL);
        p.capacity = (int)mask_paste_capacity((int)shape[1],
                                              ((image_info *)run.in[MASK_PASTE_INFO].data)->original_width);
        op_run_forward(&run);
        compare_masks(&run, find(names[i], framework, "bits"), find(names[i], framework, "unsure"));
        op_run_release(&run);
    }
}

/* A map of stripes along the columns needs all runs that the capacity provides, but for the last. */
static void capacity_is_what_stripes_need(void **state) {
    (void)state;
    enum { SIDE = 5, WIDTH = 64, HEIGHT = 200 };
    mask_paste_params p = {.threshold = 0.5, .capacity = (int)mask_paste_capacity(SIDE, WIDTH)};
    for (int less = 0; less < 2; less++) {
        op_run run;
        op_run_init(&run, &mask_paste_op, &p);
        float *probs = op_run_input(&run, MASK_PASTE_PROBS, DTYPE_F32, 3, (int64_t[]){1, SIDE, SIDE}, NULL);
        for (int i = 0; i < SIDE * SIDE; i++) probs[i] = i / SIDE % 2 ? 0 : 1;
        op_run_input(&run, MASK_PASTE_BOXES, DTYPE_F32, 2, (int64_t[]){1, 4},
                     (float[]){-16, 3, WIDTH + 16, 190});
        op_run_input(&run, MASK_PASTE_ROIS, DTYPE_F32, 2, (int64_t[]){1, 5}, NULL);
        image_info info = {.original_height = HEIGHT, .original_width = WIDTH};
        op_run_input(&run, MASK_PASTE_INFO, DTYPE_I32, 2, (int64_t[]){1, IMAGE_INFO_INTS}, &info);
        op_run_forward(&run);
        int32_t count = *tensor_i32(&run.out[MASK_PASTE_COUNTS]);
        assert_int_equal(count, less ? -1 : p.capacity);
        op_run_release(&run);
        p.capacity--;
    }
}

int main(void) {
    thread_pool_start(2);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate_setup_teardown(detections_are_the_framework_s, open_detections, close_file,
                                                 (void *)"detectron2"),
        cmocka_unit_test_prestate_setup_teardown(detections_are_the_framework_s, open_detections, close_file,
                                                 (void *)"torchvision"),
        cmocka_unit_test_prestate_setup_teardown(masks_are_the_framework_s, open_masks, close_file,
                                                 (void *)"detectron2"),
        cmocka_unit_test_prestate_setup_teardown(masks_are_the_framework_s, open_masks, close_file,
                                                 (void *)"torchvision"),
        cmocka_unit_test(capacity_is_what_stripes_need),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    thread_pool_stop();
    return failed;
}
