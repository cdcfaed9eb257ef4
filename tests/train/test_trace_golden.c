/* A whole training step against torchvision's and detectron2's: losses, features and gradients of small models. The
 * fixtures hold summaries only; weights and pictures are formulas, which scripts/golden_trace.py states too. */
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

#include "base/philox.h"
#include "data/safetensors.h"
#include "config/config.h"
#include "train/formula_model.h"
#include "train/trace.h"

enum { SKETCHES = 8, SAMPLES = 16, SUMMARY = 2 + SKETCHES + SAMPLES };

/* ---- Batch ---- */

typedef struct batch {
    int n, h, w, objects;
    const int32_t *sizes, *owners;
    const float *boxes;
    float *images;  /* [n,h,w,3] */
    uint8_t *masks; /* [objects,h,w] */
} batch;

/* Uniform in [-2, 2), a multiple of 2^-22. */
static double fraction(const philox_key *key, int64_t index) {
    return (philox_u32(key, (uint64_t)index) >> 8) * 0x1p-22 - 2.0;
}

/* Whether the centre of a pixel lies in the ellipse of a box; exact for boxes at sixteenths of a pixel. */
static bool in_ellipse(const float *box, int x, int y) {
    double w = (double)box[2] - (double)box[0], h = (double)box[3] - (double)box[1];
    double dx = (2 * x + 1 - (double)box[0] - (double)box[2]) * h,
           dy = (2 * y + 1 - (double)box[1] - (double)box[3]) * w;
    return dx * dx + dy * dy <= w * h * (w * h);
}

static void paint(batch *b, uint64_t seed) {
    philox_key coarse = formula_stream(seed, "coarse"), fine = formula_stream(seed, "fine"),
               colour = formula_stream(seed, "colour");
    for (int64_t i = 0; i < b->objects; i++)
        for (int y = 0; y < b->h; y++)
            for (int x = 0; x < b->w; x++)
                b->masks[(i * b->h + y) * b->w + x] = in_ellipse(b->boxes + 4 * i, x, y);
    for (int64_t at = 0; at < (int64_t)b->n * b->h * b->w; at++) {
        int x = (int)(at % b->w), y = (int)(at / b->w % b->h), image = (int)(at / b->w / b->h);
        if (y >= b->sizes[2 * image] || x >= b->sizes[2 * image + 1]) continue;
        for (int c = 0; c < 3; c++) {
            double v =
                fraction(&coarse, (((int64_t)image * (b->h / 8) + y / 8) * (b->w / 8) + x / 8) * 3 + c) +
                fraction(&fine, (((int64_t)image * (b->h / 2) + y / 2) * (b->w / 2) + x / 2) * 3 + c);
            for (int64_t i = 0; i < b->objects; i++)
                if (b->owners[i] == image && b->masks[(i * b->h + y) * b->w + x])
                    v += fraction(&colour, 3 * i + c);
            b->images[at * 3 + c] = (float)v;
        }
    }
}

static void write_batch(const char *path, const safetensors *fixture, uint64_t seed) {
    const int32_t *canvas = formula_data(fixture, "canvas");
    batch b = {.n = (int)safetensors_find(fixture, "image_sizes")->shape[0],
               .h = canvas[0],
               .w = canvas[1],
               .objects = (int)safetensors_find(fixture, "boxes")->shape[0],
               .sizes = formula_data(fixture, "image_sizes"),
               .owners = formula_data(fixture, "box_image"),
               .boxes = formula_data(fixture, "boxes")};
    size_t pixels = (size_t)b.h * (size_t)b.w;
    b.images = formula_allocate((size_t)b.n * pixels * 3, sizeof *b.images);
    b.masks = formula_allocate((size_t)b.objects * pixels, 1);
    paint(&b, seed);
    safetensors_writer *w;
    formula_ok(safetensors_writer_new(&w, path));
    safetensors_writer_declare(w, "images", SAFETENSORS_F32, 4, (int64_t[]){b.n, b.h, b.w, 3});
    safetensors_writer_declare(w, "image_sizes", SAFETENSORS_I32, 2, (int64_t[]){b.n, 2});
    safetensors_writer_declare(w, "boxes", SAFETENSORS_F32, 2, (int64_t[]){b.objects, 4});
    safetensors_writer_declare(w, "labels", SAFETENSORS_I32, 1, (int64_t[]){b.objects});
    safetensors_writer_declare(w, "box_image", SAFETENSORS_I32, 1, (int64_t[]){b.objects});
    safetensors_writer_declare(w, "masks", SAFETENSORS_U8, 3, (int64_t[]){b.objects, b.h, b.w});
    formula_ok(safetensors_writer_begin(w));
    formula_ok(safetensors_writer_append(w, b.images, (size_t)b.n * pixels * 3 * sizeof *b.images));
    formula_ok(safetensors_writer_append(w, b.sizes, (size_t)b.n * 8));
    formula_ok(safetensors_writer_append(w, b.boxes, (size_t)b.objects * 16));
    formula_ok(safetensors_writer_append(w, formula_data(fixture, "labels"), (size_t)b.objects * 4));
    formula_ok(safetensors_writer_append(w, b.owners, (size_t)b.objects * 4));
    formula_ok(safetensors_writer_append(w, b.masks, (size_t)b.objects * pixels));
    formula_ok(safetensors_writer_finish(w, STATUS_OK));
    free(b.images);
    free(b.masks);
}

