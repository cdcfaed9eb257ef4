/* Packing and reading of object masks; every damaged record must be refused. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "data/gt_masks.h"

static const float triangle_and_square[] = {1, 2, 9.5f, 2, 5, 8, 20, 20, 30, 20, 30, 30, 20, 30};
static const int32_t part_points[] = {3, 4};

static void packs_and_reads_polygons_and_bitmaps(void **state) {
    (void)state;
    _Alignas(4) uint8_t blob[256];
    gt_mask_writer writer = {.blob = blob, .capacity = sizeof blob};
    gt_mask_record records[2];
    assert_int_equal(gt_mask_pack_polygon(&records[0], &writer, triangle_and_square, part_points, 2),
                     STATUS_OK);
    assert_int_equal(writer.used, gt_mask_polygon_size(part_points, 2));
    uint8_t *rows;
    assert_int_equal(gt_mask_pack_bitmap(&records[1], &writer, 100, 50, 11, 3, &rows), STATUS_OK);
    assert_int_equal(gt_mask_bitmap_size(11, 3), 8);
    rows[2 * 1 + 1] = 1 << 2; /* row 1, column 10 */

    gt_mask_view view;
    assert_int_equal(gt_mask_read(&view, &records[0], blob, writer.used), STATUS_OK);
    assert_int_equal(view.parts, 2);
    const uint8_t *cursor = view.data;
    const float *expected = triangle_and_square;
    for (int i = 0; i < 2; i++) {
        gt_mask_part part = gt_mask_next_part(&cursor);
        assert_int_equal(part.points, part_points[i]);
        assert_memory_equal(part.xy, expected, (size_t)part.points * 8);
        expected += part.points * 2;
    }
    assert_ptr_equal(cursor, blob + records[0].size);

    assert_int_equal(gt_mask_read(&view, &records[1], blob, writer.used), STATUS_OK);
    int set = 0;
    for (int y = 45; y < 60; y++)
        for (int x = 95; x < 120; x++) set += gt_mask_bit(&view, x, y);
    assert_int_equal(set, 1);
    assert_true(gt_mask_bit(&view, 110, 51));
}

static void says_when_the_blob_is_full(void **state) {
    (void)state;
    _Alignas(4) uint8_t blob[32];
    gt_mask_writer writer = {.blob = blob, .capacity = sizeof blob};
    gt_mask_record record;
    uint8_t *rows;
    assert_int_equal(gt_mask_pack_polygon(&record, &writer, triangle_and_square, part_points, 2),
                     STATUS_DATA);
    assert_int_equal(gt_mask_pack_bitmap(&record, &writer, 0, 0, 8, 33, &rows), STATUS_DATA);
    assert_int_equal(writer.used, 0);
    assert_int_equal(gt_mask_pack_bitmap(&record, &writer, 0, 0, 8, 32, &rows), STATUS_OK);
    assert_int_equal(gt_mask_pack_bitmap(&record, &writer, 0, 0, 0, 0, &rows), STATUS_OK);
}

static void refuses_damaged_records(void **state) {
    (void)state;
    _Alignas(4) uint8_t blob[128];
    gt_mask_writer writer = {.blob = blob, .capacity = sizeof blob};
    gt_mask_record polygon, bitmap;
    uint8_t *rows;
    assert_int_equal(gt_mask_pack_polygon(&polygon, &writer, triangle_and_square, part_points, 2), STATUS_OK);
    assert_int_equal(gt_mask_pack_bitmap(&bitmap, &writer, 0, 0, 8, 4, &rows), STATUS_OK);
    gt_mask_view view;
    gt_mask_record bad = polygon;
    bad.kind = 2;
    assert_int_equal(gt_mask_read(&view, &bad, blob, writer.used), STATUS_DATA);
    bad = polygon;
    bad.offset = -4;
    assert_int_equal(gt_mask_read(&view, &bad, blob, writer.used), STATUS_DATA);
    bad.offset = 2;
    assert_int_equal(gt_mask_read(&view, &bad, blob, writer.used), STATUS_DATA);
    bad = polygon;
    bad.size = 0;
    assert_int_equal(gt_mask_read(&view, &bad, blob, writer.used), STATUS_DATA);
    bad.size = polygon.size - 4;
    assert_int_equal(gt_mask_read(&view, &bad, blob, writer.used), STATUS_DATA);
    bad.size = polygon.size + 4;
    assert_int_equal(gt_mask_read(&view, &bad, blob, writer.used), STATUS_DATA);
    bad = bitmap;
    bad.width = 9;
    assert_int_equal(gt_mask_read(&view, &bad, blob, writer.used), STATUS_DATA);
    assert_int_equal(gt_mask_read(&view, &bitmap, blob, writer.used - 1), STATUS_DATA);

    int32_t saved, wrong[] = {-1, 3, INT32_MAX};
    memcpy(&saved, blob, 4);
    for (int i = 0; i < 3; i++) { /* number of parts */
        memcpy(blob, &wrong[i], 4);
        assert_int_equal(gt_mask_read(&view, &polygon, blob, writer.used), STATUS_DATA);
    }
    memcpy(blob, &saved, 4);
    memcpy(&saved, blob + 4, 4);
    int32_t wrong_points[] = {-1, 2, INT32_MAX};
    for (int i = 0; i < 3; i++) {
        memcpy(blob + 4, &wrong_points[i], 4);
        assert_int_equal(gt_mask_read(&view, &polygon, blob, writer.used), STATUS_DATA);
    }
    memcpy(blob + 4, &saved, 4);
    assert_int_equal(gt_mask_read(&view, &polygon, blob, writer.used), STATUS_OK);
    float nan = NAN;
    memcpy(blob + 8, &nan, 4);
    assert_int_equal(gt_mask_read(&view, &polygon, blob, writer.used), STATUS_DATA);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packs_and_reads_polygons_and_bitmaps),
        cmocka_unit_test(says_when_the_blob_is_full),
        cmocka_unit_test(refuses_damaged_records),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
