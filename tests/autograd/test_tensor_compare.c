#include "autograd/tensor_compare.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void tolerance_is_absolute_plus_relative(void **state) {
    (void)state;
    assert_true(tensor_compare_share(1.0, 1.0, 0, 0) == 0);
    assert_true(tensor_compare_share(1.5, 1.0, 0.5, 0) == 1);
    assert_true(tensor_compare_share(-11.0, -10.0, 0, 0.1) == 1);
    assert_true(tensor_compare_share(-11.1, -10.0, 0, 0.1) > 1);
    assert_true(tensor_compare_share(1e-30, 0, 0, 1) > 1);
}

static void what_is_not_finite_never_matches(void **state) {
    (void)state;
    volatile double zero = 0;
    const double bad[] = {NAN, INFINITY, -INFINITY, zero / zero, -zero / zero};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_true(tensor_compare_share(bad[i], 1, 1e30, 1e30) == INFINITY);
        assert_true(tensor_compare_share(1, bad[i], 1e30, 1e30) == INFINITY);
        assert_true(tensor_compare_share(bad[i], bad[i], 1e30, 1e30) == INFINITY);
    }
}

static void worst_element_is_found_within_the_rows(void **state) {
    (void)state;
    float a[] = {1, 2, 3, 4, NAN, NAN};
    double e[] = {1, 2.5, 3, 4.125, 0, 0};
    tensor actual = tensor_make("a", DTYPE_F32, 2, (int64_t[]){3, 2}, a);
    tensor expected = tensor_make("e", DTYPE_F64, 2, (int64_t[]){3, 2}, e);
    tensor_difference d = tensor_compare(&actual, &expected, 2, 0.2, 0);
    assert_int_equal(d.bad, 1);
    assert_int_equal(d.index, 1);
    assert_true(d.actual == 2 && d.expected == 2.5 && d.share == 2.5);
    d = tensor_compare(&actual, &expected, 2, 1, 0);
    assert_int_equal(d.bad, 0);
    assert_true(d.share == 0.5);
    d = tensor_compare(&actual, &expected, 3, 1, 0);
    assert_int_equal(d.bad, 2);
    assert_int_equal(d.index, 4);
    assert_true(d.share == INFINITY);
    d = tensor_compare(&actual, &expected, 0, 0, 0);
    assert_true(d.bad == 0 && d.index == -1 && d.share == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tolerance_is_absolute_plus_relative),
        cmocka_unit_test(what_is_not_finite_never_matches),
        cmocka_unit_test(worst_element_is_found_within_the_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
