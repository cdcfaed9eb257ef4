/* Weights of other programs: names as the libraries write them, and detectron2's and Detectron's networks after
 * conversion, which must compute what detectron2 computes. */
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

#include "data/safetensors.h"
#include "config/config.h"
#include "setup/model_config.h"
#include "train/trace.h"
#include "weights/weight_names.h"
#include "weights/weights_kind.h"

#define GOLDEN TEST_SOURCE_DIR "/tests/golden/"

static char folder[] = "/tmp/test_converted_weights_XXXXXX";

static void ok(status s) {
    if (s != STATUS_OK) fail_msg("%s", error_cause());
}

/* Whether a parameter of the model has this name and, in the file's layout, the sizes in `sizes` ("64 3 7 7"). */
static bool is_parameter(const mask_rcnn *model, const char *name, const char *sizes) {
    int index = param_store_find(&model->params, name);
    if (index < 0) return false;
    int64_t shape[PARAM_MAX_RANK];
    char text[128] = "";
    int rank = param_file_shape(&model->params.params[index], shape);
    for (int i = 0; i < rank; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), i ? " %lld" : "%lld", (long long)shape[i]);
    if (strcmp(text, sizes) != 0) fail_msg("%s is %s, not %s", name, text, sizes);
    return true;
}

/* Every tensor in a list of the library's is a parameter of the model under today's name, a counter, or one of the two of
 * the classifier; together they are all parameters whose names start with `start`. */
static void assert_covers(const char *list, const char *start, char **overrides, int override_count) {
    config cfg;
    mask_rcnn_spec spec;
    mask_rcnn model;
    ok(config_load(&cfg, NULL, overrides, override_count));
    ok(model_spec_from_config(&spec, &cfg));
    ok(mask_rcnn_init(&model, &spec));
    char path[4096], line[512], today[PARAM_NAME_SIZE];
    snprintf(path, sizeof path, GOLDEN "names_%s.txt", list);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    int found = 0, classifier = 0, expected = 0;
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        char *sizes = line, *name = strsep(&sizes, " ");
        if (weight_name_is_counter(name)) continue;
        assert_true(weight_name_today(today, sizeof today, name));
        if (strncmp(name, "fc.", 3) == 0)
            classifier++;
        else if (!is_parameter(&model, today, sizes))
            fail_msg("%s is no parameter of the model", today);
        else
            found++;
    }
    fclose(file);
    for (int i = 0; i < model.params.count; i++)
        expected += strncmp(model.params.params[i].name, start, strlen(start)) == 0;
    assert_int_equal(found, expected);
    assert_int_equal(classifier, *start ? 2 : 0);
    mask_rcnn_release(&model);
    config_release(&cfg);
}

static void backbones_are_covered(void **state) {
    (void)state;
    static char *depths[] = {"18", "34", "50", "101"};
    static const char *const lists[] = {"torchvision_resnet18", "torchvision_resnet34", "timm_resnet50",
                                        "torchvision_resnet101"};
    for (int i = 0; i < 4; i++) {
        char *overrides[] = {"MODEL.RESNETS.DEPTH", depths[i], "MODEL.RESNETS.RES2_OUT_CHANNELS",
                             i < 2 ? "64" : "256"};
        assert_covers(lists[i], "backbone.body.", overrides, 4);
    }
}

static void names_before_0_13_are_covered(void **state) {
    (void)state;
    char *overrides[] = {"MODEL.ROI_HEADS.NUM_CLASSES", "90"};
    assert_covers("torchvision_old", "", overrides, 2);
}

/* The largest error of a tensor, relative to its largest value. */
static double error_of(const safetensors *trace, const safetensors_tensor *expected) {
    const safetensors_tensor *got = safetensors_find(trace, expected->name);
    if (!got || got->elements != expected->elements) fail_msg("%s is missing", expected->name);
    size_t n = (size_t)got->elements;
    float *a = calloc(2 * n, sizeof *a);
    assert_non_null(a);
    ok(safetensors_read_f32(a, trace, got));
    memcpy(a + n, expected->data, n * sizeof *a);
    double error = 0, largest = 0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - (double)a[n + i]), size = fabs((double)a[n + i]);
        if (!(d <= error)) error = d;
        if (size > largest) largest = size;
    }
    free(a);
    assert_true(largest > 0);
    return error / largest;
}

/* A converted file computes detectron2's losses and features. */
static void assert_computes(const char *name, const char *mean) {
    char weights[4096], *overrides[64];
    snprintf(weights, sizeof weights, "MODEL.WEIGHTS=" GOLDEN "%s.safetensors", name);
    safetensors *step, *trace, *file;
    ok(safetensors_open(&step, GOLDEN "converted_step.safetensors"));
    char *text = strdup(safetensors_metadata(step, "overrides")), *rest = text;
    int n = 0, compared = 0;
    while (rest) {
        assert_true(n < 60);
        overrides[n++] = strsep(&rest, ";");
    }
    overrides[n++] = weights;
    overrides[n++] = "MODEL.DEVICE=cpu";
    overrides[n++] = "CPU.THREADS=2";
    config cfg;
    ok(config_load(&cfg, TEST_SOURCE_DIR "/configs/mask_rcnn_R_50_FPN_1x.yaml", overrides, n));
    ok(trace_run(&cfg, GOLDEN "converted_batch.safetensors", "trace.safetensors", false));
    ok(safetensors_open(&trace, "trace.safetensors"));
    for (int64_t i = 0; i < safetensors_count(step); i++, compared++) {
        const safetensors_tensor *t = safetensors_at(step, i);
        double error = error_of(trace, t);
        if (!(error <= 2e-5)) fail_msg("%s: %s is off by %.1e", name, t->name, error);
    }
    assert_int_equal(compared, 10);
    ok(safetensors_open(&file, weights + strlen("MODEL.WEIGHTS=")));
    weights_kind kind = weights_kind_of(file);
    assert_int_equal(kind.depth, 50);
    assert_int_equal(kind.classes, 3);
    assert_int_equal(kind.names, WEIGHTS_NAMES_TODAY);
    assert_string_equal(safetensors_metadata(file, "input_order"), "BGR");
    assert_string_equal(safetensors_metadata(file, "pixel_mean"), mean);
    assert_string_equal(safetensors_metadata(file, "stride_place"), "1x1");
    assert_string_equal(safetensors_metadata(file, "class_names"), "[\"date\", \"fig\", \"hazelnut\"]");
    safetensors_close(file);
    safetensors_close(trace);
    safetensors_close(step);
    unlink("trace.safetensors");
    config_release(&cfg);
    free(text);
}

static void detectron2s_computes_the_same(void **state) {
    (void)state;
    assert_computes("converted_detectron2", "[103.53, 116.28, 123.675]");
}

static void detectrons_computes_the_same(void **state) {
    (void)state;
    assert_computes("converted_detectron", "[102.9801, 115.9465, 122.7717]");
}

static int set_up(void **state) {
    (void)state;
    return mkdtemp(folder) ? chdir(folder) : -1;
}

static int tear_down(void **state) {
    (void)state;
    return chdir("/") == 0 ? rmdir(folder) : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(backbones_are_covered),
        cmocka_unit_test(names_before_0_13_are_covered),
        cmocka_unit_test(detectron2s_computes_the_same),
        cmocka_unit_test(detectrons_computes_the_same),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
