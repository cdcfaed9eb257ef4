/* Pictures, read back from their files pixel by pixel. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "data/image_read.h"
#include "draw/palette.h"
#include "draw/picture.h"

static char folder[] = "/tmp/test_picture_XXXXXX";
static image_buffer got; /* the last picture */
static uint8_t gray[640 * 480 * 3];
static const uint8_t ground[3] = {90, 90, 90};

static void draw(int height, int width, double scale, const picture_instance *items, int count) {
    picture *p;
    assert_int_equal(picture_new(&p, gray, height, width, scale), STATUS_OK);
    assert_int_equal(picture_draw(p, items, count), STATUS_OK);
    assert_int_equal(picture_write(p, "p.png"), STATUS_OK);
    assert_int_equal(image_read(&got, "p.png", NULL), STATUS_OK);
    assert_int_equal(got.height, picture_height(p));
    assert_int_equal(got.width, picture_width(p));
    picture_free(p);
}

static bool is(int x, int y, const uint8_t rgb[3]) {
    return memcmp(got.pixels + 3 * ((size_t)y * (size_t)got.width + (size_t)x), rgb, 3) == 0;
}

static void assert_pixel(int x, int y, const uint8_t rgb[3]) {
    const uint8_t *at = got.pixels + 3 * ((size_t)y * (size_t)got.width + (size_t)x);
    if (!is(x, y, rgb))
        fail_msg("pixel %d,%d is %d,%d,%d, not %d,%d,%d", x, y, at[0], at[1], at[2], rgb[0], rgb[1], rgb[2]);
}

static void a_mask_lies_on_its_pixels(void **state) {
    (void)state;
    uint8_t bitmap[10 * 12] = {0}, colour[3], fill[3];
    for (int y = 3; y < 8; y++)
        for (int x = 2; x < 9; x++) bitmap[y * 12 + x] = 1;
    mask_rle mask = {0};
    assert_int_equal(mask_rle_encode(&mask, bitmap, 10, 12), STATUS_OK);
    picture_instance item = {.box = {NAN, 0, 1, 1}, .mask = &mask, .name = "no box, so no plate", .label = 4};
    draw(10, 12, 8, &item, 1);
    class_colour(colour, 4);
    for (int c = 0; c < 3; c++) fill[c] = (uint8_t)((ground[c] * 60 + colour[c] * 40 + 50) / 100);
    for (int y = 0; y < 80; y++)
        for (int x = 0; x < 96; x++) {
            bool in = x >= 16 && x < 72 && y >= 24 && y < 64, core = x >= 18 && x < 70 && y >= 26 && y < 62;
            assert_pixel(x, y, core ? fill : in ? colour : ground);
        }
    mask_rle_release(&mask);
}

/* The line lies around the box's pixels: half inside, half outside, and whole at the picture's edge. */
static void a_box_lies_around_its_pixels(void **state) {
    (void)state;
    picture_instance items[] = {{.box = {2, 3, 9, 8}, .label = 1}, {.box = {0, 0, 12, 10}, .label = 2}};
    uint8_t inner[3], outer[3];
    class_colour(inner, 1);
    class_colour(outer, 2);
    draw(10, 12, 8, items, 2);
    for (int y = 0; y < 80; y++)
        for (int x = 0; x < 96; x++) {
            bool edge = x < 2 || y < 2 || x >= 94 || y >= 78;
            bool in = x >= 15 && x < 73 && y >= 23 && y < 65;
            bool core = x >= 17 && x < 71 && y >= 25 && y < 63;
            assert_pixel(x, y, edge ? outer : in && !core ? inner : ground);
        }
}

static void count_colour(int *count, int *x0, int *x1, int *y0, int *y1, const uint8_t rgb[3]) {
    *count = *x1 = *y1 = 0;
    *x0 = *y0 = 1 << 20;
    for (int y = 0; y < got.height; y++)
        for (int x = 0; x < got.width; x++) {
            if (!is(x, y, rgb)) continue;
            ++*count;
            if (x < *x0) *x0 = x;
            if (x > *x1) *x1 = x;
            if (y < *y0) *y0 = y;
            if (y > *y1) *y1 = y;
        }
}

