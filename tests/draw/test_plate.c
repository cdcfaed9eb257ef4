/* Text on pictures: what cairo is given, how it is shortened, and where plates go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/philox.h"
#include "base/text.h"
#include "draw/plate.h"

static cairo_surface_t *surface;
static cairo_t *cr;

static void assert_cleaned(const char *text, const char *wanted) {
    char out[16];
    text_clean(out, sizeof out, text);
    assert_string_equal(out, wanted);
    assert_true(text_is_utf8(out));
}

static void text_becomes_utf8(void **state) {
    (void)state;
    assert_cleaned("", "");
    assert_cleaned("fig", "fig");
    assert_cleaned("a\tb\nc\x7f", "a b c ");
    assert_cleaned("n\xc3\xbcsse", "n\xc3\xbcsse");
    assert_cleaned("a\xff"
                   "b\xc3",
                   "a\xef\xbf\xbd"
                   "b\xef\xbf\xbd");
    assert_cleaned("\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"); /* a surrogate */
    assert_cleaned("0123456789abcdefgh", "0123456789abcde");
    assert_cleaned("0123456789abc\xe2\x82\xac", "0123456789abc"); /* cut off between characters */
}

static void long_names_end_in_an_ellipsis(void **state) {
    (void)state;
    char out[PLATE_TEXT], *name = malloc(100001);
    assert_non_null(name);
    for (int i = 0; i < 50000; i++) memcpy(name + 2 * i, "\xc3\xb6", 2);
    name[100000] = '\0';
    text_fit(out, cr, name, " 0.50", 200);
    assert_true(text_width(cr, out) <= 200 && text_width(cr, out) > 150);
    assert_true(text_is_utf8(out));
    size_t length = strlen(out);
    assert_true(length > 8);
    assert_string_equal(out + length - 8, "\xe2\x80\xa6 0.50");
    text_fit(out, cr, "fig", " 0.50", 200);
    assert_string_equal(out, "fig 0.50");
    text_fit(out, cr, name, " 0.50", 1); /* no room at all: the score stays */
    assert_string_equal(out, "\xe2\x80\xa6 0.50");
    free(name);
}

static bool overlaps(const plate *a, const plate *b) {
    return a->x < b->x + b->width && b->x < a->x + a->width && a->y < b->y + b->height &&
           b->y < a->y + a->height;
}

static void plates_stay_inside(void **state) {
    (void)state;
    philox_key key = {.seed = 3, .purpose = PHILOX_SYNTH};
    for (uint32_t i = 0; i < 2000; i++) {
        double a = philox_below(&key, 4 * i, 641), b = philox_below(&key, 4 * i + 1, 641);
        double c = philox_below(&key, 4 * i + 2, 481), d = philox_below(&key, 4 * i + 3, 481);
        double box[4] = {a < b ? a : b, c < d ? c : d, a < b ? b : a, c < d ? d : c};
        plate p = {.width = 90, .height = 17};
        plate_place(&p, box, NULL, 0, 640, 480);
        assert_in_range(p.x, 0, 640 - 90);
        assert_in_range(p.y, 0, 480 - 17);
    }
    plate large = {.width = 900, .height = 17};
    plate_place(&large, (const double[]){600, 400, 640, 480}, NULL, 0, 640, 480);
    assert_int_equal(large.x, 0);
}

static void plates_keep_clear_of_each_other(void **state) {
    (void)state;
    plate plates[10];
    for (int i = 0; i < 10; i++) { /* all of one object */
        plates[i] = (plate){.width = 90, .height = 17};
        plate_place(&plates[i], (const double[]){200, 150, 400, 350}, plates, i, 640, 480);
        for (int j = 0; j < i; j++) assert_false(overlaps(&plates[i], &plates[j]));
    }
    assert_true(plates[0].x == 200 && plates[0].y == 150 - 17);
}

static void a_small_object_is_not_covered(void **state) {
    (void)state;
    plate p = {.width = 90, .height = 17};
    plate_place(&p, (const double[]){300, 2, 320, 22}, NULL, 0, 640, 480); /* no room above */
    assert_false(overlaps(&p, &(plate){.x = 300, .y = 2, .width = 20, .height = 20}));
    plate_place(&p, (const double[]){100, 2, 500, 470}, NULL, 0, 640, 480); /* a large one may be */
    assert_true(p.x == 100 && p.y <= 2);
}

static int set_up(void **state) {
    (void)state;
    surface = cairo_image_surface_create(CAIRO_FORMAT_RGB24, 64, 64);
    cr = cairo_create(surface);
    text_set_font(cr, "fig", 15);
    return cairo_status(cr) == CAIRO_STATUS_SUCCESS ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    int good = cairo_status(cr) == CAIRO_STATUS_SUCCESS; /* no text of these made it fail */
    cairo_destroy(cr);
    cairo_surface_destroy(surface);
    return good ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_becomes_utf8),
        cmocka_unit_test(long_names_end_in_an_ellipsis),
        cmocka_unit_test(plates_stay_inside),
        cmocka_unit_test(plates_keep_clear_of_each_other),
        cmocka_unit_test(a_small_object_is_not_covered),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
