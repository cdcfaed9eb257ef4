/* Masks in pixels: exactly where they are, at whole and broken scales, against a plain reading of the rule. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/philox.h"
#include "draw/mask_paint.h"

enum { MOST = 64 * 64 };
static const uint32_t ground = 0x204060;
static const uint32_t full = 0xf00a64, filled = 0x732a62; /* of {240, 10, 100} over the ground: 100 %, 40 % */

static uint32_t pixels[MOST * 4];

static void paint(const uint8_t *bitmap, int height, int width, int canvas_height, int canvas_width,
                  const mask_style *style) {
    mask_rle mask = {0};
    assert_int_equal(mask_rle_encode(&mask, bitmap, height, width), STATUS_OK);
    mask_canvas canvas = {
        .pixels = pixels, .height = canvas_height, .width = canvas_width, .stride = canvas_width + 3};
    assert_true(canvas_height * canvas.stride <= (int)(sizeof pixels / sizeof *pixels));
    for (size_t i = 0; i < sizeof pixels / sizeof *pixels; i++) pixels[i] = ground;
    assert_int_equal(mask_paint(&canvas, &mask, style), STATUS_OK);
    mask_canvas_release(&canvas);
    mask_rle_release(&mask);
}

static bool inside(const uint8_t *bitmap, int height, int width, int h, int w, int x, int y) {
    if (x < 0 || y < 0 || x >= w || y >= h) return false;
    int from_x = (2 * x + 1) * width / (2 * w), from_y = (2 * y + 1) * height / (2 * h);
    return bitmap[from_y * width + from_x];
}

static bool is_core(const uint8_t *bitmap, int height, int width, int h, int w, int x, int y, int line) {
    for (int dy = -line; dy <= line; dy++)
        for (int dx = -line; dx <= line; dx++)
            if (!inside(bitmap, height, width, h, w, x + dx, y + dy)) return false;
    return true;
}

static void check(const uint8_t *bitmap, int height, int width, int h, int w, int line) {
    mask_style style = {.colour = {240, 10, 100}, .line = line};
    paint(bitmap, height, width, h, w, &style);
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w + 3; x++) {
            uint32_t wanted = x >= w || !inside(bitmap, height, width, h, w, x, y) ? ground
                              : is_core(bitmap, height, width, h, w, x, y, line)   ? filled
                                                                                   : full;
            if (pixels[y * (w + 3) + x] != wanted)
                fail_msg("%d x %d on %d x %d, line %d: pixel %d,%d is %06x, not %06x", width, height, w, h,
                         line, x, y, pixels[y * (w + 3) + x], wanted);
        }
}

static void every_pixel_is_where_the_rule_puts_it(void **state) {
    (void)state;
    static const int canvases[][2] = {{48, 64}, {24, 32}, {12, 16}, {17, 29}, {9, 11}, {5, 3}, {50, 21}};
    static uint8_t bitmap[12 * 16];
    for (uint32_t round = 0; round < 12; round++) {
        philox_key key = {.seed = 7, .purpose = PHILOX_SYNTH, .step = round};
        for (uint32_t i = 0; i < 12 * 16; i++)
            bitmap[i] = round == 0 || philox_uniform(&key, i) < round / 12.0;
        for (size_t c = 0; c < sizeof canvases / sizeof *canvases; c++)
            for (int line = 1; line <= 3; line++) check(bitmap, 12, 16, canvases[c][0], canvases[c][1], line);
    }
}

static void corners_and_single_pixels(void **state) {
    (void)state;
    for (int at = 0; at < 5 * 7; at++) {
        uint8_t bitmap[5 * 7] = {0};
        bitmap[at] = 1;
        check(bitmap, 5, 7, 5, 7, 1);
        check(bitmap, 5, 7, 40, 56, 2);
        check(bitmap, 5, 7, 3, 4,
              2); /* some of them lie between the centres of the reduced picture's pixels */
    }
}

static void an_empty_mask_paints_nothing(void **state) {
    (void)state;
    uint8_t bitmap[5 * 7] = {0};
    check(bitmap, 5, 7, 40, 56, 2);
}

static void stripes_leave_the_image_between_them(void **state) {
    (void)state;
    uint8_t bitmap[16 * 16];
    memset(bitmap, 1, sizeof bitmap);
    mask_style style = {.colour = {240, 10, 100}, .line = 1, .hatched = true};
    paint(bitmap, 16, 16, 32, 32, &style);
    int plain = 0, striped = 0;
    for (int y = 1; y < 31; y++)
        for (int x = 1; x < 31; x++) {
            if (pixels[y * 35 + x] == ground)
                plain++;
            else
                striped++;
        }
    assert_in_range(plain, 350, 550);
    assert_in_range(striped, 350, 550);
    assert_int_equal(pixels[0], full);
    assert_int_equal(pixels[31 * 35 + 31], full);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pixel_is_where_the_rule_puts_it),
        cmocka_unit_test(corners_and_single_pixels),
        cmocka_unit_test(an_empty_mask_paints_nothing),
        cmocka_unit_test(stripes_leave_the_image_between_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
