/* `maskrcnn trace`: what it writes, that it writes the same bytes again, and what it refuses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/train_sandbox.h"
#include "data/safetensors.h"

#define TRACE "maskrcnn~trace~--config~tiny.yaml~--out~"

/* --- a batch --- */

enum { IMAGES = 2, HEIGHT = 64, WIDTH = 96, OBJECTS = 3, TENSORS = 6 };

typedef struct batch {
    float images[IMAGES * HEIGHT * WIDTH * 3];
    int32_t image_sizes[2 * IMAGES];
    float boxes[4 * OBJECTS];
    int32_t labels[OBJECTS], box_image[OBJECTS];
    uint8_t masks[OBJECTS * HEIGHT * WIDTH];
} batch;

/* How a tensor stands in the file; rank -1: it does not. */
typedef struct form {
    const char *name;
    safetensors_dtype dtype;
    int rank;
    int64_t shape[4];
} form;

static const form right_forms[TENSORS] = {
    {"images", SAFETENSORS_F32, 4, {IMAGES, HEIGHT, WIDTH, 3}},
    {"image_sizes", SAFETENSORS_I32, 2, {IMAGES, 2}},
    {"boxes", SAFETENSORS_F32, 2, {OBJECTS, 4}},
    {"labels", SAFETENSORS_I32, 1, {OBJECTS}},
    {"box_image", SAFETENSORS_I32, 1, {OBJECTS}},
    {"masks", SAFETENSORS_U8, 3, {OBJECTS, HEIGHT, WIDTH}},
};

static void fill_batch(batch *b) {
    static const float boxes[OBJECTS][4] = {{8, 10, 40, 50}, {50, 5, 90, 60}, {12.5f, 8.25f, 60.75f, 44}};
    static const int32_t sizes[2 * IMAGES] = {HEIGHT, WIDTH, 50, 70};
    for (int i = 0; i < IMAGES * HEIGHT * WIDTH * 3; i++) b->images[i] = sinf(0.37f * (float)(i % 7919));
    memcpy(b->image_sizes, sizes, sizeof sizes);
    memcpy(b->boxes, boxes, sizeof boxes);
    memset(b->masks, 0, sizeof b->masks);
    for (int o = 0; o < OBJECTS; o++) {
        b->labels[o] = o;
        b->box_image[o] = o / 2;
        for (int y = (int)boxes[o][1]; y < (int)boxes[o][3]; y++)
            memset(b->masks + (o * HEIGHT + y) * WIDTH + (int)boxes[o][0], 1,
                   (size_t)(boxes[o][2] - boxes[o][0]));
    }
}

static void write_batch(const char *name, const batch *b, const form forms[TENSORS]) {
    const void *const data[TENSORS] = {b->images, b->image_sizes, b->boxes,
                                       b->labels, b->box_image,   b->masks};
    safetensors_writer *w;
    assert_int_equal(safetensors_writer_new(&w, sandbox_path("%s", name)), STATUS_OK);
    for (int i = 0; i < TENSORS; i++)
        if (forms[i].rank >= 0)
            safetensors_writer_declare(w, forms[i].name, forms[i].dtype, forms[i].rank, forms[i].shape);
    status s = safetensors_writer_begin(w);
    for (int i = 0; i < TENSORS && s == STATUS_OK; i++) {
        size_t bytes = safetensors_dtype_size(forms[i].dtype);
        for (int k = 0; k < forms[i].rank; k++) bytes *= (size_t)forms[i].shape[k];
        if (forms[i].rank >= 0) s = safetensors_writer_append(w, data[i], bytes);
    }
    assert_int_equal(safetensors_writer_finish(w, s), STATUS_OK);
}

static batch plain;

static void run_well(const char *line) {
    run_program(&sandbox_run, sandbox_folder(), line, SANDBOX_LIMIT);
    if (sandbox_run.code) fail_msg("%s ended with %d:\n%s", line, sandbox_run.code, sandbox_run.err);
}

/* --- what is written --- */

static const safetensors_tensor *find(const safetensors *file, const char *name) {
    const safetensors_tensor *t = safetensors_find(file, name);
    if (!t) fail_msg("%s has no %s", safetensors_path(file), name);
    assert_int_equal(t->dtype, SAFETENSORS_F32);
    return t;
}

