/* Convolution gradients where most pixels of d_y are zero, as in a region-proposal head: equal to the
 * reference for every share of live pixels, zeros included. */
#include "autograd/tensor_compare.h"
#include "base/thread_pool.h"
#include "kernels/conv_run.h"

#include <setjmp.h>
#include <stdarg.h>
#include <math.h>
#include <cmocka.h>

static const conv_run_size head = {2, 20, 31, 24, 30, 3, 3, {1, 1, 1, true, false, 0}, true, true};
static const conv_run_size wide = {2, 21, 30, 32, 48, 3, 3, {1, 1, 1, true, false, 0}, true, true};
static const conv_run_size strided = {1, 33, 30, 10, 12, 3, 3, {2, 1, 1, false, false, 0}, true, false};
static const conv_run_size pointwise = {1, 40, 50, 16, 3, 1, 1, {1, 0, 1, false, false, 0}, true, false};

/* Keeps every `every`-th pixel, from the last one backwards; 0: none. */
static void thin_out(conv_run *run, int64_t every) {
    int64_t k = run->y.shape[3], pixels = tensor_count(&run->y) / k;
    conv_run_fill(&run->d_y, 9, 1.0f);
    for (int64_t i = 0; i < pixels; i++)
        for (int64_t c = 0; c < k && (every == 0 || (pixels - 1 - i) % every); c++)
            tensor_f32(&run->d_y)[i * k + c] = c % 2 ? -0.0f : 0.0f;
}

static void compare(const conv_run_size *size, int64_t every, bool accumulate) {
    conv_run expected, actual;
    conv_run_init(&expected, size);
    conv_run_init(&actual, size);
    conv_run_kernel(&expected, &conv2d_reference_f32, false);
    memcpy(actual.y.data, expected.y.data, tensor_bytes(&actual.y));
    thin_out(&expected, every);
    thin_out(&actual, every);
    for (int i = 0; i < 4; i++) {
        expected.call.accumulate[i] = actual.call.accumulate[i] = accumulate;
        if (!actual.call.d_in[i]) continue;
        conv_run_fill(&expected.d_in[i], 77, 1.0f);
        conv_run_fill(&actual.d_in[i], 77, 1.0f);
    }
    conv_run_kernel(&expected, &conv2d_reference_f32, true);
    conv_run_kernel(&actual, &conv2d_direct, true);
    for (int i = 0; i < 4; i++) {
        if (!actual.call.d_in[i]) continue;
        tensor_difference d =
            tensor_compare(&actual.d_in[i], &expected.d_in[i], expected.d_in[i].shape[0], 2e-5, 2e-5);
        if (d.bad)
            print_error("every %lld, accumulate %d: d_%s\n", (long long)every, accumulate,
                        conv2d_op.input_names[i]);
        assert_int_equal(d.bad, 0);
    }
    conv_run_release(&expected);
    conv_run_release(&actual);
}

static void test_all_shares(void **state) {
    (void)state;
    const conv_run_size *sizes[] = {&head, &wide, &strided, &pointwise};
    const int64_t every[] = {0, 1, 2, 3, 5, 50, 999};
    for (int s = 0; s < 4; s++)
        for (int e = 0; e < 7; e++)
            for (int accumulate = 0; accumulate <= 1; accumulate++) compare(sizes[s], every[e], accumulate);
}

/* A gradient that is not a number reaches every sum it belongs to; it is not taken for a zero. */
static void test_nan_is_not_zero(void **state) {
    (void)state;
    conv_run run;
    conv_run_init(&run, &pointwise);
    thin_out(&run, 0);
    tensor_f32(&run.d_y)[3 * 17 + 1] = NAN;
    conv_run_kernel(&run, &conv2d_direct, true);
    assert_true(isnan(tensor_f32(&run.d_in[CONV2D_X])[16 * 17]));
    assert_true(isnan(tensor_f32(&run.d_in[CONV2D_WEIGHT])[16]));
    assert_true(isnan(tensor_f32(&run.d_in[CONV2D_BIAS])[1]));
    assert_false(isnan(tensor_f32(&run.d_in[CONV2D_X])[16 * 18]));
    conv_run_release(&run);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_all_shares),
                                       cmocka_unit_test(test_nan_is_not_zero)};
    thread_pool_start(2);
    int failures = cmocka_run_group_tests(tests, NULL, NULL);
    thread_pool_stop();
    return failures;
}
