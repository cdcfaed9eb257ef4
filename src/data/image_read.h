/* JPEG and PNG files as upright RGB8 pixels. The type is told by the first bytes, never by the name.
 *
 * What comes out is always [height,width,3], RGB, 8 bits, turned upright by its EXIF orientation:
 *
 *   gray         copied to the three channels; 1, 2 and 4 bits scaled to 0..255
 *   palette      its colours
 *   16 bits      (PNG) the high byte
 *   alpha, tRNS  dropped: the colour under it stays, nothing is blended; gamma and background are ignored
 *   CMYK, YCCK   R = C*K/255 (rounded), and so on, of inverted values as every Adobe JPEG stores them; a file
 *                without Adobe's marker is taken as not inverted
 *
 * No ICC profile is applied. JPEG decoding is libjpeg-turbo's default: slow integer DCT, fancy upsampling.
 *
 * A file is never trusted: sizes are checked before anything is allocated; the number of scans of a JPEG and
 * the chunks of a PNG are limited. A file that is cut off, or whose compressed data are corrupt, is an error,
 * not gray pixels; what costs no pixel (stray bytes before a marker, a damaged ICC profile, a missing end
 * marker, a progressive refinement that stops early) is let pass.
 *
 * Errors: STATUS_NO_INPUT (cannot be opened), STATUS_IO, STATUS_DATA (not an image, damaged, over a limit, of
 * a kind that is not supported), STATUS_OS (memory); the cause names the file where a path is given. */
#ifndef DATA_IMAGE_READ_H
#define DATA_IMAGE_READ_H

#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

typedef struct image_limits {
    int64_t max_pixels;    /* width * height of the stored picture */
    int max_jpeg_scans;    /* a progressive JPEG of 2 MB can hold 10^5 of them, each a pass over all pixels */
    size_t max_file_bytes; /* a larger file is not read */
} image_limits;

/* 178,956,970 pixels (where Pillow raises an error), 100 scans, 512 MiB. */
image_limits image_limits_default(void);

typedef enum image_format { IMAGE_UNKNOWN = 0, IMAGE_JPEG, IMAGE_PNG } image_format;

typedef struct image_header {
    image_format format;
    int stored_height, stored_width; /* as in the file */
    int orientation;                 /* EXIF, 1..8; 1 where there is none or it is not valid */
    int height, width;               /* upright, as image_decode gives them */
} image_header;

typedef struct image_buffer {
    uint8_t *pixels; /* [height,width,3] RGB8, owned, may be NULL before the first read */
    size_t capacity; /* bytes of `pixels`; kept between reads, grows when needed */
    int height, width;
} image_buffer;

void image_buffer_release(image_buffer *image);

/* Tells the type by the first bytes; IMAGE_UNKNOWN for anything else. */
image_format image_format_of(const uint8_t *bytes, size_t size);

/* Size and orientation without decoding; `limits` NULL means the defaults. Only as much of the file is read
 * as the header needs, so the pixels may still turn out to be damaged. */
status image_read_header(image_header *out, const char *path, const image_limits *limits);
status image_decode_header(image_header *out, const uint8_t *bytes, size_t size, const image_limits *limits);

/* Reads a whole picture. *out is {0} or holds an earlier picture, whose memory is used again. After an error
 * the buffer's pixels are undefined, and it can be used again or released. */
status image_read(image_buffer *out, const char *path, const image_limits *limits);
status image_decode(image_buffer *out, const uint8_t *bytes, size_t size, const image_limits *limits);

/* Decodes into memory of the caller, e.g. a slot of shared memory. A picture that needs more than `capacity`
 * bytes is STATUS_DATA before a pixel is written. */
status image_decode_into(uint8_t *pixels, size_t capacity, int *height, int *width, const uint8_t *bytes,
                         size_t size, const image_limits *limits);

#endif
