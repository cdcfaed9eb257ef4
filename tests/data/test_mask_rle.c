/* Run-length masks against plain bitmaps, strings against their rules. Masks of polygons:
 * test_mask_polygon.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/philox.h"
#include "data/mask_rle.h"

/* Blobs rather than noise: each pixel repeats the one above it most of the time. */
static void fill_bitmap(uint8_t *bitmap, int height, int width, uint32_t seed, uint32_t one_in) {
    philox_key key = {.seed = seed, .purpose = PHILOX_TEST};
    for (int x = 0; x < width; x++)
        for (int y = 0; y < height; y++) {
            size_t at = (size_t)y * (size_t)width + (size_t)x;
            uint8_t above = y ? bitmap[at - (size_t)width] : x ? bitmap[at - 1] : (uint8_t)(seed & 1);
            bitmap[at] = philox_below(&key, at, one_in) == 0 ? !above : above;
        }
}

static void check_against_bitmap(const mask_rle *mask, const uint8_t *bitmap) {
    int h = mask->height, w = mask->width, x_min = w, y_min = h, x_max = -1, y_max = -1;
    int64_t area = 0;
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            if (!bitmap[(size_t)y * (size_t)w + (size_t)x]) continue;
            area++;
            x_min = x < x_min ? x : x_min;
            y_min = y < y_min ? y : y_min;
            x_max = x > x_max ? x : x_max;
            y_max = y > y_max ? y : y_max;
        }
    assert_int_equal(mask_rle_area(mask), area);
    mask_box box = mask_rle_bounding_box(mask);
    if (area == 0) {
        assert_int_equal(box.x | box.y | box.width | box.height, 0);
    } else {
        assert_int_equal(box.x, x_min);
        assert_int_equal(box.width, x_max - x_min + 1);
        assert_int_equal(box.y, y_min);
        assert_int_equal(box.height, y_max - y_min + 1);
    }
}

static void round_trips(void **state) {
    (void)state;
    mask_rle mask = {0}, again = {0};
    for (uint32_t seed = 0; seed < 200; seed++) {
        philox_key key = {.seed = seed, .purpose = PHILOX_TEST, .item = 1};
        int h = (int)philox_below(&key, 0, 40) + 1, w = (int)philox_below(&key, 1, 40) + 1;
        size_t pixels = (size_t)h * (size_t)w;
        uint8_t *bitmap = malloc(pixels), *decoded = malloc(pixels);
        fill_bitmap(bitmap, h, w, seed, seed < 20 ? 1u << 31 : 1 + seed % 40);
        assert_int_equal(mask_rle_encode(&mask, bitmap, h, w), STATUS_OK);
        mask_rle_decode(decoded, &mask);
        assert_memory_equal(decoded, bitmap, pixels);
        check_against_bitmap(&mask, bitmap);

        char *text;
        assert_int_equal(mask_rle_to_string(&text, &mask), STATUS_OK);
        assert_int_equal(mask_rle_from_string(&again, text, strlen(text), h, w), STATUS_OK);
        assert_int_equal(again.count, mask.count);
        assert_memory_equal(again.counts, mask.counts, mask.count * sizeof *mask.counts);
        free(text);

        int x0 = (int)philox_below(&key, 2, (uint32_t)w), y0 = (int)philox_below(&key, 3, (uint32_t)h);
        int cw = (int)philox_below(&key, 4, (uint32_t)(w - x0 + 1)),
            ch = (int)philox_below(&key, 5, (uint32_t)(h - y0 + 1));
        size_t row_bytes = ((size_t)cw + 7) / 8;
        uint8_t *rows = malloc(row_bytes * (size_t)ch + 1);
        rows[row_bytes * (size_t)ch] = 0xa5;
        mask_rle_decode_crop(rows, &mask, x0, y0, cw, ch);
        assert_int_equal(rows[row_bytes * (size_t)ch], 0xa5);
        for (int y = 0; y < ch; y++)
            for (int x = 0; x < (int)row_bytes * 8; x++) {
                int want = x < cw ? bitmap[(size_t)(y0 + y) * (size_t)w + (size_t)(x0 + x)] : 0;
                assert_int_equal(rows[(size_t)y * row_bytes + (size_t)x / 8] >> (x % 8) & 1, want);
            }
        free(rows);
        free(bitmap);
        free(decoded);
    }
    mask_rle_release(&mask);
    mask_rle_release(&again);
}

