/* Colours of classes: the same for good, apart from each other, with text that can be read on them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "draw/palette.h"

static double linear_light(double v) {
    v /= 255;
    return v <= 0.04045 ? v / 12.92 : pow((v + 0.055) / 1.055, 2.4);
}

static double luminance_of(const uint8_t rgb[3]) {
    return 0.2126 * linear_light(rgb[0]) + 0.7152 * linear_light(rgb[1]) + 0.0722 * linear_light(rgb[2]);
}

static double cube_root(double t) {
    return t > 0.008856 ? cbrt(t) : 7.787 * t + 16.0 / 116;
}

/* CIELAB under D65. */
static void lab_of(double lab[3], int32_t label) {
    uint8_t rgb[3];
    class_colour(rgb, label);
    double r = linear_light(rgb[0]), g = linear_light(rgb[1]), b = linear_light(rgb[2]);
    double x = cube_root((0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.95047);
    double y = cube_root(0.2126 * r + 0.7152 * g + 0.0722 * b);
    double z = cube_root((0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.08883);
    lab[0] = 116 * y - 16;
    lab[1] = 500 * (x - y);
    lab[2] = 200 * (y - z);
}

static double difference(int32_t i, int32_t j) {
    double a[3], b[3];
    lab_of(a, i);
    lab_of(b, j);
    return sqrt(pow(a[0] - b[0], 2) + pow(a[1] - b[1], 2) + pow(a[2] - b[2], 2));
}

static void first_twenty_are_apart(void **state) {
    (void)state;
    for (int i = 0; i < 20; i++)
        for (int j = 0; j < i; j++)
            if (difference(i, j) < 30) fail_msg("classes %d and %d: %.1f", i, j, difference(i, j));
}

static void neighbours_are_far_apart(void **state) {
    (void)state;
    for (int i = 0; i < 1000; i++)
        if (difference(i, i + 1) < 60) fail_msg("classes %d and %d: %.1f", i, i + 1, difference(i, i + 1));
}

static void colours_stay(void **state) {
    (void)state;
    const uint8_t known[][3] = {{170, 255, 0}, {0, 57, 153}, {255, 128, 138}, {0, 255, 53}};
    for (int i = 0; i < 4; i++) {
        uint8_t rgb[3];
        class_colour(rgb, i);
        assert_memory_equal(rgb, known[i], 3);
    }
    uint8_t gray[3];
    class_colour(gray, -1);
    assert_true(gray[0] == gray[1] && gray[1] == gray[2]);
    class_colour(gray, INT32_MAX);
}

static void text_is_readable_on_every_colour(void **state) {
    (void)state;
    for (int i = -1; i < 1000; i++) {
        uint8_t rgb[3];
        class_colour(rgb, i);
        double light = luminance_of(rgb);
        double contrast = colour_wants_black(rgb) ? (light + 0.05) / 0.05 : 1.05 / (light + 0.05);
        if (contrast < 4.5) fail_msg("class %d: contrast %.2f", i, contrast);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_twenty_are_apart),
        cmocka_unit_test(neighbours_are_far_apart),
        cmocka_unit_test(colours_stay),
        cmocka_unit_test(text_is_readable_on_every_colour),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