static void a_plate_is_inside_and_has_text(void **state) {
    (void)state;
    static const float boxes[][4] = {
        {0, 0, 3, 3}, {117, 0, 120, 3}, {0, 87, 3, 90}, {117, 87, 120, 90}, {60, 45, 60, 45}};
    for (int i = 0; i < 5; i++) {
        picture_instance item = {.name = "hazelnut", .score = 0.87, .label = 3};
        memcpy(item.box, boxes[i], sizeof item.box);
        draw(90, 120, 5, &item, 1);
        uint8_t colour[3], ink[3];
        class_colour(colour, 3);
        memset(ink, colour_wants_black(colour) ? 0 : 255, 3);
        int plate, text, x0, x1, y0, y1;
        count_colour(&plate, &x0, &x1, &y0, &y1, colour);
        assert_true(plate > 500);
        count_colour(&text, &x0, &x1, &y0, &y1, ink);
        assert_true(text > 50); /* strokes at full strength */
        assert_true(x1 - x0 > 60);
        assert_true(x0 >= 2 && y0 >= 2 && x1 < got.width - 2 && y1 < got.height - 2);
    }
}

static void odd_instances_do_no_harm(void **state) {
    (void)state;
    mask_rle empty = {0}, none = {0};
    uint8_t bitmap[6] = {0};
    assert_int_equal(mask_rle_encode(&empty, bitmap, 2, 3), STATUS_OK);
    picture_instance items[] = {
        {.box = {1, 1, 1, 1}, .mask = &empty, .name = "", .score = 1},
        {.box = {-50, -50, 900, 900}, .mask = &none, .name = "\xff\xfe", .score = 0, .label = -7},
        {.box = {2, 1, 1, 0}, .name = "turned", .score = 1e300, .label = INT32_MAX},
        {.box = {INFINITY, 0, 1, 1}, .name = "far", .score = NAN},
        {.box = {1e30f, 1e30f, -1e30f, -1e30f}, .name = "further", .score = -1, .crowd = true},
    };
    static const int sizes[][2] = {{2, 3}, {1, 1}, {1, 640}, {480, 1}};
    for (int i = 0; i < 4; i++)
        draw(sizes[i][0], sizes[i][1], picture_scale_for(sizes[i][0], sizes[i][1]), items, 5);
    draw(3, 3, 0.01, items, 5);
    assert_true(got.height == 1 && got.width == 1);
    draw(3, 3, 1, NULL, 0);
    for (int i = 0; i < 9; i++) assert_pixel(i % 3, i / 3, ground);
    mask_rle_release(&empty);
}

static void sizes_are_readable_and_bounded(void **state) {
    (void)state;
    assert_true(picture_scale_for(480, 640) == 1);
    assert_true(picture_scale_for(64, 64) == 8);
    assert_true(picture_scale_for(1, 1) == 480);
    assert_true(picture_scale_for(100, 400) == 4); /* 5 would make it longer than 1920 */
    assert_true(picture_scale_for(3000, 4000) == 0.48);
    assert_true(picture_scale_for(1, 60000) < 1);
    picture *p;
    assert_int_equal(picture_new(&p, gray, 480, 640, 60), STATUS_DATA);
    assert_null(p);
    assert_non_null(strstr(error_cause(), "38400 x 28800"));
}

static void a_smaller_picture_keeps_its_colours(void **state) {
    (void)state;
    draw(480, 640, 0.31, NULL, 0);
    assert_true(got.height == 149 && got.width == 198);
    for (int y = 0; y < got.height; y++)
        for (int x = 0; x < got.width; x++) assert_pixel(x, y, ground);
}

