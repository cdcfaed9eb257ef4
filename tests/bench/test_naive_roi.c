/* The naive loops compute what the ops define: all cases of the ops, forward and backward, against the double reference. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "autograd/grad_check.h"
#include "bench/naive_roi.h"

static void check(const char *op) {
    const op_kernel *kernels[] = {naive_roi_kernel(op), NULL};
    op_def f32_only = *op_find(op);
    f32_only.half_inputs = 0;
    assert_non_null(kernels[0]);
    assert_int_equal(grad_check_kernels(&f32_only, kernels, &(grad_check_options){0}, stdout), 0);
}

static void pools_like_the_op(void **state) {
    (void)state;
    check("roi_pool");
}

static void aligns_like_the_op(void **state) {
    (void)state;
    check("roi_align");
}

static void others_have_none(void **state) {
    (void)state;
    assert_null(naive_roi_kernel("roi_align_fpn"));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(pools_like_the_op),
                                       cmocka_unit_test(aligns_like_the_op),
                                       cmocka_unit_test(others_have_none)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