static float value_at(const safetensors_tensor *t, int64_t i) {
    float value;
    memcpy(&value, (const char *)t->data + 4 * i, 4);
    return value;
}

static void expect_losses(const safetensors *file) {
    static const char *const names[] = {"loss/loss_classifier", "loss/loss_box_reg", "loss/loss_mask",
                                        "loss/loss_objectness", "loss/loss_rpn_box_reg"};
    for (int i = 0; i < 5; i++) {
        const safetensors_tensor *t = find(file, names[i]);
        assert_int_equal(t->rank, 0);
        if (!(value_at(t, 0) > 0) || !isfinite(value_at(t, 0)))
            fail_msg("%s is %g", names[i], (double)value_at(t, 0));
    }
}

static void expect_features(const safetensors *file) {
    char name[16];
    for (int level = 2; level <= 6; level++) {
        snprintf(name, sizeof name, "feature/p%d", level);
        const safetensors_tensor *t = find(file, name);
        const int64_t shape[4] = {IMAGES, (HEIGHT + (1 << level) - 1) >> level,
                                  (WIDTH + (1 << level) - 1) >> level, 16};
        assert_int_equal(t->rank, 4);
        assert_memory_equal(t->shape, shape, sizeof shape);
    }
    /* p6 is every second pixel of p5 [2,2,3,16]: rows 0, columns 0 and 2. */
    const safetensors_tensor *p5 = find(file, "feature/p5"), *p6 = find(file, "feature/p6");
    for (int c = 0; c < 16; c++) {
        assert_true(value_at(p6, c) == value_at(p5, c));
        assert_true(value_at(p6, 16 + c) == value_at(p5, 32 + c));
    }
}

/* Each parameter of the weights file has its gradient, of the same shape and not all zero. */
static void expect_gradients(const safetensors *file, const char *weights) {
    safetensors *model;
    char name[256];
    assert_int_equal(safetensors_open(&model, sandbox_path("%s", weights)), STATUS_OK);
    for (int64_t i = 0; i < safetensors_count(model); i++) {
        const safetensors_tensor *p = safetensors_at(model, i);
        snprintf(name, sizeof name, "grad/%s", p->name);
        const safetensors_tensor *g = find(file, name);
        assert_int_equal(g->rank, p->rank);
        assert_memory_equal(g->shape, p->shape, (size_t)p->rank * sizeof *p->shape);
        double largest = 0;
        for (int64_t k = 0; k < g->elements; k++) {
            assert_true(isfinite(value_at(g, k)));
            largest = fmax(largest, fabs((double)value_at(g, k)));
        }
        if (largest == 0) fail_msg("%s is zero", name);
    }
    safetensors_close(model);
}

static void test_outputs(void **state) {
    (void)state;
    safetensors *file;
    run_well(TRACE "t.safetensors~--weights~start/model_final.safetensors~--batch~batch.safetensors");
    assert_int_equal(safetensors_open(&file, sandbox_path("t.safetensors")), STATUS_OK);
    expect_losses(file);
    expect_features(file);
    expect_gradients(file, "start/model_final.safetensors");
    safetensors_close(file);
}

/* Losses and features take part in the comparison like gradients. */
static void expect_same_bytes(const char *a, const char *b) {
    size_t n, m;
    char *x = sandbox_read(a, &n), *y = sandbox_read(b, &m);
    assert_int_equal(n, m);
    assert_memory_equal(x, y, n);
    free(x);
    free(y);
}

/* A batch from a file opens no dataset, and --weights replaces a MODEL.WEIGHTS that could not be had. */
static void test_same_again(void **state) {
    (void)state;
#define WITH "~--weights~start/model_final.safetensors~--batch~batch.safetensors"
    run_well(TRACE "again.safetensors" WITH);
    expect_same_bytes("t.safetensors", "again.safetensors");
    run_well(TRACE "two.safetensors" WITH "~CPU.THREADS~2");
    expect_same_bytes("t.safetensors", "two.safetensors");
    run_well(TRACE "three.safetensors" WITH
                   "~CPU.THREADS~3~MODEL.WEIGHTS~detectron2://R-50.pkl~DATASETS.TRAIN~none.json:none~"
                   "SOLVER.IMS_PER_BATCH~7~INPUT.MASK_FORMAT~bitmask");
    expect_same_bytes("t.safetensors", "three.safetensors");
    run_well(TRACE "other.safetensors" WITH "~SEED~8~MODEL.RPN.SMOOTH_L1_BETA~1.0");
    assert_true(sandbox_difference("t.safetensors", "other.safetensors") > 0);
}