static void many_instances_are_fast(void **state) {
    (void)state;
    enum { COUNT = 120 };
    static picture_instance items[COUNT];
    static uint8_t bitmap[480 * 640];
    mask_rle mask = {0};
    for (int i = 0; i < 480 * 640; i++)
        bitmap[i] = (i % 640 - 320) * (i % 640 - 320) + (i / 640 - 240) * (i / 640 - 240) < 230 * 230;
    assert_int_equal(mask_rle_encode(&mask, bitmap, 480, 640), STATUS_OK);
    for (int i = 0; i < COUNT; i++)
        items[i] = (picture_instance){
            .box = {(float)(5 * i), (float)(i % 7 * 60), (float)(5 * i + 40), (float)(i % 7 * 60 + 50)},
            .mask = &mask,
            .name = "wine glass",
            .score = 0.5,
            .label = i};
    clock_t begin = clock();
    draw(480, 640, 1, items, COUNT);
    double seconds = (double)(clock() - begin) / CLOCKS_PER_SEC;
    printf("%d instances with masks of 166000 pixels: %.2f s\n", COUNT, seconds);
#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    assert_true(seconds < 1);
#endif
    mask_rle_release(&mask);
}

static void a_grid_holds_every_picture(void **state) {
    (void)state;
    picture *cells[3], *grid;
    static const int sizes[3][2] = {{20, 30}, {40, 10}, {15, 25}};
    uint8_t colour[3];
    for (int i = 0; i < 3; i++) {
        assert_int_equal(picture_new(&cells[i], gray, sizes[i][0], sizes[i][1], 1), STATUS_OK);
    }
    const char *captions[3] = {"a.png", NULL, "a name that is much longer than its picture"};
    assert_int_equal(picture_grid(&grid, cells, captions, 3, 2), STATUS_OK);
    assert_int_equal(picture_write(grid, "g.png"), STATUS_OK);
    assert_int_equal(image_read(&got, "g.png", NULL), STATUS_OK);
    int caption = got.height - (40 + 15 + 3 * 8); /* of two rows */
    assert_int_equal(got.width, 30 + 10 + 3 * 8);
    assert_true(caption > 30 && caption % 2 == 0);
    caption /= 2;
    int count, x0, x1, y0, y1;
    count_colour(&count, &x0, &x1, &y0, &y1, ground);
    assert_in_range(count, 20 * 30 + 40 * 10 + 15 * 25, 20 * 30 + 40 * 10 + 15 * 25 + 5);
    assert_pixel(8, 8 + caption, ground);
    assert_pixel(8 + 29, 8 + caption + 19, ground);
    assert_pixel(8 + 30 + 8, 8 + caption, ground);
    assert_pixel(8 + 30 + 8 + 9, 8 + caption + 39, ground);
    class_colour(colour, 0);
    assert_false(is(8 + 30, 8 + caption, ground));
    for (int x = 0; x < got.width; x++) assert_false(is(x, got.height - 1, ground));
    picture_free(grid);
    for (int i = 0; i < 3; i++) picture_free(cells[i]);
}

static void the_padding_is_marked(void **state) {
    (void)state;
    picture *p;
    assert_int_equal(picture_new(&p, gray, 64, 64, 4), STATUS_OK);
    picture_mark_area(p, 40, 50);
    assert_int_equal(picture_write(p, "p.png"), STATUS_OK);
    assert_int_equal(image_read(&got, "p.png", NULL), STATUS_OK);
    for (int y = 0; y < 256; y++)
        for (int x = 0; x < 256; x++) {
            bool in = x < 200 && y < 160, core = x >= 2 && y >= 2 && x < 198 && y < 158;
            assert_true(is(x, y, ground) == (!in || core));
        }
    picture_free(p);
}

