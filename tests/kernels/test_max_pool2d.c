/* What the op tests cannot compare: a NaN or an infinity among the inputs. */
#include "base/thread_pool.h"
#include "max_pool2d/max_pool2d.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

enum { CHANNELS = 11 }; /* a whole vector and a tail */

/* Forward and backward (d_y = 1) of one 3x3 window on a 3x3 map whose channels all hold `values`. */
static void pool(const op_kernel *kernel, const float values[9], float y[CHANNELS], float d_x[9 * CHANNELS]) {
    float x[9 * CHANNELS], d_y[CHANNELS];
    for (int i = 0; i < 9 * CHANNELS; i++) x[i] = values[i / CHANNELS];
    for (int c = 0; c < CHANNELS; c++) d_y[c] = 1;
    const int64_t in_shape[4] = {1, 3, 3, CHANNELS}, out_shape[4] = {1, 1, 1, CHANNELS};
    tensor x_tensor = tensor_make("x", DTYPE_F32, 4, in_shape, x),
           d_x_tensor = tensor_make("d_x", DTYPE_F32, 4, in_shape, d_x);
    tensor y_tensor = tensor_make("y", DTYPE_F32, 4, out_shape, y),
           d_y_tensor = tensor_make("d_y", DTYPE_F32, 4, out_shape, d_y);
    const max_pool2d_params params = {.kernel = 3, .stride = 1};
    op_call call = {.op = &max_pool2d_op, .params = &params, .in = {&x_tensor}, .out = {&y_tensor}};
    kernel->forward(&call);
    call.d_in[0] = &d_x_tensor;
    call.d_out[0] = &d_y_tensor;
    kernel->backward(&call);
}

static void check_gradient(const float d_x[9 * CHANNELS], int pixel) {
    for (int i = 0; i < 9 * CHANNELS; i++) assert_true(d_x[i] == (i / CHANNELS == pixel ? 1.0f : 0.0f));
}

static const op_kernel *const kernels[] = {&max_pool2d_reference_f32, &max_pool2d_tiled};

/* A NaN that got lost here would hide a diverged run. */
static void nan_wins_over_any_number(void **state) {
    (void)state;
    const float values[9] = {1, 2, INFINITY, 3, NAN, 4, INFINITY, 9, 8};
    for (int k = 0; k < 2; k++) {
        float y[CHANNELS], d_x[9 * CHANNELS];
        pool(kernels[k], values, y, d_x);
        for (int c = 0; c < CHANNELS; c++) assert_true(isnan(y[c]));
        check_gradient(d_x, 4);
    }
}

static void window_of_minus_infinity_gives_its_first_pixel(void **state) {
    (void)state;
    float values[9];
    for (int i = 0; i < 9; i++) values[i] = -INFINITY;
    for (int k = 0; k < 2; k++) {
        float y[CHANNELS], d_x[9 * CHANNELS];
        pool(kernels[k], values, y, d_x);
        for (int c = 0; c < CHANNELS; c++) assert_true(y[c] == -INFINITY);
        check_gradient(d_x, 0);
    }
}

int main(void) {
    thread_pool_start(1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nan_wins_over_any_number),
        cmocka_unit_test(window_of_minus_infinity_gives_its_first_pixel),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    thread_pool_stop();
    return failed;
}
