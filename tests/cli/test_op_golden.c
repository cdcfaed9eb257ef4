/* Every op against PyTorch and torchvision: the fixtures of scripts/golden_ops.py, run by each CPU kernel the
 * op has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <glob.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/thread_pool.h"
#include "cli/op_file.h"
#include "data/safetensors.h"
#include "device/device.h"

#define EXPECT "expect_"

static device *cpu;
static char result[] = "/tmp/test_op_golden_XXXXXX";

/* Values of any dtype that ops write. */
static double *values_of(const safetensors_tensor *t) {
    double *out = malloc((size_t)t->elements * sizeof *out + 1);
    assert_non_null(out);
    for (int64_t i = 0; i < t->elements; i++) {
        if (t->dtype == SAFETENSORS_I32) {
            int32_t v;
            memcpy(&v, (const char *)t->data + 4 * i, 4);
            out[i] = v;
        } else {
            float v;
            assert_int_equal(t->dtype, SAFETENSORS_F32);
            memcpy(&v, (const char *)t->data + 4 * i, 4);
            out[i] = (double)v;
        }
    }
    return out;
}

/* One tensor of the result; false (and a line saying why) if it differs. */
static bool compare(const char *label, const safetensors *got, const safetensors_tensor *expected,
                    double atol, double rtol) {
    const safetensors_tensor *t = safetensors_find(got, expected->name + sizeof EXPECT - 1);
    char a[SAFETENSORS_SHAPE_TEXT], b[SAFETENSORS_SHAPE_TEXT];
    if (!t) {
        print_error("%s: %s was not written\n", label, expected->name + sizeof EXPECT - 1);
        return false;
    }
    if (t->dtype != expected->dtype || t->rank != expected->rank ||
        memcmp(t->shape, expected->shape, (size_t)t->rank * sizeof *t->shape) != 0) {
        print_error("%s: %s is %s %s, expected %s %s\n", label, t->name, safetensors_dtype_name(t->dtype),
                    safetensors_shape_text(a, t->shape, t->rank), safetensors_dtype_name(expected->dtype),
                    safetensors_shape_text(b, expected->shape, expected->rank));
        return false;
    }
    double *x = values_of(t), *y = values_of(expected);
    int64_t bad = 0, worst = 0;
    for (int64_t i = 0; i < t->elements; i++) {
        if (fabs(x[i] - y[i]) <= atol + rtol * fabs(y[i])) continue;
        if (bad++ == 0 || fabs(x[i] - y[i]) > fabs(x[worst] - y[worst])) worst = i;
    }
    if (bad)
        print_error("%s: %s: %lld of %lld values differ, element %lld is %.9g, expected %.9g\n", label,
                    t->name, (long long)bad, (long long)t->elements, (long long)worst, x[worst], y[worst]);
    free(x);
    free(y);
    return bad == 0;
}

static bool run_kernel(const char *path, const op_def *op, const op_kernel *kernel) {
    safetensors *golden, *got;
    assert_int_equal(safetensors_open(&golden, path), STATUS_OK);
    char label[256], *attrs = strdup(safetensors_metadata(golden, "attrs"));
    const char *list[16];
    int count = 0;
    for (char *next = attrs, *one; (one = strsep(&next, ";")) && count < 16;)
        if (*one) list[count++] = one;
    snprintf(label, sizeof label, "%s with %s", strrchr(path, '/') + 1, kernel->name);
    op_file_job job = {.op = op, .attrs = list, .attr_count = count, .dev = cpu, .kernel = kernel};
    if (op_file_run(result, path, &job) != STATUS_OK) {
        print_error("%s: %s\n", label, error_cause());
        safetensors_close(golden);
        free(attrs);
        return false;
    }
    assert_int_equal(safetensors_open(&got, result), STATUS_OK);
    double atol = atof(safetensors_metadata(golden, "atol")),
           rtol = atof(safetensors_metadata(golden, "rtol"));
    bool is_good = true;
    int compared = 0;
    for (int64_t i = 0; i < safetensors_count(golden); i++) {
        const safetensors_tensor *t = safetensors_at(golden, i);
        if (strncmp(t->name, EXPECT, sizeof EXPECT - 1) != 0) continue;
        compared++;
        is_good = compare(label, got, t, atol, rtol) && is_good;
    }
    assert_true(compared > 0);
    safetensors_close(got);
    safetensors_close(golden);
    free(attrs);
    return is_good;
}

/* Every op that the op command promises has fixtures. */
static void every_promised_op_has_fixtures(void **state) {
    (void)state;
    static const char *const names[] = {
        "conv2d",          "conv2d_transpose", "linear",        "frozen_batch_norm",
        "sync_batch_norm", "group_norm",       "max_pool2d",    "upsample_add",
        "roi_align",       "roi_pool",         "roi_align_fpn", "softmax_cross_entropy",
        "sigmoid_bce",     "smooth_l1",        "nms",           "box_encode",
        "box_decode",      "image_pack"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char pattern[256];
        glob_t files;
        snprintf(pattern, sizeof pattern, TEST_SOURCE_DIR "/tests/golden/op_%s_*.safetensors", names[i]);
        if (!op_find(names[i]) || glob(pattern, 0, NULL, &files) != 0)
            fail_msg("%s has no fixture", names[i]);
        globfree(&files);
    }
}

static void every_kernel_agrees_with_pytorch(void **state) {
    (void)state;
    glob_t files;
    assert_int_equal(glob(TEST_SOURCE_DIR "/tests/golden/op_*.safetensors", 0, NULL, &files), 0);
    int bad = 0, runs = 0;
    for (size_t i = 0; i < files.gl_pathc; i++) {
        safetensors *golden;
        assert_int_equal(safetensors_open(&golden, files.gl_pathv[i]), STATUS_OK);
        const op_def *op = op_find(safetensors_metadata(golden, "op"));
        if (!op) fail_msg("%s: no such op", files.gl_pathv[i]);
        safetensors_close(golden);
        const op_kernel *kernels[OP_MAX_VARIANTS + 2] = {op->cpu, op->reference_f32};
        memcpy(kernels + 2, op->variants, sizeof op->variants);
        for (int k = 0; k < OP_MAX_VARIANTS + 2; k++) {
            if (!kernels[k] || (k == 1 && kernels[1] == kernels[0])) continue;
            runs++;
            bad += !run_kernel(files.gl_pathv[i], op, kernels[k]);
        }
    }
    print_message("%zu fixtures, %d runs\n", files.gl_pathc, runs);
    globfree(&files);
    assert_int_equal(bad, 0);
}

static int set_up(void **state) {
    (void)state;
    int fd = mkstemp(result);
    if (fd < 0) return -1;
    close(fd);
    thread_pool_start(2);
    return device_open(&cpu, "cpu") == STATUS_OK ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    thread_pool_stop();
    device_close(cpu);
    return unlink(result);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_promised_op_has_fixtures),
                                       cmocka_unit_test(every_kernel_agrees_with_pytorch)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
