/* What image_read.c needs of the two codecs. Inside the data room only. */
#ifndef DATA_IMAGE_CODEC_H
#define DATA_IMAGE_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"
#include "data/image_read.h"

/* What the markers (chunks) before the first pixel say. */
typedef struct image_markers {
    image_header header;
    bool incomplete;      /* beside an error: the bytes ended too early, more of the file may help */
    uint64_t least_bytes; /* no good file with this header is smaller: few bytes may claim a giant picture */
} image_markers;

/* Fill stored size, orientation and least_bytes; the caller has set format and orientation 1 and zeroed the
 * rest. */
status image_jpeg_header(image_markers *out, const uint8_t *bytes, size_t size);
status image_png_header(image_markers *out, const uint8_t *bytes, size_t size);

/* Decode to [stored_height,stored_width,3], not turned. The header was read from the same bytes and is within
 * limits. */
status image_jpeg_decode(uint8_t *pixels, const image_header *header, const uint8_t *bytes, size_t size,
                         const image_limits *limits);
status image_png_decode(uint8_t *pixels, const image_header *header, const uint8_t *bytes, size_t size);

/* Orientation 1..8 in a TIFF block (what follows "Exif\0\0" in a JPEG's APP1, or a PNG's eXIf chunk); 1 where
 * the block has none or is damaged. */
int image_exif_orientation(const uint8_t *tiff, size_t size);

/* Turns stored [height,width,3] upright; upright must not overlap stored. Orientations 5..8 exchange the
 * sides. */
void image_turn_upright(uint8_t *upright, const uint8_t *stored, int height, int width, int orientation);

#endif
