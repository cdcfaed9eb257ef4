/* RGB8 pictures as PNG and JPEG files. `<path>.part` is written and then renamed, so a file under its own name is
 * always whole. (Not synced to the disk: pictures can be made again.)
 * pixels: u8 [height,width,3]. Errors: as file_util.h's for outputs; STATUS_OS (memory). */
#ifndef DATA_IMAGE_WRITE_H
#define DATA_IMAGE_WRITE_H

#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

status image_write_png(const char *path, const uint8_t *pixels, int height, int width);

/* quality 1..100; 4:2:0, baseline. */
status image_write_jpeg(const char *path, const uint8_t *pixels, int height, int width, int quality);

/* The bytes of that file, for use inside of others; free(*out). OS. */
status image_encode_jpeg(uint8_t **out, size_t *size, const uint8_t *pixels, int height, int width,
                         int quality);

#endif
