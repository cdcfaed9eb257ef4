/* Every 16-bit pattern, there and back, and the roundings that matter: ties, carries, denormals, overflow, NaN. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/half.h"

#include <math.h>

static void test_round_trip(void **state) {
    (void)state;
    for (uint32_t bits = 0; bits < 0x10000; bits++) {
        float b = bfloat16_to_float((uint16_t)bits), h = float16_to_float((uint16_t)bits);
        assert_int_equal(isnan(b), (bits & 0x7fff) > 0x7f80);
        assert_int_equal(isnan(h), (bits & 0x7fff) > 0x7c00);
        if (!isnan(b)) assert_int_equal(bfloat16_from_float(b), bits);
        if (!isnan(h)) assert_int_equal(float16_from_float(h), bits);
        if (isnan(b)) assert_true(isnan(bfloat16_to_float(bfloat16_from_float(b))));
        if (isnan(h)) assert_true(isnan(float16_to_float(float16_from_float(h))));
    }
}

/* Between each two neighbours: below the middle down, above it up, the middle itself to the even one. */
static void check_between(uint16_t low, float (*to)(uint16_t), uint16_t (*from)(float)) {
    float a = to(low), b = to((uint16_t)(low + 1)), middle = a + (b - a) / 2;
    assert_int_equal(from(nextafterf(middle, a)), low);
    assert_int_equal(from(nextafterf(middle, b)), low + 1);
    assert_int_equal(from(middle), low & 1 ? low + 1 : low);
    assert_int_equal(from(-middle), (low & 1 ? low + 1 : low) | 0x8000);
}

static void test_rounding(void **state) {
    (void)state;
    for (int bits = 0; bits < 0x7bff; bits++)
        check_between((uint16_t)bits, float16_to_float, float16_from_float);
    for (int bits = 0x80; bits < 0x7f7f; bits++)
        check_between((uint16_t)bits, bfloat16_to_float, bfloat16_from_float);
}

static void test_limits(void **state) {
    (void)state;
    assert_int_equal(float16_from_float(65504.0f), 0x7bff);
    assert_int_equal(float16_from_float(65519.996f), 0x7bff);
    assert_int_equal(float16_from_float(65520.0f), 0x7c00);
    assert_int_equal(float16_from_float(-INFINITY), 0xfc00);
    assert_int_equal(float16_from_float(0x1p-25f), 0);
    assert_int_equal(float16_from_float(0x1.8p-25f), 1);
    assert_int_equal(float16_from_float(-0.0f), 0x8000);
    assert_int_equal(bfloat16_from_float(0x1.fffffep127f), 0x7f80);
    assert_int_equal(bfloat16_from_float(1.0f), 0x3f80);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_round_trip), cmocka_unit_test(test_rounding),
                                       cmocka_unit_test(test_limits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
