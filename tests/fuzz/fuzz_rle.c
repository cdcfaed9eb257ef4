/* Masks from arbitrary compressed strings, run lengths and polygons. Input: height, width (a byte each, modulo 64), kind,
 * the rest. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "data/mask_polygon.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static mask_rle mask, again;

/* A mask that was accepted is whole, and comes back from its string and its bitmap. */
static void check_mask(void) {
    static uint8_t bitmap[64 * 64], rows[64 * 8];
    int64_t sum = 0;
    for (size_t i = 0; i < mask.count; i++) sum += mask.counts[i];
    CHECK(sum == (int64_t)mask.height * mask.width, "runs add up");
    char *text;
    if (mask_rle_to_string(&text, &mask) != STATUS_OK) return;
    CHECK(mask_rle_from_string(&again, text, strlen(text), mask.height, mask.width) == STATUS_OK,
          "reads its own");
    CHECK(again.count == mask.count && memcmp(again.counts, mask.counts, 4 * mask.count) == 0, "the same");
    free(text);
    mask_rle_decode(bitmap, &mask);
    CHECK(mask_rle_encode(&again, bitmap, mask.height, mask.width) == STATUS_OK, "encodes");
    CHECK(mask_rle_area(&again) == mask_rle_area(&mask), "area");
    mask_box box = mask_rle_bounding_box(&mask), same = mask_rle_bounding_box(&again);
    CHECK(memcmp(&box, &same, sizeof box) == 0, "box");
    mask_rle_decode_crop(rows, &mask, box.x, box.y, box.width, box.height);
}

static void try_counts(const uint8_t *data, size_t size, int height, int width) {
    size_t count = size / sizeof(int64_t);
    int64_t *counts = malloc(size + 1);
    if (!counts) return;
    memcpy(counts, data, count * sizeof *counts);
    if (mask_rle_from_counts(&mask, counts, count, height, width) == STATUS_OK) check_mask();
    free(counts);
}

/* Up to three parts of floats: as runs and as a bitmap, which must agree. */
static void try_polygons(const uint8_t *data, size_t size, int height, int width) {
    static uint8_t bitmap[64 * 64], scratch[64 * 64 + 1], expected[64 * 64];
    int32_t points = (int32_t)(size / (2 * sizeof(float))), parts = 1 + points % 3, part_points[3] = {0};
    if (points < 3 || points > 2000) return;
    for (int32_t i = 0; i < points; i++) part_points[i % parts]++;
    float *xy = malloc((size_t)points * 2 * sizeof *xy);
    double *wide = malloc((size_t)points * 2 * sizeof *wide);
    uint8_t *blob = aligned_alloc(64, ((size_t)points * 8 + 127) / 64 * 64);
    if (!xy || !wide || !blob) abort();
    memcpy(xy, data, (size_t)points * 2 * sizeof *xy);
    for (int32_t i = 0; i < 2 * points; i++) wide[i] = (double)xy[i];
    gt_mask_writer writer = {.blob = blob, .capacity = ((size_t)points * 8 + 127) / 64 * 64};
    gt_mask_record record;
    gt_mask_view view;
    CHECK(gt_mask_pack_polygon(&record, &writer, xy, part_points, parts) == STATUS_OK, "packs");
    bool finite = gt_mask_read(&view, &record, blob, writer.used) == STATUS_OK;
    bool made = mask_rle_from_polygons(&mask, wide, part_points, parts, height, width) == STATUS_OK;
    CHECK(made == finite, "only what is not finite is refused");
    if (made) {
        check_mask();
        const mask_affine same = {1, 0, 1, 0};
        mask_polygon_rasterize(bitmap, scratch, &view, &same, height, width);
        mask_rle_decode(expected, &mask);
        CHECK(memcmp(bitmap, expected, (size_t)height * (size_t)width) == 0, "runs and bitmap agree");
    }
    free(xy);
    free(wide);
    free(blob);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 3) return -1;
    int height = data[0] % 64, width = data[1] % 64;
    uint8_t kind = data[2];
    data += 3;
    size -= 3;
    if (kind == 'c')
        try_counts(data, size, height, width);
    else if (kind == 'p' && height && width)
        try_polygons(data, size, height, width);
    else if (mask_rle_from_string(&mask, (const char *)data, size, height, width) == STATUS_OK)
        check_mask();
    return 0;
}
