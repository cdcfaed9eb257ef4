/* Polygons must give pycocotools' masks to the last pixel, and detectron2's mask targets:
 * tests/golden/masks.txt, made with scripts/make_golden.py masks (which says what its lines hold). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "data/mask_polygon.h"

enum { MAX_PARTS = 8, MAX_POINTS = 4096 };

typedef struct golden {
    char kind[16];
    int height, width, area;
    double box[4];
    char *expected; /* counts, or bits in hexadecimal */
    int parts;
    int32_t part_points[MAX_PARTS];
    double xy[2 * MAX_POINTS];
} golden;

static char *next_word(char **line) {
    char *word;
    while (*(word = strsep(line, " \n")) == 0) assert_non_null(*line);
    return word;
}

static void parse_line(golden *g, char *line) {
    snprintf(g->kind, sizeof g->kind, "%s", next_word(&line));
    g->height = g->width = atoi(next_word(&line));
    if (strcmp(g->kind, "polygon") == 0) {
        g->width = atoi(next_word(&line));
        g->area = atoi(next_word(&line));
    }
    for (int i = 0; i < 4; i++) g->box[i] = strtod(next_word(&line), NULL);
    g->expected = next_word(&line);
    g->parts = atoi(next_word(&line));
    assert_in_range(g->parts, 1, MAX_PARTS);
    int at = 0;
    for (int i = 0; i < g->parts; i++) {
        g->part_points[i] = atoi(next_word(&line));
        assert_in_range(at + g->part_points[i], 1, MAX_POINTS);
        for (int k = 0; k < 2 * g->part_points[i]; k++) g->xy[2 * at + k] = strtod(next_word(&line), NULL);
        at += g->part_points[i];
    }
}

static gt_mask_view pack(const golden *g, uint8_t *blob, size_t capacity) {
    static float xy[2 * MAX_POINTS];
    int points = 0;
    for (int i = 0; i < g->parts; i++) points += g->part_points[i];
    for (int i = 0; i < 2 * points; i++) xy[i] = (float)g->xy[i];
    gt_mask_writer writer = {.blob = blob, .capacity = capacity};
    gt_mask_record record;
    gt_mask_view view;
    assert_int_equal(gt_mask_pack_polygon(&record, &writer, xy, g->part_points, g->parts), STATUS_OK);
    assert_int_equal(gt_mask_read(&view, &record, blob, writer.used), STATUS_OK);
    return view;
}

/* Packed polygons are f32: the bitmap is compared where that loses no digit. */
static void check_polygon(const golden *g, int line) {
    mask_rle mask = {0}, from_bitmap = {0};
    if (mask_rle_from_polygons(&mask, g->xy, g->part_points, g->parts, g->height, g->width) != STATUS_OK)
        fail_msg("line %d: %s", line, error_cause());
    char *text;
    assert_int_equal(mask_rle_to_string(&text, &mask), STATUS_OK);
    if (strcmp(text, g->expected) != 0) fail_msg("line %d: %s, not %s", line, text, g->expected);
    assert_int_equal(mask_rle_area(&mask), g->area);
    mask_box box = mask_rle_bounding_box(&mask);
    assert_int_equal(box.x, g->box[0]);
    assert_int_equal(box.y, g->box[1]);
    assert_int_equal(box.width, g->box[2]);
    assert_int_equal(box.height, g->box[3]);
    assert_int_equal(mask_rle_from_string(&from_bitmap, text, strlen(text), g->height, g->width), STATUS_OK);
    assert_memory_equal(from_bitmap.counts, mask.counts, mask.count * sizeof *mask.counts);

    bool exact = true;
    for (int i = 0, k = 0; i < g->parts; i++)
        for (int n = 2 * g->part_points[i]; n > 0; n--, k++)
            exact = exact && (double)(float)g->xy[k] == g->xy[k];
    if (exact) {
        static _Alignas(4) uint8_t blob[MAX_POINTS * 8 + 256];
        gt_mask_view view = pack(g, blob, sizeof blob);
        uint8_t *bitmap = malloc((size_t)g->height * (size_t)g->width);
        uint8_t *scratch = malloc(mask_polygon_scratch_bytes(g->height, g->width));
        mask_affine same = {1, 0, 1, 0};
        mask_polygon_rasterize(bitmap, scratch, &view, &same, g->height, g->width);
        assert_int_equal(mask_rle_encode(&from_bitmap, bitmap, g->height, g->width), STATUS_OK);
        assert_int_equal(from_bitmap.count, mask.count);
        assert_memory_equal(from_bitmap.counts, mask.counts, mask.count * sizeof *mask.counts);
        free(bitmap);
        free(scratch);
    }
    free(text);
    mask_rle_release(&mask);
    mask_rle_release(&from_bitmap);
}

