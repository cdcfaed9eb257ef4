/* Object masks of one image in packed form: how the loader hands them through shared memory and the device to
 * the op that makes mask targets. Two arrays:
 *
 *   records  i32 [G,8]   one gt_mask_record per object
 *   blob     u8  [bytes] the payloads, each at an offset that is a multiple of 4
 *
 * Polygon payload: i32 parts, then per part: i32 points, f32 x,y pairs. Coordinates are continuous, in pixels
 * of the ORIGINAL image (upright, before resize and flip). The object is the union of its parts.
 *
 * Bitmap payload: `height` rows of (width+7)/8 bytes, least significant bit first, spare bits 0; a crop of the
 * original image whose top left pixel is (x0, y0). Pixels outside the crop are background. A crop of 0x0 is
 * an empty mask.
 *
 * Numbers are little-endian; the blob itself must be aligned to 4. */
#ifndef DATA_GT_MASKS_H
#define DATA_GT_MASKS_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

enum { GT_MASK_POLYGON = 0, GT_MASK_BITMAP = 1 };

enum { GT_MASK_RECORD_INTS = 8 };

typedef struct gt_mask_record {
    int32_t kind;          /* GT_MASK_POLYGON or GT_MASK_BITMAP */
    int32_t offset;        /* of the payload in the blob, bytes, multiple of 4 */
    int32_t size;          /* of the payload, bytes */
    int32_t x0, y0;        /* bitmap: place of the crop in the original image; polygon: 0 */
    int32_t width, height; /* bitmap: size of the crop; polygon: 0 */
    int32_t reserved;      /* 0 */
} gt_mask_record;

static_assert(sizeof(gt_mask_record) == GT_MASK_RECORD_INTS * sizeof(int32_t),
              "a record is a row of i32 [G,8]");

/* Bytes of a payload, rounded up to a multiple of 4. `part_points` [parts] counts the points of each part. */
size_t gt_mask_polygon_size(const int32_t *part_points, int parts);
size_t gt_mask_bitmap_size(int width, int height);

/* Appends payloads to a caller's blob. */
typedef struct gt_mask_writer {
    uint8_t *blob; /* borrowed, aligned to 4 */
    size_t capacity;
    size_t used; /* always a multiple of 4 */
} gt_mask_writer;

/* Appends a polygon set. xy: the parts' f32 x,y pairs one after another. STATUS_DATA when the blob is full. */
status gt_mask_pack_polygon(gt_mask_record *out, gt_mask_writer *writer, const float *xy,
                            const int32_t *part_points, int parts);

/* Reserves a zeroed crop of width x height at (x0, y0) and points *rows at its first row, for the caller to
 * fill (e.g. mask_rle_decode_crop). STATUS_DATA when the blob is full. */
status gt_mask_pack_bitmap(gt_mask_record *out, gt_mask_writer *writer, int x0, int y0, int width, int height,
                           uint8_t **rows);

/* A payload that was checked against the blob's bounds. */
typedef struct gt_mask_view {
    int32_t kind;
    int32_t parts;       /* polygon */
    const uint8_t *data; /* polygon: the first part's count; bitmap: first row */
    int32_t x0, y0, width, height;
    size_t row_bytes; /* bitmap */
} gt_mask_view;

/* Checks every bound (offsets, counts, crop size, finite coordinates); STATUS_DATA says what is wrong. */
status gt_mask_read(gt_mask_view *out, const gt_mask_record *record, const uint8_t *blob, size_t blob_size);

/* The same without the checks, for records that this program packed. */
gt_mask_view gt_mask_view_of(const gt_mask_record *record, const uint8_t *blob);

/* One part of a polygon view. `cursor` starts at view->data and is moved behind the part; call it view->parts
 * times. */
typedef struct gt_mask_part {
    int32_t points;
    const float *xy; /* [points, 2] */
} gt_mask_part;

static inline gt_mask_part gt_mask_next_part(const uint8_t **cursor) {
    gt_mask_part part = {.points = *(const int32_t *)(const void *)*cursor,
                         .xy = (const float *)(const void *)(*cursor + sizeof(int32_t))};
    *cursor += sizeof(int32_t) + (size_t)part.points * 2 * sizeof(float);
    return part;
}

/* Pixel (x, y) of the original image in a bitmap view; false outside the crop. */
static inline bool gt_mask_bit(const gt_mask_view *view, int x, int y) {
    x -= view->x0;
    y -= view->y0;
    if (x < 0 || y < 0 || x >= view->width || y >= view->height) return false;
    return (view->data[(size_t)y * view->row_bytes + (size_t)(x >> 3)] >> (x & 7)) & 1;
}

#endif