static void merges_as_bitmaps_do(void **state) {
    (void)state;
    enum { H = 23, W = 31 };
    static uint8_t a[H * W], b[H * W], want[H * W], got[H * W];
    mask_rle mask_a = {0}, mask_b = {0}, merged = {0}, encoded = {0};
    for (uint32_t seed = 0; seed < 40; seed++) {
        fill_bitmap(a, H, W, seed, 1 + seed);
        fill_bitmap(b, H, W, seed + 100, 1 + seed / 2);
        assert_int_equal(mask_rle_encode(&mask_a, a, H, W), STATUS_OK);
        assert_int_equal(mask_rle_encode(&mask_b, b, H, W), STATUS_OK);
        for (int intersect = 0; intersect < 2; intersect++) {
            for (int i = 0; i < H * W; i++) want[i] = intersect ? a[i] & b[i] : a[i] | b[i];
            assert_int_equal(mask_rle_merge(&merged, &mask_a, &mask_b, intersect), STATUS_OK);
            mask_rle_decode(got, &merged);
            assert_memory_equal(got, want, sizeof want);
            assert_int_equal(mask_rle_encode(&encoded, want, H, W), STATUS_OK);
            assert_int_equal(merged.count, encoded.count); /* no empty runs are left */
        }
    }
    mask_rle_release(&mask_a);
    mask_rle_release(&mask_b);
    mask_rle_release(&merged);
    mask_rle_release(&encoded);
}

static void empty_runs_inside_are_legal(void **state) {
    (void)state;
    static const int64_t counts[] = {3, 0, 2, 4, 0, 1, 2};
    static const uint8_t want[12] = {0, 0, 0, 0, 1, 1, 0, 1, 0, 0, 1, 0}; /* 4 columns of 3 rows: by rows */
    mask_rle mask = {0};
    uint8_t bitmap[12], by_column[12] = {0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 0, 0};
    assert_int_equal(mask_rle_from_counts(&mask, counts, 7, 3, 4), STATUS_OK);
    mask_rle_decode(bitmap, &mask);
    for (int i = 0; i < 12; i++) assert_int_equal(bitmap[i % 3 * 4 + i / 3], by_column[i]);
    assert_int_equal(bitmap[2 * 4 + 1], want[5]);
    assert_int_equal(mask_rle_area(&mask), 5);
    mask_box box = mask_rle_bounding_box(&mask);
    assert_int_equal(box.x, 1);
    assert_int_equal(box.width, 3);
    mask_rle_release(&mask);
}

static void refuses_bad_counts(void **state) {
    (void)state;
    mask_rle mask = {0};
    static const int64_t negative[] = {5, -1, 8}, above[] = {5, 8}, below[] = {5, 6},
                         giant[] = {1, INT64_MAX, 3};
    assert_int_equal(mask_rle_from_counts(&mask, negative, 3, 3, 4), STATUS_DATA);
    assert_non_null(strstr(error_cause(), "run 1"));
    assert_int_equal(mask_rle_from_counts(&mask, above, 2, 3, 4), STATUS_DATA);
    assert_int_equal(mask_rle_from_counts(&mask, below, 2, 3, 4), STATUS_DATA);
    assert_non_null(strstr(error_cause(), "11"));
    assert_int_equal(mask_rle_from_counts(&mask, giant, 3, 3, 4), STATUS_DATA);
    assert_int_equal(mask_rle_from_counts(&mask, below, 0, 3, 4), STATUS_DATA);
    static const int64_t sizes[][2] = {{0, 4},        {4, 0}, {-1, 4}, {65536, 65536}, {INT64_MAX, INT64_MAX},
                                       {1, 1LL << 31}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        assert_int_equal(mask_rle_from_counts(&mask, below, 2, sizes[i][0], sizes[i][1]), STATUS_DATA);
    mask_rle_release(&mask);
}

static void refuses_bad_strings(void **state) {
    (void)state;
    static const struct {
        const char *text, *because;
    } cases[] = {
        {"", "add up to 0"},
        {"5", "add up to 5"},
        {"7 5", "character 1"},
        {"75p", "character 2"},
        {"75\xff", "character 2"},
        {"7U", "ends inside"},
        {"7U ", "character 2"},
        {"O", "run 0 (character 0)"}, /* -1 */
        {"PPPPPPPP0", "7 digits"},
        {"PPPPPP1", "is 1073741824"},
        {"ooooooo", "7 digits"},
        {"7222O", "run 3 (character 3)"},
        {"4400000000Q", "run 5 (character 5)"},
        {"75O", "run 2 (character 2)"},
    };
    mask_rle mask = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        status s = mask_rle_from_string(&mask, cases[i].text, strlen(cases[i].text), 3, 4);
        if (s != STATUS_DATA) fail_msg("case %zu '%s' was taken", i, cases[i].text);
        if (!strstr(error_cause(), cases[i].because))
            fail_msg("'%s' does not say %s", error_cause(), cases[i].because);
    }
    assert_int_equal(mask_rle_from_string(&mask, "75", 2, 3, 4), STATUS_OK);
    mask_rle_release(&mask);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trips),
        cmocka_unit_test(merges_as_bitmaps_do),
        cmocka_unit_test(empty_runs_inside_are_legal),
        cmocka_unit_test(refuses_bad_counts),
        cmocka_unit_test(refuses_bad_strings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