static void ground_truth_and_prediction_side_by_side(void **state) {
    (void)state;
    picture_image image = {.rgb = gray, .height = 60, .width = 80, .caption = "street.jpg"};
    picture_instance truth = {.box = {10, 10, 40, 40}, .name = "fig", .score = -1, .label = 0};
    detection_list found = {.height = 60, .width = 80};
    assert_int_equal(detection_list_reserve(&found, 2, 0), STATUS_OK);
    found.items[0] = (detection){.label = 1, .score = 0.9f, .box = {20, 20, 50, 50}};
    found.items[1] = (detection){.label = 2, .score = 0.1f, .box = {5, 5, 60, 50}};
    found.count = 2;
    const char *names[] = {"fig", "date"};
    static const int32_t colours[] = {0, 3};
    picture_classes classes = {.names = names, .count = 2};
    uint8_t colour[4][3];
    int count, x0, x1, y0, y1;
    for (int i = 0; i < 4; i++) class_colour(colour[i], i);
    assert_int_equal(picture_ground_truth_beside("b.png", &image, &truth, 1, &found, &classes, 0.5),
                     STATUS_OK);
    assert_int_equal(image_read(&got, "b.png", NULL), STATUS_OK);
    assert_int_equal(got.width, 2 * 640 + 3 * 8); /* the short side becomes 480 */
    count_colour(&count, &x0, &x1, &y0, &y1, colour[0]);
    assert_true(count > 1000 && x1 < 648);
    count_colour(&count, &x0, &x1, &y0, &y1, colour[1]);
    assert_true(count > 1000 && x0 > 656);
    count_colour(&count, &x0, &x1, &y0, &y1, colour[2]);
    assert_int_equal(count, 0);
    classes.colours = colours; /* label 1 is class 3 of the ground truth */
    assert_int_equal(picture_draw_detections("d.png", &image, &found, &classes, 0.5), STATUS_OK);
    assert_int_equal(image_read(&got, "d.png", NULL), STATUS_OK);
    count_colour(&count, &x0, &x1, &y0, &y1, colour[3]);
    assert_true(count > 1000);
    assert_int_equal(picture_draw_detections("d.png", &image, &found, NULL, 0), STATUS_OK);
    assert_int_equal(image_read(&got, "d.png", NULL), STATUS_OK);
    assert_true(got.width == 640 && got.height == 480);
    count_colour(&count, &x0, &x1, &y0, &y1, colour[2]);
    assert_true(count > 1000);
    assert_int_equal(picture_draw_detections("absent/d.png", &image, &found, NULL, 0), STATUS_CANT_CREATE);
    assert_non_null(strstr(error_cause(), "absent/d.png"));
    detection_list_release(&found);
}

static int set_up(void **state) {
    (void)state;
    memset(gray, ground[0], sizeof gray);
    return mkdtemp(folder) ? chdir(folder) : -1;
}

static int tear_down(void **state) {
    (void)state;
    static const char *const names[] = {"p.png", "g.png", "b.png", "d.png"};
    image_buffer_release(&got);
    for (int i = 0; i < 4; i++) unlink(names[i]);
    return chdir("/") == 0 ? rmdir(folder) : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_mask_lies_on_its_pixels),
        cmocka_unit_test(a_box_lies_around_its_pixels),
        cmocka_unit_test(a_plate_is_inside_and_has_text),
        cmocka_unit_test(odd_instances_do_no_harm),
        cmocka_unit_test(sizes_are_readable_and_bounded),
        cmocka_unit_test(a_smaller_picture_keeps_its_colours),
        cmocka_unit_test(many_instances_are_fast),
        cmocka_unit_test(a_grid_holds_every_picture),
        cmocka_unit_test(the_padding_is_marked),
        cmocka_unit_test(ground_truth_and_prediction_side_by_side),
    };
    if (!picture_built_in()) {
        picture *p;
        bool refused = picture_new(&p, gray, 1, 1, 1) == STATUS_NO_DEVICE && *error_remedy();
        printf("skipped: built without cairo, which it %s\n", refused ? "says" : "DOES NOT SAY");
        return refused ? 77 : 1;
    }
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