/* ---- Comparison ---- */

/* Norm, sum, sums with an element's sign in bits 0..7 of its random word, and elements at random places. */
static void summarise(double out[SUMMARY], const float *values, int64_t n, const char *name) {
    char samples[256];
    snprintf(samples, sizeof samples, "%s#samples", name);
    philox_key signs = formula_stream(0, name), places = formula_stream(0, samples);
    uint32_t *random = formula_words(&signs, n);
    memset(out, 0, SUMMARY * sizeof *out);
    for (int64_t i = 0; i < n; i++) {
        double v = (double)values[i];
        out[0] += v * v;
        out[1] += v;
        for (int b = 0; b < SKETCHES; b++) out[2 + b] += random[i] >> b & 1 ? -v : v;
    }
    free(random);
    out[0] = sqrt(out[0]);
    for (int k = 0; k < SAMPLES; k++)
        out[2 + SKETCHES + k] =
            (double)values[((uint64_t)philox_u32(&places, (uint64_t)k) * (uint64_t)n) >> 32];
}

typedef struct tolerance {
    double norm, whole, sample; /* of the tensor's norm; `sample` of its root mean square + |value| */
} tolerance;

typedef struct worst {
    double norm, whole, sample;
} worst;

/* NaN is kept. */
static void keep_largest(double *most, double error) {
    if (!(error <= *most)) *most = error;
}

/* The mean square of the signed sums' errors estimates the squared norm of the error of the whole tensor. */
static bool agree(worst *w, const double *got, const double *expected, int64_t n, const tolerance *t) {
    double norm = expected[0], rms = norm / sqrt((double)n), square = 0, sample = 0;
    for (int i = 2; i < 2 + SKETCHES; i++)
        square += (got[i] - expected[i]) * (got[i] - expected[i]) / SKETCHES;
    for (int i = 2 + SKETCHES; i < SUMMARY; i++)
        keep_largest(&sample, fabs(got[i] - expected[i]) / (rms + fabs(expected[i])));
    double off_norm = fabs(got[0] - norm) / norm, whole = sqrt(square) / norm;
    keep_largest(&w->norm, off_norm);
    keep_largest(&w->whole, whole);
    keep_largest(&w->sample, sample);
    return off_norm <= t->norm && whole <= t->whole && sample <= t->sample;
}

/* Returns whether the tensor agrees; says so if not. */
static bool compare(worst *w, const safetensors *trace, const safetensors_tensor *expected,
                    const tolerance *t) {
    const safetensors_tensor *got = safetensors_find(trace, expected->name);
    if (!got) {
        print_error("%s is missing\n", expected->name);
        return false;
    }
    double want[SUMMARY], have[SUMMARY];
    assert_int_equal(expected->bytes, sizeof want);
    memcpy(want, expected->data, sizeof want);
    float *values = formula_allocate((size_t)got->elements, sizeof *values);
    formula_ok(safetensors_read_f32(values, trace, got));
    summarise(have, values, got->elements, expected->name);
    free(values);
    worst own = {0};
    bool holds = agree(&own, have, want, got->elements, t);
    keep_largest(&w->norm, own.norm);
    keep_largest(&w->whole, own.whole);
    keep_largest(&w->sample, own.sample);
    if (!holds)
        print_error("%s: norm %g, expected %g; errors: norm %.1e, whole %.1e, samples %.1e\n", expected->name,
                    have[0], want[0], own.norm, own.whole, own.sample);
    return holds;
}