/* Without --batch: the first images of the dataset. */
static void test_dataset(void **state) {
    (void)state;
    safetensors *file;
#define SHAPES "~DATASETS.TRAIN~shapes/annotations.json:shapes/images~MODEL.ROI_HEADS.NUM_CLASSES~4"
    run_well("maskrcnn~synth~--out~shapes~--images~6~--seed~3");
    run_well(TRACE "shapes_1.safetensors" SHAPES);
    run_well(TRACE "shapes_2.safetensors~--trace-shapes" SHAPES "~CPU.THREADS~2");
    assert_true(HAS_LINE(sandbox_run.out, "roi_align_fpn"));
    expect_same_bytes("shapes_1.safetensors", "shapes_2.safetensors");
    assert_int_equal(safetensors_open(&file, sandbox_path("shapes_1.safetensors")), STATUS_OK);
    expect_losses(file);
    assert_int_equal(find(file, "feature/p2")->shape[0], 4);
    safetensors_close(file);
    run_well(TRACE "boxes.safetensors~MODEL.MASK_ON~False" SHAPES);
    assert_int_equal(safetensors_open(&file, sandbox_path("boxes.safetensors")), STATUS_OK);
    assert_null(safetensors_find(file, "loss/loss_mask"));
    safetensors_close(file);
}

/* A batch may hold no object at all. */
static void test_no_objects(void **state) {
    (void)state;
    form forms[TENSORS];
    safetensors *file;
    memcpy(forms, right_forms, sizeof forms);
    for (int i = 2; i < TENSORS; i++) forms[i].shape[0] = 0;
    write_batch("bare.safetensors", &plain, forms);
    run_well(TRACE "bare_out.safetensors~--batch~bare.safetensors");
    assert_int_equal(safetensors_open(&file, sandbox_path("bare_out.safetensors")), STATUS_OK);
    assert_true(value_at(find(file, "loss/loss_box_reg"), 0) == 0 &&
                value_at(find(file, "loss/loss_mask"), 0) == 0);
    assert_true(value_at(find(file, "loss/loss_objectness"), 0) > 0);
    safetensors_close(file);
}

/* --- what is refused --- */

static void refuse_batch(const batch *b, const form forms[TENSORS], const char *culprit, const char *other) {
    write_batch("wrong.safetensors", b, forms);
    sandbox_refuse(&(refusal){TRACE "wrong_out.safetensors~--batch~wrong.safetensors",
                              65,
                              {"wrong.safetensors", culprit, other},
                              NULL});
}

static void test_wrong_forms(void **state) {
    (void)state;
    form forms[TENSORS];
    for (int i = 0; i < TENSORS; i++) {
        const char *name = right_forms[i].name;
        memcpy(forms, right_forms, sizeof forms);
        forms[i].rank = -1;
        refuse_batch(&plain, forms, name, "missing");
        memcpy(forms, right_forms, sizeof forms);
        forms[i].rank--;
        refuse_batch(&plain, forms, name, "dimensions");
        memcpy(forms, right_forms, sizeof forms);
        forms[i].dtype = forms[i].dtype == SAFETENSORS_F32 ? SAFETENSORS_I32 : SAFETENSORS_I8;
        refuse_batch(&plain, forms, name, safetensors_dtype_name(forms[i].dtype));
        for (int axis = 0; axis < right_forms[i].rank; axis++) {
            memcpy(forms, right_forms, sizeof forms);
            forms[i].shape[axis]--;
            refuse_batch(&plain, forms, name, "tensor");
        }
    }
    /* A canvas that is no multiple of 32, in all tensors alike. */
    memcpy(forms, right_forms, sizeof forms);
    forms[0].shape[1] = forms[5].shape[1] = HEIGHT - 4;
    refuse_batch(&plain, forms, "images", "32");
    memcpy(forms, right_forms, sizeof forms);
    forms[0].shape[0] = forms[1].shape[0] = 0;
    refuse_batch(&plain, forms, "images", "0 images");
}