static void check_target(const golden *g, int line) {
    static _Alignas(4) uint8_t blob[MAX_POINTS * 8 + 256];
    uint8_t bitmap[28 * 28], scratch[28 * 28 + 1];
    assert_int_equal(mask_polygon_scratch_bytes(28, 28), sizeof scratch);
    gt_mask_view view = pack(g, blob, sizeof blob);
    float box[4];
    for (int i = 0; i < 4; i++) box[i] = (float)g->box[i];
    mask_polygon_rasterize_in_box(bitmap, scratch, &view, NULL, box, g->height);
    for (int i = 0; i < g->height * g->height; i++) {
        char digit[2] = {g->expected[i / 4], 0};
        int want = (int)strtol(digit, NULL, 16) >> (3 - i % 4) & 1;
        if (bitmap[i] != want) fail_msg("line %d: pixel %d is %d", line, i, bitmap[i]);
    }
}

static void equals_golden_masks(void **state) {
    (void)state;
    FILE *file = fopen(TEST_SOURCE_DIR "/tests/golden/masks.txt", "r");
    assert_non_null(file);
    golden *g = malloc(sizeof *g);
    char *line = NULL;
    size_t capacity = 0;
    int polygons = 0, targets = 0;
    while (getline(&line, &capacity, file) > 0) {
        parse_line(g, line);
        if (strcmp(g->kind, "polygon") == 0)
            check_polygon(g, 1 + polygons++ + targets);
        else
            check_target(g, 1 + polygons + targets++);
    }
    assert_int_equal(polygons, 77);
    assert_int_equal(targets, 57);
    fclose(file);
    free(line);
    free(g);
}

/* Resize by powers of two and a flip, written as a frame, equal the same polygon moved beforehand. */
static void frame_moves_points_before_the_box(void **state) {
    (void)state;
    static const float original[] = {3, 4, 30.5f, 6, 28, 33, 10, 20.25f};
    float moved[8];
    for (int i = 0; i < 4; i++) {
        moved[2 * i] = 100 - 2 * original[2 * i];
        moved[2 * i + 1] = original[2 * i + 1] / 2;
    }
    const int32_t points = 4;
    _Alignas(4) uint8_t blob[2][64];
    gt_mask_view views[2];
    for (int i = 0; i < 2; i++) {
        gt_mask_writer writer = {.blob = blob[i], .capacity = sizeof blob[i]};
        gt_mask_record record;
        assert_int_equal(gt_mask_pack_polygon(&record, &writer, i ? moved : original, &points, 1), STATUS_OK);
        views[i] = gt_mask_view_of(&record, blob[i]);
    }
    uint8_t a[28 * 28], b[28 * 28], scratch[28 * 28 + 1];
    const float box[4] = {30.5f, 1, 97, 18};
    mask_affine frame = {.scale_x = -2, .shift_x = 100, .scale_y = 0.5};
    mask_polygon_rasterize_in_box(a, scratch, &views[0], &frame, box, 28);
    mask_polygon_rasterize_in_box(b, scratch, &views[1], NULL, box, 28);
    assert_memory_equal(a, b, sizeof a);
    int area = 0;
    for (int i = 0; i < 28 * 28; i++) area += a[i];
    assert_in_range(area, 100, 700);
}

static void giant_and_bad_coordinates(void **state) {
    (void)state;
    mask_rle mask = {0};
    static const double around[] = {-1e300, -1e300, 1e300, -1e300, 1e300, 1e300, -1e300, 1e300};
    assert_int_equal(mask_rle_from_polygon(&mask, around, 4, 7, 9), STATUS_OK);
    assert_int_equal(mask_rle_area(&mask), 63);
    static const double needle[] = {-1e9, 3, 1e9, 3.4, 1e9, 5.2, -1e9, 5};
    assert_int_equal(mask_rle_from_polygon(&mask, needle, 4, 7, 9), STATUS_OK);
    assert_int_equal(mask_rle_bounding_box(&mask).width, 9);
    static const double steep[] = {3, -1e8, 4, -1e8, 4.6, 1e8, 3.6, 1e8};
    assert_int_equal(mask_rle_from_polygon(&mask, steep, 4, 7, 9), STATUS_OK);
    assert_int_equal(mask_rle_area(&mask), 7);
    double bad[] = {1, 1, 5, 1, 5, 5};
    for (int i = 0; i < 6; i++) {
        double saved = bad[i];
        bad[i] = i & 1 ? NAN : INFINITY;
        assert_int_equal(mask_rle_from_polygon(&mask, bad, 3, 7, 9), STATUS_DATA);
        bad[i] = saved;
    }
    assert_int_equal(mask_rle_from_polygon(&mask, bad, 0, 7, 9), STATUS_OK);
    assert_int_equal(mask_rle_area(&mask), 0);
    assert_int_equal(mask_rle_from_polygon(&mask, bad, 3, 0, 9), STATUS_DATA);
    mask_rle_release(&mask);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_golden_masks),
        cmocka_unit_test(frame_moves_points_before_the_box),
        cmocka_unit_test(giant_and_bad_coordinates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