static void compare_all(const safetensors *trace, const safetensors *fixture) {
    static const struct {
        const char *group;
        tolerance t;
    } groups[] = {
        {"loss/", {2e-4, 2e-4, 2e-4}}, {"feature/", {1e-4, 3e-4, 1e-3}}, {"grad/", {1e-3, 1e-3, 1e-2}}};
    int wrong = 0;
    for (int g = 0; g < 3; g++) {
        int compared = 0, written = 0;
        worst w = {0};
        for (int64_t i = 0; i < safetensors_count(fixture); i++) {
            const safetensors_tensor *t = safetensors_at(fixture, i);
            if (strncmp(t->name, groups[g].group, strlen(groups[g].group)) != 0) continue;
            wrong += !compare(&w, trace, t, &groups[g].t);
            compared++;
        }
        for (int64_t i = 0; i < safetensors_count(trace); i++)
            written += strncmp(safetensors_at(trace, i)->name, groups[g].group, strlen(groups[g].group)) == 0;
        print_message("%d %s: largest errors: norm %.1e, whole %.1e, samples %.1e\n", compared,
                      groups[g].group, w.norm, w.whole, w.sample);
        assert_true(compared > 0);
        assert_int_equal(written, compared);
    }
    if (wrong) fail_msg("%d tensors differ from the reference", wrong);
}

/* ---- Cases ---- */

static void run_case(const char *name) {
    char fixture_path[4096], folder[] = "/tmp/test_trace_golden_XXXXXX", weights[64], batch_path[64], out[64];
    assert_non_null(mkdtemp(folder));
    snprintf(fixture_path, sizeof fixture_path, TEST_SOURCE_DIR "/tests/golden/trace_%s.safetensors", name);
    snprintf(weights, sizeof weights, "%s/weights.safetensors", folder);
    snprintf(batch_path, sizeof batch_path, "%s/batch.safetensors", folder);
    snprintf(out, sizeof out, "%s/trace.safetensors", folder);
    safetensors *fixture, *trace;
    config cfg;
    formula_ok(safetensors_open(&fixture, fixture_path));
    formula_config(&cfg, fixture);
    uint64_t seed = formula_weights(weights, &cfg, fixture);
    write_batch(batch_path, fixture, seed);
    formula_ok(config_set(&cfg, "MODEL.WEIGHTS", weights));
    formula_ok(trace_run(&cfg, batch_path, out, false));
    formula_ok(safetensors_open(&trace, out));
    compare_all(trace, fixture);
    safetensors_close(trace);
    safetensors_close(fixture);
    config_release(&cfg);
    unlink(weights);
    unlink(batch_path);
    unlink(out);
    assert_int_equal(rmdir(folder), 0);
}

static void frozen_norms_of_a_bottleneck_resnet(void **state) {
    (void)state;
    run_case("frozen_bn");
}

static void group_norms_of_a_basic_resnet(void **state) {
    (void)state;
    run_case("group_norm");
}

static void batch_norms_that_learn(void **state) {
    (void)state;
    run_case("batch_norm");
}

static void detectron2s_1x_recipe(void **state) {
    (void)state;
    run_case("detectron2_1x");
}

static void detectron2s_noaug_1x_recipe(void **state) {
    (void)state;
    run_case("detectron2_noaug_1x");
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

/* The comparison itself must see what is wrong. */
static void wrong_values_are_seen(void **state) {
    (void)state;
    enum { N = 5000 };
    static float values[N];
    philox_key key = formula_stream(1, "values");
    for (int i = 0; i < N; i++) values[i] = philox_normal(&key, (uint64_t)i);
    const tolerance t = {1e-3, 1e-3, 1e-2};
    double expected[SUMMARY], got[SUMMARY];
    worst w = {0};
    summarise(expected, values, N, "values");
    assert_true(agree(&w, expected, expected, N, &t));
    values[77] += 1.0f; /* 1.4 % of the norm, at no sampled place */
    summarise(got, values, N, "values");
    assert_false(agree(&w, got, expected, N, &t));
    values[77] = NAN;
    summarise(got, values, N, "values");
    assert_false(agree(&w, got, expected, N, &t));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_values_are_seen),
        cmocka_unit_test(frozen_norms_of_a_bottleneck_resnet),
        cmocka_unit_test(group_norms_of_a_basic_resnet),
        cmocka_unit_test(batch_norms_that_learn),
        cmocka_unit_test(detectron2s_1x_recipe),
        cmocka_unit_test(detectron2s_noaug_1x_recipe),
        cmocka_unit_test(detectron2s_c4_recipe),
        cmocka_unit_test(detectron2s_rpns_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