static void test_wrong_values(void **state) {
    (void)state;
    static batch b;
    static const struct {
        const char *tensor;
        size_t offset; /* of an int32 in the batch */
        int32_t value;
    } integers[] = {
        {"image_sizes", offsetof(batch, image_sizes), HEIGHT + 1},
        {"image_sizes", offsetof(batch, image_sizes) + 4, WIDTH + 1},
        {"image_sizes", offsetof(batch, image_sizes) + 8, 0},
        {"image_sizes", offsetof(batch, image_sizes) + 12, -5},
        {"labels", offsetof(batch, labels), 3},
        {"labels", offsetof(batch, labels) + 8, -1},
        {"box_image", offsetof(batch, box_image), IMAGES},
        {"box_image", offsetof(batch, box_image) + 4, -1},
        {"box_image", offsetof(batch, box_image) + 4, INT32_MAX},
        {"labels", offsetof(batch, labels) + 4, INT32_MIN},
    };
    for (size_t i = 0; i < sizeof integers / sizeof *integers; i++) {
        b = plain;
        memcpy((char *)&b + integers[i].offset, &integers[i].value, sizeof integers[i].value);
        refuse_batch(&b, right_forms, integers[i].tensor, NULL);
    }
    static const float numbers[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++) {
        b = plain;
        b.boxes[4 + i] = numbers[i];
        refuse_batch(&b, right_forms, "boxes", "object 1");
        b = plain;
        b.images[5000 + i] = numbers[i];
        refuse_batch(&b, right_forms, "images", NULL);
    }
}

static void test_refusals(void **state) {
    (void)state;
    static const refusal refusals[] = {
        {"maskrcnn~trace~--config~tiny.yaml", 64, {"--out"}, NULL},
        {"maskrcnn~trace~--out~o.safetensors", 64, {"--config"}, NULL},
        {TRACE "o.safetensors~--batc~x", 64, {"--batc"}, "--batch?"},
        {TRACE "o.safetensors~--device~tpu", 64, {"--device", "tpu"}, "cpu"},
        {TRACE "o.safetensors~--device~cuda", 69, {"cuda"}, NULL},
        {TRACE "o.safetensors~--batch~none.safetensors", 66, {"none.safetensors"}, NULL},
        {TRACE "o.safetensors~--batch~tiny.yaml", 65, {"tiny.yaml"}, NULL},
        {TRACE "o.safetensors~--batch~start/model_final.safetensors", 65, {"images"}, NULL},
        {TRACE "no/where/o.safetensors~--batch~batch.safetensors", 73, {"no/where/o.safetensors"}, NULL},
        {TRACE "start~--batch~batch.safetensors", 73, {"start"}, NULL},
        {TRACE "o.safetensors~--batch~batch.safetensors~--weights~none.safetensors",
         66,
         {"none.safetensors"},
         NULL},
        {TRACE "o.safetensors~--batch~batch.safetensors~--weights~batch.safetensors",
         65,
         {"batch.safetensors"},
         NULL},
        {TRACE "o.safetensors~--batch~batch.safetensors~--weights~start/"
               "model_final.safetensors~MODEL.ROI_HEADS.NUM_CLASSES~5",
         65,
         {"roi_heads", "[4", "[6"},
         "MODEL.ROI_HEADS.NUM_CLASSES"},
        {TRACE "o.safetensors~DATASETS.TRAIN~()", 78, {"DATASETS.TRAIN"}, NULL},
        {TRACE "o.safetensors~DATASETS.TRAIN~none.json:none", 66, {"none.json"}, NULL},
    };
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) sandbox_refuse(&refusals[i]);
}

static int make(void **state) {
    if (sandbox_make(state)) return -1;
    toy_dataset_write(sandbox_folder(), "toy", &(toy_options){.images = 8});
    fill_batch(&plain);
    write_batch("batch.safetensors", &plain, right_forms);
    sandbox_train_well(0, "start", "~SOLVER.MAX_ITER~3");
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_outputs),     cmocka_unit_test(test_same_again),
        cmocka_unit_test(test_dataset),     cmocka_unit_test(test_no_objects),
        cmocka_unit_test(test_wrong_forms), cmocka_unit_test(test_wrong_values),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, make, sandbox_remove);
}
