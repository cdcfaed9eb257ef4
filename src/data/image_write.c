#include "data/image_write.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <jpeglib.h>
#include <png.h>
#include "base/check.h"
#include "base/file_util.h"

static status write_beside(const char *path, const uint8_t *bytes, size_t size) {
    char *part;
    if (asprintf(&part, "%s.part", path) < 0)
        return error_set(STATUS_OS, NULL, "no memory to write %s", path);
    int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    status s = fd < 0 ? error_from_output(errno, "create", part) : write_all(fd, bytes, size, part);
    if (fd >= 0 && close(fd) != 0 && s == STATUS_OK) s = error_from_output(errno, "close", part);
    if (s == STATUS_OK && rename(part, path) != 0) s = error_from_output(errno, "rename to", path);
    if (fd >= 0 && s != STATUS_OK) unlink(part);
    free(part);
    return s;
}

/* --- PNG ----------------------------------------------------------------------------------------------------- */

typedef struct byte_buffer {
    uint8_t *bytes;
    size_t size, capacity;
} byte_buffer;

static void append_bytes(png_structp png, png_bytep from, size_t count) {
    byte_buffer *to = png_get_io_ptr(png);
    if (to->size + count > to->capacity) {
        size_t capacity = (to->size + count) * 2;
        uint8_t *bytes = realloc(to->bytes, capacity);
        if (!bytes) png_error(png, "no memory");
        to->bytes = bytes;
        to->capacity = capacity;
    }
    memcpy(to->bytes + to->size, from, count);
    to->size += count;
}

static void flush_nothing(png_structp png) {
    (void)png;
}

static void fail_quietly(png_structp png, png_const_charp text) {
    (void)text;
    png_longjmp(png, 1);
}

static void encode_png(png_structp png, png_infop info, byte_buffer *out, const uint8_t *pixels, int height,
                       int width) {
    png_set_write_fn(png, out, append_bytes, flush_nothing);
    png_set_compression_level(png, 4);
    png_set_IHDR(png, info, (png_uint_32)width, (png_uint_32)height, 8, PNG_COLOR_TYPE_RGB,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(png, info);
    for (int y = 0; y < height; y++) png_write_row(png, pixels + (size_t)y * (size_t)width * 3);
    png_write_end(png, info);
}

status image_write_png(const char *path, const uint8_t *pixels, int height, int width) {
    CHECK(height >= 1 && width >= 1, "a picture of %d x %d pixels", width, height);
    byte_buffer file = {0};
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, fail_quietly, fail_quietly);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    status s = STATUS_OS;
    if (info && setjmp(png_jmpbuf(png)) == 0) {
        encode_png(png, info, &file, pixels, height, width);
        s = STATUS_OK;
    }
    png_destroy_write_struct(&png, &info);
    s = s == STATUS_OK ? write_beside(path, file.bytes, file.size)
                       : error_set(s, NULL, "no memory to write %s", path);
    free(file.bytes);
    return s;
}

/* --- JPEG ---------------------------------------------------------------------------------------------------- */

typedef struct jpeg_writer {
    struct jpeg_compress_struct encoder;
    struct jpeg_error_mgr errors;
    jmp_buf on_error;
    unsigned char *bytes;
    unsigned long size;
} jpeg_writer;

static void fail_encoding(j_common_ptr encoder) {
    longjmp(((jpeg_writer *)encoder->client_data)->on_error, 1);
}
static void ignore_message(j_common_ptr encoder) {
    (void)encoder;
}

static void encode_jpeg(jpeg_writer *w, const uint8_t *pixels, int height, int width, int quality) {
    j_compress_ptr encoder = &w->encoder;
    jpeg_create_compress(encoder);
    jpeg_mem_dest(encoder, &w->bytes, &w->size);
    encoder->image_width = (JDIMENSION)width;
    encoder->image_height = (JDIMENSION)height;
    encoder->input_components = 3;
    encoder->in_color_space = JCS_RGB;
    jpeg_set_defaults(encoder);
    jpeg_set_quality(encoder, quality, TRUE);
    jpeg_start_compress(encoder, TRUE);
    while (encoder->next_scanline < encoder->image_height) {
        JSAMPROW row = (JSAMPROW)(uintptr_t)(pixels + (size_t)encoder->next_scanline * (size_t)width * 3);
        jpeg_write_scanlines(encoder, &row, 1);
    }
    jpeg_finish_compress(encoder);
}

status image_encode_jpeg(uint8_t **out, size_t *size, const uint8_t *pixels, int height, int width,
                         int quality) {
    CHECK(height >= 1 && width >= 1 && height <= JPEG_MAX_DIMENSION && width <= JPEG_MAX_DIMENSION,
          "a JPEG of %d x %d pixels", width, height);
    jpeg_writer w = {0};
    w.encoder.err = jpeg_std_error(&w.errors);
    w.encoder.client_data = &w;
    w.errors.error_exit = fail_encoding;
    w.errors.output_message = ignore_message;
    status s = STATUS_OS;
    if (setjmp(w.on_error) == 0) {
        encode_jpeg(&w, pixels, height, width, quality);
        s = STATUS_OK;
    }
    jpeg_destroy_compress(&w.encoder);
    *out = s == STATUS_OK ? w.bytes : NULL;
    *size = s == STATUS_OK ? w.size : 0;
    if (s == STATUS_OK) return s;
    free(w.bytes);
    return error_set(s, NULL, "no memory for a JPEG of %d x %d pixels", width, height);
}

status image_write_jpeg(const char *path, const uint8_t *pixels, int height, int width, int quality) {
    uint8_t *bytes;
    size_t size;
    status s = image_encode_jpeg(&bytes, &size, pixels, height, width, quality);
    s = s == STATUS_OK ? write_beside(path, bytes, size) : error_prefix(s, "%s", path);
    free(bytes);
    return s;
}
