#include "data/image_read.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/file_util.h"
#include "data/image_codec.h"

enum { HEADER_BYTES = 64 << 10 };

static const char replace_file[] = "replace the file by a good copy, or take it out of the dataset";

image_limits image_limits_default(void) {
    return (image_limits){
        .max_pixels = 178956970, .max_jpeg_scans = 100, .max_file_bytes = (size_t)512 << 20};
}

void image_buffer_release(image_buffer *image) {
    free(image->pixels);
    *image = (image_buffer){0};
}

image_format image_format_of(const uint8_t *bytes, size_t size) {
    if (size >= 3 && memcmp(bytes, "\xff\xd8\xff", 3) == 0) return IMAGE_JPEG;
    if (size >= 8 && memcmp(bytes, "\x89PNG\r\n\x1a\n", 8) == 0) return IMAGE_PNG;
    return IMAGE_UNKNOWN;
}

/* What a file that is no JPEG or PNG seems to be. */
static status refuse_format(const uint8_t *bytes, size_t size) {
    static const struct {
        size_t length;
        const char *magic, *name;
    } known[] = {{4, "GIF8", "a GIF"},
                 {2, "BM", "a BMP"},
                 {4, "II*\0", "a TIFF"},
                 {4, "MM\0*", "a TIFF"},
                 {4, "RIFF", "a WebP or AVI"},
                 {5, "%PDF-", "a PDF"},
                 {1, "<", "a web page"},
                 {2, "\xff\x0a", "a JPEG XL"},
                 {4, "\0\0\0\x0c", "a JPEG 2000 or JPEG XL"},
                 {2, "PK", "a zip archive"},
                 {23, "version https://git-lfs", "a Git LFS pointer, not the picture itself"}};
    if (size == 0) return error_set(STATUS_DATA, replace_file, "the image file is empty");
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (size >= known[i].length && memcmp(bytes, known[i].magic, known[i].length) == 0)
            return error_set(STATUS_DATA, "convert it to JPEG or PNG", "not a JPEG or PNG; it looks like %s",
                             known[i].name);
    if (size >= 12 && memcmp(bytes + 4, "ftyp", 4) == 0)
        return error_set(STATUS_DATA, "convert it to JPEG or PNG",
                         "not a JPEG or PNG; it looks like HEIF or a film");
    return error_set(STATUS_DATA, "convert it to JPEG or PNG",
                     "not a JPEG or PNG: starts with bytes %02x %02x", bytes[0], size > 1 ? bytes[1] : 0);
}

static status read_markers(image_markers *out, const uint8_t *bytes, size_t size,
                           const image_limits *limits) {
    image_limits defaults = image_limits_default();
    if (!limits) limits = &defaults;
    *out = (image_markers){.header = {.format = image_format_of(bytes, size), .orientation = 1}};
    image_header *header = &out->header;
    switch (header->format) {
    case IMAGE_JPEG:
        RETURN_IF_ERROR(image_jpeg_header(out, bytes, size));
        break;
    case IMAGE_PNG:
        RETURN_IF_ERROR(image_png_header(out, bytes, size));
        break;
    case IMAGE_UNKNOWN:
        return refuse_format(bytes, size);
    }
    if ((int64_t)header->stored_width * header->stored_height > limits->max_pixels)
        return error_set(STATUS_DATA, "make it smaller, or cut it into tiles",
                         "%d x %d pixels are more than the limit of %lld", header->stored_width,
                         header->stored_height, (long long)limits->max_pixels);
    bool exchange = header->orientation >= 5;
    header->height = exchange ? header->stored_width : header->stored_height;
    header->width = exchange ? header->stored_height : header->stored_width;
    return STATUS_OK;
}

status image_decode_header(image_header *out, const uint8_t *bytes, size_t size, const image_limits *limits) {
    image_markers markers;
    RETURN_IF_ERROR(read_markers(&markers, bytes, size, limits));
    *out = markers.header;
    return STATUS_OK;
}

/* The header of a whole file: refuses one that is too short for its size before anything is allocated. */
static status read_whole_header(image_header *out, const uint8_t *bytes, size_t size,
                                const image_limits *limits) {
    image_markers markers;
    RETURN_IF_ERROR(read_markers(&markers, bytes, size, limits));
    *out = markers.header;
    if (markers.least_bytes > size)
        return error_set(STATUS_DATA, replace_file, "damaged: %zu bytes cannot hold %d x %d pixels", size,
                         out->stored_width, out->stored_height);
    return STATUS_OK;
}

static status load_file(uint8_t **bytes, size_t *size, const char *path, const image_limits *limits) {
    image_limits defaults = image_limits_default();
    char *text;
    RETURN_IF_ERROR(read_file(&text, size, path, limits ? limits->max_file_bytes : defaults.max_file_bytes));
    *bytes = (uint8_t *)text;
    return STATUS_OK;
}

