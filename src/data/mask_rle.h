/* Run-length encoded masks as in COCO files: runs in column-major order (down the first column, then the
 * next), the first run counts zeros. Formats as pycocotools' mask API writes and reads them. A valid mask_rle
 * has runs that add up to height * width; every function that makes one guarantees it. */
#ifndef DATA_MASK_RLE_H
#define DATA_MASK_RLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

typedef struct mask_rle {
    int height, width;
    uint32_t *counts; /* [count], owned; may be NULL before first use */
    size_t count;
    size_t capacity; /* of counts; kept when the mask is used again */
} mask_rle;

/* Left, top, width and height in pixels; all 0 for an empty mask. */
typedef struct mask_box {
    int x, y, width, height;
} mask_box;

void mask_rle_release(mask_rle *mask);

/* Bounds every mask has to keep; larger is STATUS_DATA. height * width fits 31 bits. */
status mask_check_size(int64_t height, int64_t width);

/* Makes room for `count` runs (contents kept); STATUS_OS when there is no memory. */
status mask_rle_reserve(mask_rle *mask, size_t count);

/* bitmap: row-major u8 [height,width], 0 is background. */
status mask_rle_encode(mask_rle *out, const uint8_t *bitmap, int height, int width);
/* bitmap: row-major u8 [height,width], written with 0 and 1. */
void mask_rle_decode(uint8_t *bitmap, const mask_rle *mask);

/* Crop [y0, y0+height) x [x0, x0+width) as packed bits: rows of (width+7)/8 bytes, least significant bit
 * first, spare bits 0. The crop must lie inside the mask. */
void mask_rle_decode_crop(uint8_t *rows, const mask_rle *mask, int x0, int y0, int width, int height);

int64_t mask_rle_area(const mask_rle *mask);
mask_box mask_rle_bounding_box(const mask_rle *mask);

/* From the numbers of an uncompressed RLE. STATUS_DATA unless they are >= 0 and add up to height * width. */
status mask_rle_from_counts(mask_rle *out, const int64_t *counts, size_t count, int64_t height,
                            int64_t width);

/* From a compressed string (`length` characters, no terminator needed). STATUS_DATA names the offset of a
 * character that is not allowed, a run below 0 or past the end of the mask, and runs that do not add up. */
status mask_rle_from_string(mask_rle *out, const char *text, size_t length, int64_t height, int64_t width);

/* Compressed string, zero-terminated, malloc: the caller frees *out. */
status mask_rle_to_string(char **out, const mask_rle *mask);

/* Union or, with `intersect`, intersection of two masks of one size; *out is neither of them. */
status mask_rle_merge(mask_rle *out, const mask_rle *a, const mask_rle *b, bool intersect);

#endif
