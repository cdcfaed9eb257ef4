/* The direct convolution against the reference on shapes that the op's own cases are too small for: several
 * tiles, slices, passes and groups of channels; with every instruction set this CPU has. */
#include "autograd/tensor_compare.h"
#include "base/thread_pool.h"
#include "kernels/conv_run.h"
#include "micro.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static const conv_run_size sizes[] = {
    {2, 33, 29, 20, 37, 3, 3, {1, 1, 1, true, false, 0}, true, true},    /* tiles, slices, two images */
    {40, 7, 7, 24, 30, 3, 3, {1, 1, 1, true, false, 0}, true, false},    /* slices that span images */
    {1, 64, 80, 3, 24, 7, 7, {2, 3, 1, true, false, 0}, true, false},    /* patches are copied */
    {1, 41, 57, 18, 20, 3, 3, {2, 1, 1, false, false, 0}, true, false},  /* classes of the transpose */
    {1, 40, 44, 8, 12, 1, 1, {2, 0, 1, false, false, 0}, false, false},  /* classes without taps */
    {1, 30, 37, 8, 9, 3, 2, {1, 2, 3, true, false, 0}, true, true},      /* dilated */
    {3, 1, 1, 2500, 1700, 1, 1, {1, 0, 1, true, false, 0}, true, false}, /* weights in groups of panels */
    {1, 5, 6, 2100, 20, 1, 1, {1, 0, 1, false, false, 0}, true, false},  /* gradient in groups of columns */
    {1, 1, 1, 12, 15, 40, 41, {1, 39, 1, false, false, 0}, true, false}, /* far more taps than pixels */
    {2, 19, 27, 48, 32, 3, 3, {1, 1, 1, true, false, 0}, true, true},    /* Winograd, odd sizes */
    {1, 24, 21, 32, 80, 3, 3, {1, 0, 1, false, false, 0}, false, false}, /* without padding */
    {9, 7, 8, 64, 112, 3, 3, {1, 2, 1, true, false, 0}, true, false},    /* with more than usual */
    {1, 1, 400, 32, 32, 3, 3, {1, 1, 1, false, false, 0}, true, false},  /* one row */
    {1, 300, 1, 5, 4, 1, 1, {1, 0, 1, false, false, 0}, true, false},    /* one column */
    {2, 9, 8, 70, 50, 5, 1, {3, 2, 2, true, false, 0}, true, false},     /* flat kernel with everything */
};

static void assert_close(const tensor *actual, const tensor *expected, const char *what, int size,
                         const char *set) {
    tensor_difference d = tensor_compare(actual, expected, expected->shape[0], 1e-4, 1e-4);
    if (d.bad)
        print_error("size %d, %s, %s: element %lld is %g, not %g\n", size, set, what, (long long)d.index,
                    d.actual, d.expected);
    assert_int_equal(d.bad, 0);
}

static void compare(int size, const char *set) {
    conv_run expected, actual;
    conv_run_init(&expected, &sizes[size]);
    conv_run_init(&actual, &sizes[size]);
    conv_run_kernel(&expected, &conv2d_reference_f32, false);
    conv_run_kernel(&actual, &conv2d_direct, false);
    assert_close(&actual.y, &expected.y, "y", size, set);
    /* One mask for both: a y that is zero in one only would be another function. */
    memcpy(actual.y.data, expected.y.data, tensor_bytes(&expected.y));
    for (int accumulate = 0; accumulate <= 1; accumulate++) {
        conv_run_fill(&expected.d_y, 9, 1.0f);
        conv_run_fill(&actual.d_y, 9, 1.0f);
        for (int i = 0; i < 4; i++) expected.call.accumulate[i] = actual.call.accumulate[i] = accumulate;
        conv_run_kernel(&expected, &conv2d_reference_f32, true);
        conv_run_kernel(&actual, &conv2d_direct, true);
        for (int i = 0; i < 4; i++)
            if (expected.call.d_in[i])
                assert_close(&actual.d_in[i], &expected.d_in[i], conv2d_op.input_names[i], size, set);
    }
    conv_run_release(&expected);
    conv_run_release(&actual);
}

static void test_matches_reference(void **state) {
    (void)state;
    const micro_kernels *sets[3];
    int count = micro_available(sets);
    for (int i = 0; i < count; i++) {
        micro_choose(sets[i]);
        for (int size = 0; size < (int)(sizeof sizes / sizeof sizes[0]); size++) compare(size, sets[i]->name);
    }
    micro_choose(NULL);
}

/* Any number of valid images in the scratch and memory of all of them. */
static void compare_valid(const conv_run_size *size, int32_t valid) {
    conv_run expected, actual;
    tensor rows = tensor_make("rows", DTYPE_I32, 1, (int64_t[]){1}, &valid);
    conv_run *runs[] = {&expected, &actual};
    const op_kernel *kernels[] = {&conv2d_reference_f32, &conv2d_direct};
    for (int i = 0; i < 2; i++) {
        conv_run_init(runs[i], size);
        runs[i]->in[CONV2D_X].rows = runs[i]->y.rows = runs[i]->d_y.rows = runs[i]->d_in[CONV2D_X].rows =
            &rows;
        conv_run_fill(&runs[i]->y, 5, 1.0f);
        conv_run_fill(&runs[i]->d_in[CONV2D_X], 5, 1.0f);
        conv_run_kernel(runs[i], kernels[i], false);
        if (i) {
            assert_close(&actual.y, &expected.y, "y", valid, "valid images");
            memcpy(actual.y.data, expected.y.data, tensor_bytes(&actual.y));
        }
        conv_run_kernel(runs[i], kernels[i], true);
    }
    for (int i = 0; i <= CONV2D_BIAS; i++)
        assert_close(&actual.d_in[i], &expected.d_in[i], conv2d_op.input_names[i], valid, "valid images");
    for (int i = 0; i < 2; i++) conv_run_release(runs[i]);
}

static void test_valid_images(void **state) {
    (void)state;
    const conv_run_size direct = {40, 5, 5, 12, 20, 3, 3, {1, 1, 1, true, false, 0}, true, false};
    const conv_run_size fast = {40, 5, 5, 32, 48, 3, 3, {1, 1, 1, true, false, 0}, true, false};
    const conv_run_size strided = {40, 6, 9, 10, 12, 3, 3, {2, 1, 1, false, false, 0}, true, false};
    const int32_t valid[] = {0, 1, 3, 17, 39};
    for (int i = 0; i < 5; i++) {
        compare_valid(&direct, valid[i]);
        compare_valid(&fast, valid[i]);
        compare_valid(&strided, valid[i]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_matches_reference),
                                       cmocka_unit_test(test_valid_images)};
    thread_pool_start(2);
    int failures = cmocka_run_group_tests(tests, NULL, NULL);
    thread_pool_stop();
    return failures;
}