/* The first bytes of a file; fewer when it is shorter. */
static status load_start(uint8_t *bytes, size_t *size, const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe without a writer must not hold us */
    if (fd < 0)
        return error_set(errno == EACCES ? STATUS_NO_PERMISSION : STATUS_NO_INPUT,
                         "check the path, and that this user may read the file", "%s: %s", path,
                         strerror(errno));
    struct stat info;
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        close(fd);
        return error_set(STATUS_NO_INPUT, "give the path of a regular file", "%s: not a file", path);
    }
    size_t at = 0;
    while (at < *size) {
        ssize_t n = read(fd, bytes + at, *size - at);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            status s = error_set(errno == EISDIR ? STATUS_NO_INPUT : STATUS_IO, "check the path and the disk",
                                 "%s: %s", path, strerror(errno));
            close(fd);
            return s;
        }
        if (n == 0) break;
        at += (size_t)n;
    }
    close(fd);
    *size = at;
    return STATUS_OK;
}

status image_read_header(image_header *out, const char *path, const image_limits *limits) {
    size_t size = HEADER_BYTES;
    uint8_t *bytes = malloc(size);
    if (!bytes) return error_set(STATUS_OS, NULL, "no memory to read the header of %s", path);
    image_markers markers = {0};
    status s = load_start(bytes, &size, path);
    if (s != STATUS_OK) goto done;
    s = read_markers(&markers, bytes, size, limits);
    if (s != STATUS_OK && markers.incomplete &&
        size == HEADER_BYTES) { /* large profiles or thumbnails in front */
        free(bytes);
        bytes = NULL;
        s = load_file(&bytes, &size, path, limits);
        if (s != STATUS_OK) goto done;
        s = read_markers(&markers, bytes, size, limits);
    }
    if (s != STATUS_OK) error_prefix(s, "%s", path);
    *out = markers.header;
done:
    free(bytes);
    return s;
}

static status decode_stored(uint8_t *pixels, const image_header *header, const uint8_t *bytes, size_t size,
                            const image_limits *limits) {
    image_limits defaults = image_limits_default();
    if (header->format == IMAGE_JPEG)
        return image_jpeg_decode(pixels, header, bytes, size, limits ? limits : &defaults);
    return image_png_decode(pixels, header, bytes, size);
}

static status decode_upright(uint8_t *pixels, const image_header *header, const uint8_t *bytes, size_t size,
                             const image_limits *limits) {
    if (header->orientation == 1) return decode_stored(pixels, header, bytes, size, limits);
    size_t need = (size_t)header->stored_height * (size_t)header->stored_width * 3;
    uint8_t *stored = malloc(need);
    if (!stored) return error_set(STATUS_OS, NULL, "no memory for %zu bytes of pixels", need);
    status s = decode_stored(stored, header, bytes, size, limits);
    if (s == STATUS_OK)
        image_turn_upright(pixels, stored, header->stored_height, header->stored_width, header->orientation);
    free(stored);
    return s;
}

status image_decode_into(uint8_t *pixels, size_t capacity, int *height, int *width, const uint8_t *bytes,
                         size_t size, const image_limits *limits) {
    image_header header;
    RETURN_IF_ERROR(read_whole_header(&header, bytes, size, limits));
    size_t need = (size_t)header.height * (size_t)header.width * 3;
    if (need > capacity)
        return error_set(STATUS_DATA, "make the image smaller, or the room for one image larger",
                         "%d x %d pixels need %zu bytes, there is room for %zu", header.width, header.height,
                         need, capacity);
    *height = header.height;
    *width = header.width;
    return decode_upright(pixels, &header, bytes, size, limits);
}

status image_decode(image_buffer *out, const uint8_t *bytes, size_t size, const image_limits *limits) {
    image_header header;
    RETURN_IF_ERROR(read_whole_header(&header, bytes, size, limits));
    size_t need = (size_t)header.height * (size_t)header.width * 3;
    if (need > out->capacity) {
        image_buffer_release(out);
        out->pixels = malloc(need);
        if (!out->pixels) return error_set(STATUS_OS, NULL, "no memory for %zu bytes of pixels", need);
        out->capacity = need;
    }
    out->height = header.height;
    out->width = header.width;
    return decode_upright(out->pixels, &header, bytes, size, limits);
}

status image_read(image_buffer *out, const char *path, const image_limits *limits) {
    uint8_t *bytes;
    size_t size;
    RETURN_IF_ERROR(load_file(&bytes, &size, path, limits));
    status s = image_decode(out, bytes, size, limits);
    free(bytes);
    if (s != STATUS_OK) error_prefix(s, "%s", path);
    return s;
}
