/* PNG through libpng's low-level API; the simplified one (png_image_*) and png_set_quantize are not used. */
#include "data/image_codec.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <png.h>

static const char replace_file[] = "replace the file by a good copy, or take it out of the dataset";

enum {
    SIGNATURE_BYTES = 8,
    CHUNK_EXTRA_BYTES = 12,
    MAX_SIDE = 65500,
    MAX_CACHED_CHUNKS = 64,
    MAX_CHUNK_BYTES = 1 << 20
};

/* --- header -------------------------------------------------------------------------------------------------- */

static uint32_t get32(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* IHDR: width, height, depth, colour type, compression, filter, interlacing. Deflate makes at most 1032 bytes
 * of one. */
static status check_ihdr(image_markers *out, const uint8_t *ihdr, size_t length) {
    if (length != 13) return error_set(STATUS_DATA, replace_file, "damaged PNG: IHDR of %zu bytes", length);
    uint32_t width = get32(ihdr), height = get32(ihdr + 4);
    if (width == 0 || height == 0 || width > MAX_SIDE || height > MAX_SIDE)
        return error_set(STATUS_DATA, replace_file,
                         "damaged PNG: a picture of %u x %u pixels (limit %d on a side)", width, height,
                         MAX_SIDE);
    out->header.stored_width = (int)width;
    out->header.stored_height = (int)height;
    static const uint8_t samples[8] = {1, 1, 3, 1,
                                       2, 1, 4, 1}; /* by colour type; libpng refuses what is none */
    out->least_bytes = (uint64_t)width * height * samples[ihdr[9] & 7] * (ihdr[8] & 31) / 8 / 1032;
    return STATUS_OK;
}

status image_png_header(image_markers *out, const uint8_t *bytes, size_t size) {
    size_t at = SIGNATURE_BYTES;
    while (size - at >= CHUNK_EXTRA_BYTES) {
        size_t length = get32(bytes + at);
        const uint8_t *type = bytes + at + 4, *data = bytes + at + 8;
        bool first = at == SIGNATURE_BYTES;
        if (first != (memcmp(type, "IHDR", 4) == 0))
            return error_set(STATUS_DATA, replace_file, "damaged PNG: chunk %s",
                             first ? "IHDR is not the first" : "IHDR comes twice");
        if (memcmp(type, "IDAT", 4) == 0) return STATUS_OK;
        if (memcmp(type, "IEND", 4) == 0)
            return error_set(STATUS_DATA, replace_file, "damaged PNG: no IDAT chunk (no pixels)");
        if (length > size - at - CHUNK_EXTRA_BYTES) break;
        if (first) RETURN_IF_ERROR(check_ihdr(out, data, length));
        if (memcmp(type, "eXIf", 4) == 0) out->header.orientation = image_exif_orientation(data, length);
        at += length + CHUNK_EXTRA_BYTES;
    }
    out->incomplete = true;
    return error_set(STATUS_DATA, replace_file, "damaged PNG: it ends before the pixels, after %zu bytes",
                     size);
}

/* --- pixels -------------------------------------------------------------------------------------------------- */

typedef struct png_reader {
    png_structp png;
    png_infop info;
    const uint8_t *bytes;
    size_t left;
    status result;
} png_reader;

static void fail(png_structp png, png_const_charp text) {
    png_reader *reader = png_get_error_ptr(png);
    reader->result = error_set(STATUS_DATA, replace_file, "damaged PNG: %s", text);
    png_longjmp(png, 1);
}

static void ignore_warning(png_structp png, png_const_charp text) {
    (void)png;
    (void)text;
}

static void take_bytes(png_structp png, png_bytep to, size_t count) {
    png_reader *reader = png_get_io_ptr(png);
    if (count > reader->left) png_error(png, "it is cut off");
    memcpy(to, reader->bytes, count);
    reader->bytes += count;
    reader->left -= count;
}

/* Only what makes pixels is looked at: text, profiles, times and private chunks are skipped unread (their
 * checksums are still verified). */
static void set_limits(png_structp png) {
    static const png_byte skipped[] =
        "tEXt\0zTXt\0iTXt\0iCCP\0sPLT\0eXIf\0hIST\0pCAL\0sCAL\0tIME\0gAMA\0cHRM\0sRGB\0sBIT\0bKGD\0"
        "oFFs\0pHYs\0tRNS";
    png_set_user_limits(png, MAX_SIDE, MAX_SIDE);
    png_set_chunk_cache_max(png, MAX_CACHED_CHUNKS);
    png_set_chunk_malloc_max(png, MAX_CHUNK_BYTES);
    png_set_crc_action(png, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, skipped, (int)(sizeof skipped / 5));
}

static void set_rgb8(png_structp png) {
    png_set_palette_to_rgb(png);
    png_set_expand_gray_1_2_4_to_8(png);
    png_set_strip_16(png);
    png_set_gray_to_rgb(png);
    png_set_strip_alpha(png);
}

static void decode(png_reader *reader, uint8_t *pixels, const image_header *header) {
    png_structp png = reader->png;
    set_limits(png);
    png_set_read_fn(png, reader, take_bytes);
    png_read_info(png, reader->info);
    png_uint_32 width = png_get_image_width(png, reader->info),
                height = png_get_image_height(png, reader->info);
    if ((int)width != header->stored_width || (int)height != header->stored_height)
        png_error(png, "IHDR changed while reading");
    set_rgb8(png);
    int passes = png_set_interlace_handling(png);
    png_read_update_info(png, reader->info);
    size_t row_bytes = (size_t)width * 3;
    if (png_get_rowbytes(png, reader->info) != row_bytes) png_error(png, "unknown pixel format");
    for (int pass = 0; pass < passes; pass++)
        for (png_uint_32 y = 0; y < height; y++) png_read_row(png, pixels + y * row_bytes, NULL);
    png_read_end(png, NULL);
}

status image_png_decode(uint8_t *pixels, const image_header *header, const uint8_t *bytes, size_t size) {
    png_reader reader = {.bytes = bytes, .left = size};
    reader.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &reader, fail, ignore_warning);
    if (reader.png) reader.info = png_create_info_struct(reader.png);
    if (!reader.info) {
        png_destroy_read_struct(&reader.png, NULL, NULL);
        return error_set(STATUS_OS, NULL, "no memory to decode a PNG");
    }
    if (setjmp(png_jmpbuf(reader.png)) == 0) decode(&reader, pixels, header);
    png_destroy_read_struct(&reader.png, &reader.info, NULL);
    return reader.result;
}
