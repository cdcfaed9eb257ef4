/* Pictures of every kind, good and broken: real files where the shared data are there, and files made here. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <cmocka.h>
#include <png.h>
#include <zlib.h>
#include "base/file_util.h"
#include "data/image_codec.h"
#include "data/image_read.h"
#include "data/shared_data.h"

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* --- real JPEGs ---------------------------------------------------------------------------------------------- */

/* Mean absolute difference over all samples; -1 where the sizes differ. */
static double mean_difference(const image_buffer *a, const image_buffer *b) {
    if (a->height != b->height || a->width != b->width) return -1;
    size_t n = (size_t)a->height * (size_t)a->width * 3;
    int64_t sum = 0;
    for (size_t i = 0; i < n; i++) sum += abs(a->pixels[i] - b->pixels[i]);
    return (double)sum / (double)n;
}

typedef struct comparison {
    int compared, differing;
} comparison;

/* Files the collection itself leaves out of its comparison: other chroma upsampling, another CMYK conversion. */
static bool loosely_compared(const char *path) {
    static const char *const names[] = {"/ycck.jpg", "/jpg-size-3x3.jpg", "/jpg-size-4x4.jpg",
                                        "/jpg-size-6x6.jpg"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (has_suffix(path, names[i])) return true;
    return false;
}

static void compare_with_png(const char *path, void *context) {
    comparison *c = context;
    char reference[PATH_MAX];
    make_path(reference, "%.*s.png", (int)(strlen(path) - 4), path);
    image_buffer jpeg = {0}, png = {0};
    status s = image_read(&jpeg, path, NULL);
    if (s != STATUS_OK) fail_msg("%s", error_cause());
    if (access(reference, R_OK) == 0) {
        if (image_read(&png, reference, NULL) != STATUS_OK) fail_msg("%s", error_cause());
        double difference = mean_difference(&jpeg, &png);
        double allowed = loosely_compared(path) ? 8.0 : 1.5;
        c->compared++;
        if (!(difference >= 0 && difference <= allowed)) {
            print_error("%s: mean difference %.3f from its reference\n", path, difference);
            c->differing++;
        }
    }
    image_header header;
    assert_int_equal(image_read_header(&header, path, NULL), STATUS_OK);
    assert_int_equal(header.height, jpeg.height);
    assert_int_equal(header.width, jpeg.width);
    image_buffer_release(&jpeg);
    image_buffer_release(&png);
}

static void jpegs_equal_their_references(void **state) {
    (void)state;
    char folder[PATH_MAX], sub[PATH_MAX];
    if (!shared_folder(folder, "jpeg_cases")) skip();
    comparison c = {0};
    static const char *const subs[] = {"decode", "decode/mozilla", "decode/tower"};
    for (int i = 0; i < 3; i++) {
        make_path(sub, "%s/%s", folder, subs[i]);
        assert_true(for_each_file(sub, ".jpg", compare_with_png, &c) > 0);
    }
    assert_true(c.compared >= 35);
    assert_int_equal(c.differing, 0);
}

static void must_decode(const char *path, void *context) {
    (void)context;
    image_buffer image = {0};
    if (image_read(&image, path, NULL) != STATUS_OK) fail_msg("%s", error_cause());
    image_buffer_release(&image);
}

static void must_end(const char *path, void *context) {
    int *refused = context;
    image_buffer image = {0};
    double start = seconds();
    status s = image_read(&image, path, NULL);
    assert_true(seconds() - start < 5);
    if (s != STATUS_OK) {
        assert_int_equal(s, STATUS_DATA);
        assert_non_null(strstr(error_cause(), path));
        assert_true(strlen(error_remedy()) > 0);
        (*refused)++;
    }
    image_buffer_release(&image);
}

static void odd_jpegs_decode_or_are_refused(void **state) {
    (void)state;
    char folder[PATH_MAX], path[PATH_MAX];
    if (!shared_folder(folder, "jpeg_cases")) skip();
    make_path(path, "%s/icc", folder);
    assert_int_equal(for_each_file(path, ".jpeg", must_decode, NULL), 5);
    int refused = 0;
    make_path(path, "%s/malformed", folder);
    assert_int_equal(for_each_file(path, ".jpg", must_end, &refused), 13);
    assert_true(refused >= 9);
    refused = 0;
    make_path(path, "%s/unsupported", folder);
    assert_int_equal(for_each_file(path, ".jpg", must_end, &refused), 2);
    assert_int_equal(refused, 2);
    image_buffer image = {0};
    make_path(path, "%s/unsupported/MR4.jpg", folder);
    assert_int_equal(image_read(&image, path, NULL), STATUS_DATA);
    assert_non_null(strstr(error_cause(), "lossless"));
    make_path(path, "%s/libjpeg-turbo/monkey12.jpg", folder);
    assert_int_equal(image_read(&image, path, NULL), STATUS_DATA);
    assert_non_null(strstr(error_cause(), "12 bits"));
}

static void same_picture_in_three_codings(void **state) {
    (void)state;
    char folder[PATH_MAX], path[PATH_MAX];
    if (!shared_folder(folder, "jpeg_cases")) skip();
    image_buffer reference = {.height = 149, .width = 227}, image = {0};
    make_path(path, "%s/libjpeg-turbo/testorig.ppm", folder);
    char *ppm;
    size_t size;
    assert_int_equal(read_file(&ppm, &size, path, 1 << 20), STATUS_OK);
    assert_memory_equal(ppm, "P6\n227 149\n255\n", 15);
    assert_int_equal(size, 15 + 227 * 149 * 3);
    reference.pixels = (uint8_t *)ppm + 15;
    static const char *const names[] = {"testorig", "testimgint", "testimgari"};
    for (int i = 0; i < 3; i++) {
        make_path(path, "%s/libjpeg-turbo/%s.jpg", folder, names[i]);
        status s = image_read(&image, path, NULL);
        if (i == 2 && s == STATUS_DATA) { /* a libjpeg may be built without arithmetic decoding */
            assert_non_null(strstr(error_cause(), "arithmetic"));
            continue;
        }
        assert_int_equal(s, STATUS_OK);
        double difference = mean_difference(&image, &reference);
        if (!(difference >= 0 && difference < 0.5)) fail_msg("%s: differs by %g", path, difference);
    }
    free(ppm);
    image_buffer_release(&image);
}

/* All nine files show one photo; only a caption and the noise of coding differ. */
static void exif_orientations_give_one_picture(void **state) {
    (void)state;
    char folder[PATH_MAX], path[PATH_MAX];
    if (!shared_folder(folder, "exif_orientation")) skip();
    image_buffer first = {0}, image = {0};
    for (int i = 0; i <= 8; i++) {
        make_path(path, "%s/Landscape_%d.jpg", folder, i);
        image_header header;
        assert_int_equal(image_read_header(&header, path, NULL), STATUS_OK);
        assert_int_equal(header.orientation, i == 0 ? 1 : i);
        assert_int_equal(header.stored_height, i >= 5 ? 1800 : 1200);
        assert_int_equal(image_read(i ? &image : &first, path, NULL), STATUS_OK);
        const image_buffer *read = i ? &image : &first;
        assert_int_equal(read->height, 1200);
        assert_int_equal(read->width, 1800);
        double difference = mean_difference(&first, read);
        if (!(difference < 6)) fail_msg("%s: differs by %g", path, difference);
    }
    image_buffer_release(&first);
    image_buffer_release(&image);
}

/* --- PngSuite ------------------------------------------------------------------------------------------------ */

/* The list's own rule, with libpng: 8 bits, palette to RGB(A), gray kept, alpha kept. */
static uint8_t *read_keeping_alpha(const char *path, int *height, int *width, int *channels) {
    FILE *file = fopen(path, "rb");
    png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    if (setjmp(png_jmpbuf(png))) fail_msg("libpng cannot read %s", path);
    png_init_io(png, file);
    png_read_png(png, info, PNG_TRANSFORM_EXPAND | PNG_TRANSFORM_STRIP_16, NULL);
    *height = (int)png_get_image_height(png, info);
    *width = (int)png_get_image_width(png, info);
    *channels = png_get_channels(png, info);
    size_t row_bytes = (size_t)*width * (size_t)*channels;
    uint8_t *pixels = malloc(row_bytes * (size_t)*height);
    png_bytepp rows = png_get_rows(png, info);
    for (int y = 0; y < *height; y++) memcpy(pixels + (size_t)y * row_bytes, rows[y], row_bytes);
    png_destroy_read_struct(&png, &info, NULL);
    fclose(file);
    return pixels;
}

/* The independent reading above is proven by the list's checksum; our colours must be its colours. */
static void check_against_list(const char *path, uLong crc) {
    int height, width, channels;
    uint8_t *expected = read_keeping_alpha(path, &height, &width, &channels);
    size_t pixels = (size_t)height * (size_t)width;
    if (crc32(0, expected, (uInt)(pixels * (size_t)channels)) != crc)
        fail_msg("%s: the test's reading is wrong", path);
    image_buffer image = {0};
    if (image_read(&image, path, NULL) != STATUS_OK) fail_msg("%s", error_cause());
    assert_int_equal(image.height, height);
    assert_int_equal(image.width, width);
    for (size_t i = 0; i < pixels; i++)
        for (int c = 0; c < 3; c++) {
            int want = expected[i * (size_t)channels + (size_t)(channels >= 3 ? c : 0)];
            if (image.pixels[i * 3 + (size_t)c] != want)
                fail_msg("%s: pixel %zu channel %d differs", path, i, c);
        }
    image_buffer_release(&image);
    free(expected);
}

static void every_png_of_pngsuite(void **state) {
    (void)state;
    char folder[PATH_MAX], path[PATH_MAX], line[256], name[200], value[32];
    if (!shared_folder(folder, "pngsuite")) skip();
    make_path(path, "%s/crc32_8bit.txt", folder);
    FILE *list = fopen(path, "r");
    assert_non_null(list);
    int good = 0, broken = 0;
    while (fgets(line, sizeof line, list)) {
        if (sscanf(line, "%199[^:]: %31s", name, value) != 2) fail_msg("unexpected line %s", line);
        make_path(path, "%s/%s", folder, name);
        if (strcmp(value, "Expected") == 0) {
            image_buffer image = {0};
            if (image_read(&image, path, NULL) != STATUS_DATA) fail_msg("%s is broken but was read", path);
            assert_non_null(strstr(error_cause(), name));
            image_buffer_release(&image);
            broken++;
        } else {
            check_against_list(path, strtoul(value, NULL, 10));
            good++;
        }
    }
    fclose(list);
    assert_int_equal(good, 161);
    assert_int_equal(broken, 14);
}

/* --- made here ----------------------------------------------------------------------------------------------- */

static void put32(uint8_t *p, uint32_t v) {
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(v >> (24 - 8 * i));
}

static size_t add_chunk(uint8_t *png, size_t at, const char *type, const uint8_t *data, uint32_t length) {
    put32(png + at, length);
    memcpy(png + at + 4, type, 4);
    if (length) memcpy(png + at + 8, data, length);
    put32(png + at + 8 + length, (uint32_t)crc32(0, png + at + 4, length + 4));
    return at + 12 + length;
}

static size_t start_png(uint8_t *png, uint32_t width, uint32_t height, uint8_t depth, uint8_t colour_type) {
    memcpy(png, "\x89PNG\r\n\x1a\n", 8);
    uint8_t ihdr[13] = {[8] = depth, [9] = colour_type};
    put32(ihdr, width);
    put32(ihdr + 4, height);
    return add_chunk(png, 8, "IHDR", ihdr, 13);
}

/* 3x2 RGB with the bytes 10, 20, 30... */
static size_t make_small_png(uint8_t *png, const uint8_t *exif, uint32_t exif_bytes) {
    size_t at = start_png(png, 3, 2, 8, 2);
    if (exif) at = add_chunk(png, at, "eXIf", exif, exif_bytes);
    uint8_t raw[20], packed[64];
    uLongf packed_bytes = sizeof packed;
    for (int y = 0, v = 0; y < 2; y++) {
        raw[y * 10] = 0;
        for (int i = 1; i < 10; i++) raw[y * 10 + i] = (uint8_t)(10 * ++v);
    }
    assert_int_equal(compress(packed, &packed_bytes, raw, sizeof raw), Z_OK);
    at = add_chunk(png, at, "IDAT", packed, (uint32_t)packed_bytes);
    return add_chunk(png, at, "IEND", NULL, 0);
}

static void refused_quickly(const uint8_t *bytes, size_t size, const char *because) {
    image_buffer image = {0};
    double start = seconds();
    assert_int_equal(image_decode(&image, bytes, size, NULL), STATUS_DATA);
    assert_true(seconds() - start < 0.1);
    assert_null(image.pixels);
    if (!strstr(error_cause(), because)) fail_msg("'%s' does not say '%s'", error_cause(), because);
}

static void bombs_are_refused_before_memory_is_asked_for(void **state) {
    (void)state;
    uint8_t png[256];
    uint8_t nothing[] = {0x78, 0x9c, 3, 0, 0, 0, 0, 1};
    size_t at = start_png(png, 60000, 60000, 8, 2);
    at = add_chunk(png, at, "IDAT", nothing, sizeof nothing);
    refused_quickly(png, at, "limit of 178956970");
    at = start_png(png, 13000, 13000, 1, 0);
    at = add_chunk(png, at, "IDAT", nothing, sizeof nothing);
    refused_quickly(png, at, "cannot hold 13000 x 13000");
    at = start_png(png, 0, 5, 8, 2);
    refused_quickly(png, at, "0 x 5");
    at = start_png(png, 0xffffffff, 0xffffffff, 16, 6);
    refused_quickly(png, at, "4294967295");

    uint8_t jpeg[] = {0xff, 0xd8, 0xff, 0xc2, 0, 17,   8,    0xff, 0xdc, 0xff, 0xdc, 3,  1,
                      0x22, 0,    2,    0x11, 1, 3,    0x11, 1,    0xff, 0xda, 0,    12, 3,
                      1,    0,    2,    0x11, 3, 0x11, 0,    63,   0,    0xff, 0xd9};
    refused_quickly(jpeg, sizeof jpeg, "limit of 178956970");
    jpeg[7] = jpeg[9] = 50; /* 13020 x 13020 */
    refused_quickly(jpeg, sizeof jpeg, "cannot hold");
    image_header header;
    assert_int_equal(image_decode_header(&header, jpeg, sizeof jpeg, NULL), STATUS_OK);
    assert_int_equal(header.height, 13020);
    image_limits few = {.max_pixels = 1000, .max_jpeg_scans = 1, .max_file_bytes = 1000};
    assert_int_equal(image_decode_header(&header, jpeg, sizeof jpeg, &few), STATUS_DATA);
}

static void read_seed(uint8_t **bytes, size_t *size, const char *name) {
    char path[PATH_MAX], *text;
    make_path(path, "%s/tests/fuzz/seeds/jpeg/%s", TEST_SOURCE_DIR, name);
    assert_int_equal(read_file(&text, size, path, 1 << 20), STATUS_OK);
    *bytes = (uint8_t *)text;
}

static void scans_of_a_jpeg_are_limited(void **state) {
    (void)state;
    uint8_t *bytes;
    size_t size;
    image_buffer image = {0};
    image_limits limits = image_limits_default();
    read_seed(&bytes, &size, "progressive"); /* ten scans */
    limits.max_jpeg_scans = 10;
    assert_int_equal(image_decode(&image, bytes, size, &limits), STATUS_OK);
    limits.max_jpeg_scans = 9;
    assert_int_equal(image_decode(&image, bytes, size, &limits), STATUS_DATA);
    assert_non_null(strstr(error_cause(), "more than the limit of 9 scans"));
    free(bytes);
    image_buffer_release(&image);
}

/* 140 KB of application segments in front of orientation and size. */
static void headers_may_be_long(void **state) {
    (void)state;
    uint8_t *bytes;
    size_t size;
    char path[] = "/tmp/test_image_read_XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    read_seed(&bytes, &size, "exif_6");
    static uint8_t segment[70000] = {0xff, 0xef, 0xff, 0xff};
    assert_int_equal(write_all(fd, bytes, 2, path), STATUS_OK);
    for (int i = 0; i < 2; i++) assert_int_equal(write_all(fd, segment, 2 + 65535, path), STATUS_OK);
    assert_int_equal(write_all(fd, bytes + 2, size - 2, path), STATUS_OK);
    image_header header;
    assert_int_equal(image_read_header(&header, path, NULL), STATUS_OK);
    assert_int_equal(header.orientation, 6);
    assert_int_equal(header.height, 26);
    assert_int_equal(header.width, 18);
    image_buffer image = {0};
    assert_int_equal(image_read(&image, path, NULL), STATUS_OK);
    assert_int_equal(image.height, 26);
    image_limits limits = image_limits_default();
    limits.max_file_bytes = 100000;
    assert_int_equal(image_read(&image, path, &limits), STATUS_DATA);
    close(fd);
    unlink(path);
    free(bytes);
    image_buffer_release(&image);
}

static void other_formats_are_named(void **state) {
    (void)state;
    image_buffer image = {0};
    static const struct {
        const char *bytes, *name;
        size_t size;
    } cases[] = {{"", "empty", 0},
                 {"GIF89a.....", "GIF", 10},
                 {"RIFF....WEBP", "WebP", 12},
                 {"<html>", "web page", 6},
                 {"\0\0\0\x20"
                  "ftypheic",
                  "HEIF", 12},
                 {"hello", "68 65", 5},
                 {"version https://git-lfs.github.com/spec/v1", "Git LFS", 40}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(image_decode(&image, (const uint8_t *)cases[i].bytes, cases[i].size, NULL),
                         STATUS_DATA);
        if (!strstr(error_cause(), cases[i].name)) fail_msg("'%s' lacks '%s'", error_cause(), cases[i].name);
    }
    assert_int_equal(image_read(&image, "/no/such/picture.jpg", NULL), STATUS_NO_INPUT);
    assert_non_null(strstr(error_cause(), "/no/such/picture.jpg"));
    image_header header;
    assert_int_equal(image_read_header(&header, "/no/such/picture.jpg", NULL), STATUS_NO_INPUT);
    assert_int_equal(image_read_header(&header, "/", NULL), STATUS_NO_INPUT);
}

static void every_cut_and_every_flipped_byte_of_a_png(void **state) {
    (void)state;
    uint8_t png[256], damaged[256];
    size_t size = make_small_png(png, NULL, 0);
    image_buffer image = {0};
    assert_int_equal(image_decode(&image, png, size, NULL), STATUS_OK);
    for (int i = 0; i < 18; i++) assert_int_equal(image.pixels[i], 10 * (i + 1));
    for (size_t cut = 0; cut < size; cut++)
        assert_int_equal(image_decode(&image, png, cut, NULL), STATUS_DATA);
    for (size_t i = 0; i < size; i++) { /* every byte is under the signature, a length or a checksum */
        memcpy(damaged, png, size);
        damaged[i] ^= 0x10;
        assert_int_equal(image_decode(&image, damaged, size, NULL), STATUS_DATA);
    }
    image_buffer_release(&image);
}

static size_t make_exif(uint8_t *tiff, bool big, int orientation) {
    static const uint8_t little_endian[] = {'I', 'I', 42, 0, 8, 0, 0, 0, 1, 0, 0x12,
                                            1,   3,   0,  1, 0, 0, 0, 0, 0, 0, 0};
    static const uint8_t big_endian[] = {'M',  'M', 0, 42, 0, 0, 0, 8, 0, 1, 1,
                                         0x12, 0,   3, 0,  0, 0, 1, 0, 0, 0, 0};
    memcpy(tiff, big ? big_endian : little_endian, sizeof big_endian);
    tiff[big ? 19 : 18] = (uint8_t)orientation;
    return sizeof big_endian;
}

/* Stored picture of 3x2: a b c / d e f, and what each orientation shows of it. */
static void orientations_turn_pixels(void **state) {
    (void)state;
    static const char *const upright[9] = {"",       "abcdef", "cbafed", "fedcba", "defabc",
                                           "adbecf", "daebfc", "fcebda", "cfbead"};
    uint8_t stored[18], turned[18], tiff[32];
    for (int i = 0; i < 18; i++) stored[i] = (uint8_t)("abcdef"[i / 3] + i % 3 * 10);
    for (int orientation = 1; orientation <= 8; orientation++) {
        image_turn_upright(turned, stored, 2, 3, orientation);
        for (int i = 0; i < 18; i++) assert_int_equal(turned[i], upright[orientation][i / 3] + i % 3 * 10);
        for (int big = 0; big < 2; big++) {
            size_t size = make_exif(tiff, big, orientation);
            assert_int_equal(image_exif_orientation(tiff, size), orientation);
            for (size_t cut = 0; cut < size; cut++) assert_int_equal(image_exif_orientation(tiff, cut), 1);
        }
    }
    size_t size = make_exif(tiff, false, 9);
    assert_int_equal(image_exif_orientation(tiff, size), 1);
    make_exif(tiff, false, 6);
    tiff[7] = 0xff; /* directory far outside */
    assert_int_equal(image_exif_orientation(tiff, size), 1);

    uint8_t png[256];
    make_exif(tiff, true, 6);
    size = make_small_png(png, tiff, 22);
    image_buffer image = {0};
    assert_int_equal(image_decode(&image, png, size, NULL), STATUS_OK);
    assert_int_equal(image.height, 3);
    assert_int_equal(image.width, 2);
    assert_int_equal(image.pixels[0], 100); /* bottom left comes to the top left */
    image_buffer_release(&image);
}

static void decodes_into_memory_of_the_caller(void **state) {
    (void)state;
    uint8_t png[256], pixels[19];
    size_t size = make_small_png(png, NULL, 0);
    int height = 0, width = 0;
    memset(pixels, 0xee, sizeof pixels);
    assert_int_equal(image_decode_into(pixels, 17, &height, &width, png, size, NULL), STATUS_DATA);
    assert_int_equal(pixels[0], 0xee);
    assert_int_equal(image_decode_into(pixels, 18, &height, &width, png, size, NULL), STATUS_OK);
    assert_int_equal(height * 10 + width, 23);
    assert_int_equal(pixels[17], 180);
    assert_int_equal(pixels[18], 0xee);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(jpegs_equal_their_references),
        cmocka_unit_test(odd_jpegs_decode_or_are_refused),
        cmocka_unit_test(same_picture_in_three_codings),
        cmocka_unit_test(exif_orientations_give_one_picture),
        cmocka_unit_test(every_png_of_pngsuite),
        cmocka_unit_test(bombs_are_refused_before_memory_is_asked_for),
        cmocka_unit_test(scans_of_a_jpeg_are_limited),
        cmocka_unit_test(headers_may_be_long),
        cmocka_unit_test(other_formats_are_named),
        cmocka_unit_test(every_cut_and_every_flipped_byte_of_a_png),
        cmocka_unit_test(orientations_turn_pixels),
        cmocka_unit_test(decodes_into_memory_of_the_caller),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
