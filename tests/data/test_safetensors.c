/* Reader rules one by one, dtypes, and the writer's round trip. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/philox.h"
#include "data/safetensors.h"

/* A file image: length prefix, `header`, then `data` zero bytes. */
typedef struct image {
    unsigned char *bytes;
    size_t size;
} image;

static image make_image(const char *header, size_t data) {
    size_t length = strlen(header);
    image m = {.size = 8 + length + data};
    m.bytes = calloc(m.size, 1);
    assert_non_null(m.bytes);
    for (int i = 0; i < 8; i++) m.bytes[i] = (unsigned char)((uint64_t)length >> 8 * i);
    memcpy(m.bytes + 8, header, length);
    return m;
}

static status try_image(const char *header, size_t data) {
    image m = make_image(header, data);
    safetensors *f;
    status s = safetensors_open_memory(&f, "file.safetensors", m.bytes, m.size);
    assert_true((s == STATUS_OK) == (f != NULL));
    safetensors_close(f);
    free(m.bytes);
    return s;
}

#define ENTRY(name, dtype, shape, offsets)                                                                   \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static void accepts_what_the_format_allows(void **state) {
    (void)state;
    static const struct {
        const char *header;
        size_t data;
    } cases[] = {
        {"{}", 0},
        {"{}      ", 0},
        {"{" ENTRY("x", "F32", "[2]", "[0,8]") "}   \n", 8},
        {"{" ENTRY("scalar", "F32", "[]", "[0,4]") "}", 4},
        {"{" ENTRY("none", "F32", "[0,7]", "[0,0]") "}", 0},
        {"{" ENTRY("b", "U8", "[3]", "[1,4]") "," ENTRY("a", "BOOL", "[1]", "[0,1]") "}", 4},
        {"{" ENTRY("a", "F32", "[1]", "[0,4]") "," ENTRY("none", "I64", "[0]",
                                                         "[4,4]") "," ENTRY("b", "I32", "[1]", "[4,8]") "}",
         8},
        {"{\"__metadata__\":{\"format\":\"pt\",\"\\u00e9\\ud83d\\ude00\":\"\\n\"}," ENTRY(
             "x", "F8_E4M3", "[2,2]", "[0,4]") "}",
         4},
        {"{\"x\":{\"data_offsets\":[0,16],\"shape\":[2,1,1],\"dtype\":\"F64\"}}", 16},
        {"{" ENTRY("huge", "F32", "[9223372036854775807,0]", "[0,0]") "}", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (try_image(cases[i].header, cases[i].data) != STATUS_OK)
            fail_msg("%s refused: %s", cases[i].header, error_cause());
}

static void refuses_every_broken_rule(void **state) {
    (void)state;
    static const struct {
        const char *header;
        size_t data;
        const char *says[2];
    } cases[] = {
        {"", 0, {"file.safetensors", "'{'"}},
        {" {}", 0, {"'{'", ""}},
        {"[]", 0, {"'{'", ""}},
        {"{\"x\"", 0, {"not valid JSON", ""}},
        {"{}x", 0, {"not valid JSON", ""}},
        {"{},", 0, {"not valid JSON", ""}},
        {"{}  \"  ", 0, {"not valid JSON", ""}},
        {"{}  \"  }", 0, {"not valid JSON", ""}},
        {"{}\f", 0, {"control character", ""}},
        {"{\"x\":1}", 0, {"a number where none belongs", ""}},
        {"{\"x\":null}", 0, {"null", ""}},
        {"{\"x\":[]}", 0, {"a list where none belongs", ""}},
        {"{\"x\":{\"dtype\":{}}}", 0, {"tensor x:", "an object where none belongs"}},
        {"{\"x\":{\"shape\":[[1]]}}", 0, {"tensor x:", "a list where none belongs"}},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, {"tensor x:", "missing"}},
        {"{\"x\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
         4,
         {"tensor x:", "twice"}},
        {"{\"x\":{\"dtype\":\"F32\",\"order\":\"C\"}}", 0, {"tensor x:", "a field other than"}},
        {"{" ENTRY("x", "F33", "[1]", "[0,4]") "}", 4, {"tensor x:", "unknown dtype"}},
        {"{" ENTRY("x", "f32", "[1]", "[0,4]") "}", 4, {"tensor x:", "unknown dtype"}},
        {"{" ENTRY("x", "F32", "[-1]", "[0,4]") "}", 4, {"tensor x:", "non-negative integer"}},
        {"{" ENTRY("x", "F32", "[-0]", "[0,0]") "}", 0, {"tensor x:", "non-negative integer"}},
        {"{" ENTRY("x", "F32", "[1.0]", "[0,4]") "}", 4, {"tensor x:", "non-negative integer"}},
        {"{" ENTRY("x", "F32", "[1e0]", "[0,4]") "}", 4, {"tensor x:", "non-negative integer"}},
        {"{" ENTRY("x", "F32", "[\"1\"]", "[0,4]") "}", 4, {"tensor x:", "a string where none belongs"}},
        {"{" ENTRY("x", "F32", "[01]", "[0,4]") "}", 4, {"not valid JSON", ""}},
        {"{" ENTRY("x", "F32", "[9223372036854775808]", "[0,4]") "}", 4, {"tensor x:", "2^63"}},
        {"{" ENTRY("x", "F32", "[4294967296,4294967296]", "[0,0]") "}", 0, {"tensor x:", "overflows"}},
        {"{" ENTRY("x", "F32", "[4611686018427387904]", "[0,0]") "}", 0, {"tensor x:", "overflows"}},
        {"{" ENTRY("x", "F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]") "}", 4, {"tensor x:", "more than 8"}},
        {"{" ENTRY("x", "F32", "[2]", "[0,4]") "}", 4, {"tensor x:", "span"}},
        {"{" ENTRY("x", "F32", "[1]", "[4,0]") "}", 4, {"tensor x:", "before it begins"}},
        {"{" ENTRY("x", "F32", "[1]", "[0]") "}", 4, {"tensor x:", "less than two"}},
        {"{" ENTRY("x", "F32", "[1]", "[0,4,4]") "}", 4, {"tensor x:", "more than two"}},
        {"{" ENTRY("x", "F32", "[2]", "[0,8]") "}", 7, {"tensor x:", "reach behind"}},
        {"{" ENTRY("x", "U8", "[1]", "[9223372036854775806,9223372036854775807]") "}",
         8,
         {"tensor x:", "reach behind"}},
        {"{" ENTRY("x", "F32", "[1]", "[4,8]") "}", 8, {"tensor x:", "hole"}},
        {"{" ENTRY("a", "F32", "[2]", "[0,8]") "," ENTRY("x", "F32", "[1]", "[4,8]") "}",
         8,
         {"tensor x:", "overlap"}},
        {"{" ENTRY("x", "F32", "[1]", "[0,4]") "}", 8, {"cover 4 bytes", "8 bytes of data"}},
        {"{}", 1, {"cover 0 bytes", ""}},
        {"{" ENTRY("x", "U8", "[1]", "[0,1]") "," ENTRY("x", "U8", "[1]", "[1,2]") "}",
         2,
         {"tensor x:", "twice"}},
        {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, {"__metadata__", "twice"}},
        {"{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"}}", 0, {"key k", "twice"}},
        {"{\"__metadata__\":{\"k\":1}}", 0, {"a number where none belongs", ""}},
        {"{\"__metadata__\":{\"k\":{}}}", 0, {"an object where none belongs", ""}},
        {"{\"__metadata__\":\"k\"}", 0, {"a string where none belongs", ""}},
        {"{\"a\\u0000b\":{}}", 0, {"control character", ""}},
        {"{\"a\\nb\":{}}", 0, {"control character", ""}},
        {"{\"a\\ud800\":{}}", 0, {"surrogate", ""}},
        {"{\"a\\udc00\":{}}", 0, {"surrogate", ""}},
        {"{\"a\xc0\xaf\":{}}", 0, {"UTF-8", ""}},
        {"{\"a\xed\xa0\x80\":{}}", 0, {"UTF-8", ""}},
        {"{\"a\xf4\x90\x80\x80\":{}}", 0, {"UTF-8", ""}},
        {"{\"a\xe2\x82", 0, {"UTF-8", ""}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(try_image(cases[i].header, cases[i].data), STATUS_DATA);
        for (int k = 0; k < 2; k++)
            if (!strstr(error_cause(), cases[i].says[k]))
                fail_msg("%s: \"%s\" lacks \"%s\"", cases[i].header, error_cause(), cases[i].says[k]);
        assert_string_not_equal(error_remedy(), "");
    }
}

static void deep_nesting_ends_at_once(void **state) {
    (void)state;
    size_t length = 1 << 20;
    char *header = malloc(length + 1);
    assert_non_null(header);
    memcpy(header, "{\"x\":{\"shape\":", 14);
    memset(header + 14, '[', length - 14);
    header[length] = 0;
    assert_int_equal(try_image(header, 0), STATUS_DATA);
    assert_non_null(strstr(error_cause(), "a list where none belongs"));
    free(header);
}

static void foreign_files_are_recognised(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
        const char *says;
    } cases[] = {
        {"PK\3\4\24\0\0\0\0\0archive/data.pkl", 26, "zip"},
        {"\x80\2}q\1.", 6, "pickle"},
        {"\x80\4\x95\1\0\0\0\0\0\0\0}.", 13, "pickle"},
        {"\x89HDF\r\n\x1a\n", 8, "HDF5"},
        {"<!DOCTYPE html>", 15, "web page"},
        {"version https://git-lfs", 23, "LFS"},
        {"\xff\xff\xff\xff\xff\xff\xff\xff{}", 10, "16 MiB"},
        {"\x40\0\0\0\0\0\0\0{}", 10, "cut off"},
        {"\1\0\0", 3, "8 bytes"},
        {"", 0, "8 bytes"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        safetensors *f;
        assert_int_equal(safetensors_open_memory(&f, "w.pth", cases[i].bytes, cases[i].size), STATUS_DATA);
        if (!strstr(error_cause(), cases[i].says))
            fail_msg("\"%s\" lacks \"%s\"", error_cause(), cases[i].says);
        if (strstr(error_cause(), "zip") || strstr(error_cause(), "pickle"))
            assert_non_null(strstr(error_remedy(), "convert"));
    }
}

static void paths_that_are_no_files(void **state) {
    (void)state;
    safetensors *f;
    assert_int_equal(safetensors_open(&f, "no/such/file.safetensors"), STATUS_NO_INPUT);
    assert_non_null(strstr(error_cause(), "no/such/file.safetensors"));
    assert_int_equal(safetensors_open(&f, "/"), STATUS_DATA);
    assert_non_null(strstr(error_cause(), "folder"));
    assert_int_equal(safetensors_open(&f, "/dev/null"), STATUS_DATA);
    assert_non_null(strstr(error_cause(), "regular"));
}

/* Cutting a good file anywhere, or lengthening it, is seen. */
static void every_other_length_is_refused(void **state) {
    (void)state;
    image m =
        make_image("{" ENTRY("a", "F32", "[2]", "[0,8]") "," ENTRY("b", "I16", "[3]", "[8,14]") "}", 14);
    unsigned char *longer = calloc(m.size + 1, 1);
    assert_non_null(longer);
    memcpy(longer, m.bytes, m.size);
    for (size_t size = 0; size <= m.size + 1; size++) {
        /* A copy of exactly this size, so that reading on is seen by the sanitizer. */
        unsigned char *cut = malloc(size ? size : 1);
        assert_non_null(cut);
        memcpy(cut, longer, size);
        safetensors *f;
        assert_int_equal(safetensors_open_memory(&f, "cut", cut, size),
                         size == m.size ? STATUS_OK : STATUS_DATA);
        safetensors_close(f);
        free(cut);
    }
    free(longer);
    free(m.bytes);
}

/* Random changes of a good file neither crash nor give a tensor outside the file. */
static void mutants_stay_inside(void **state) {
    (void)state;
    image m = make_image("{\"__metadata__\":{\"format\":\"pt\"}," ENTRY(
                             "a", "F32", "[2,1]", "[0,8]") "," ENTRY("b", "I16", "[3]", "[8,14]") "}",
                         14);
    unsigned char *copy = malloc(m.size);
    assert_non_null(copy);
    philox_key key = {.seed = 1, .purpose = PHILOX_TEST};
    for (uint32_t trial = 0; trial < 20000; trial++) {
        key.step = trial;
        memcpy(copy, m.bytes, m.size);
        uint32_t changes = 1 + philox_below(&key, 0, 3);
        for (uint32_t c = 0; c < changes; c++)
            copy[philox_below(&key, 1 + 2 * c, (uint32_t)m.size)] =
                (unsigned char)philox_below(&key, 2 + 2 * c, 256);
        safetensors *f;
        if (safetensors_open_memory(&f, "mutant", copy, m.size) != STATUS_OK) continue;
        size_t total = 0;
        for (int64_t i = 0; i < safetensors_count(f); i++) {
            const safetensors_tensor *t = safetensors_at(f, i);
            assert_true((const unsigned char *)t->data >= copy &&
                        (const unsigned char *)t->data + t->bytes <= copy + m.size);
            assert_ptr_equal(safetensors_find(f, t->name), t);
            total += t->bytes;
        }
        assert_int_equal(total, 14);
        safetensors_close(f);
    }
    free(copy);
    free(m.bytes);
}

static void half_precision_is_exact(void **state) {
    (void)state;
    static const struct {
        uint16_t half, bfloat;
        float is, bfloat_is;
    } cases[] = {
        {0x0000, 0x0000, 0.0f, 0.0f},
        {0x8000, 0x8000, -0.0f, -0.0f},
        {0x3c00, 0x3f80, 1.0f, 1.0f},
        {0xc000, 0xc000, -2.0f, -2.0f},
        {0x3555, 0x3eab, 0.333251953125f, 0.333984375f},
        {0x7bff, 0x7f7f, 65504.0f, 3.3895313892515355e38f},
        {0x0400, 0x0080, 6.103515625e-05f, 1.1754943508222875e-38f},
        {0x03ff, 0x0001, 6.097555160522461e-05f, 9.183549615799121e-41f},
        {0x8001, 0x8001, -5.960464477539063e-08f, -9.183549615799121e-41f},
        {0x7c00, 0x7f80, INFINITY, INFINITY},
        {0xfc00, 0xff80, -INFINITY, -INFINITY},
    };
    enum { N = sizeof cases / sizeof *cases };
    /* One odd byte in front, so that the values are not aligned. */
    char header[300];
    snprintf(header, sizeof header,
             "{" ENTRY("pad", "U8", "[1]", "[0,1]") "," ENTRY("h", "F16", "[%d]", "[1,%d]") "," ENTRY(
                 "b", "BF16", "[%d]", "[%d,%d]") "," ENTRY("d", "F64", "[]", "[%d,%d]") "}",
             N, 1 + 2 * N, N, 1 + 2 * N, 1 + 4 * N, 1 + 4 * N, 9 + 4 * N);
    image m = make_image(header, 9 + 4 * N);
    unsigned char *data = m.bytes + m.size - (9 + 4 * N);
    double third = 1.0 / 3;
    for (int i = 0; i < N; i++) {
        memcpy(data + 1 + 2 * i, &cases[i].half, 2);
        memcpy(data + 1 + 2 * N + 2 * i, &cases[i].bfloat, 2);
    }
    memcpy(data + 1 + 4 * N, &third, 8);
    safetensors *f;
    assert_int_equal(safetensors_open_memory(&f, "half", m.bytes, m.size), STATUS_OK);
    float half[N], bfloat[N], one;
    assert_int_equal(safetensors_read_f32(half, f, safetensors_find(f, "h")), STATUS_OK);
    assert_int_equal(safetensors_read_f32(bfloat, f, safetensors_find(f, "b")), STATUS_OK);
    assert_int_equal(safetensors_read_f32(&one, f, safetensors_find(f, "d")), STATUS_OK);
    for (int i = 0; i < N; i++) {
        assert_memory_equal(&half[i], &cases[i].is, 4);
        assert_memory_equal(&bfloat[i], &cases[i].bfloat_is, 4);
    }
    assert_true(one == (float)third);
    assert_int_equal(safetensors_read_f32(&one, f, safetensors_find(f, "pad")), STATUS_DATA);
    assert_non_null(strstr(error_cause(), "tensor pad: dtype U8"));
    safetensors_close(f);
    free(m.bytes);
}

static char folder[] = "/tmp/test_safetensors_XXXXXX";

static int make_folder(void **state) {
    (void)state;
    return mkdtemp(folder) ? chdir(folder) : -1;
}

static int remove_folder(void **state) {
    (void)state;
    return chdir("/") == 0 ? rmdir(folder) : -1;
}

static status write_sample(const char *path, const float *values) {
    safetensors_writer *w;
    RETURN_IF_ERROR(safetensors_writer_new(&w, path));
    safetensors_writer_metadata(w, "names", "[\"caf\xc3\xa9\", \"a\\b\"]\n");
    safetensors_writer_metadata(w, "format", "pt");
    safetensors_writer_declare(w, "matrix", SAFETENSORS_F32, 2, (int64_t[]){2, 3});
    safetensors_writer_declare(w, "loss", SAFETENSORS_F32, 0, NULL);
    safetensors_writer_declare(w, "keep", SAFETENSORS_I32, 1, (int64_t[]){0});
    safetensors_writer_declare(w, "quo\"te", SAFETENSORS_U8, 1, (int64_t[]){3});
    status s = safetensors_writer_begin(w);
    if (s == STATUS_OK) s = safetensors_writer_append(w, values, 10); /* chunks do not follow the tensors */
    if (s == STATUS_OK) s = safetensors_writer_append(w, (const char *)values + 10, 18);
    if (s == STATUS_OK) s = safetensors_writer_append(w, "abc", 3);
    return safetensors_writer_finish(w, s);
}

static void what_was_written_is_read(void **state) {
    (void)state;
    float values[7] = {1, -2, 3.5f, NAN, INFINITY, -0.0f, 42};
    assert_int_equal(write_sample("a.safetensors", values), STATUS_OK);
    assert_int_not_equal(access("a.safetensors.part", F_OK), 0);
    safetensors *f;
    assert_int_equal(safetensors_open(&f, "a.safetensors"), STATUS_OK);
    assert_int_equal(safetensors_count(f), 4);
    const safetensors_tensor *t = safetensors_find(f, "matrix");
    assert_non_null(t);
    char text[SAFETENSORS_SHAPE_TEXT];
    assert_string_equal(safetensors_shape_text(text, t->shape, t->rank), "[2, 3]");
    assert_int_equal((uintptr_t)t->data % 8, 0);
    float back[6];
    assert_int_equal(safetensors_read_f32(back, f, t), STATUS_OK);
    assert_memory_equal(back, values, sizeof back);
    t = safetensors_find(f, "loss");
    assert_int_equal(t->rank, 0);
    assert_int_equal(t->elements, 1);
    assert_int_equal(safetensors_read_f32(back, f, t), STATUS_OK);
    assert_true(back[0] == 42);
    t = safetensors_find(f, "keep");
    assert_int_equal(t->dtype, SAFETENSORS_I32);
    assert_int_equal(t->elements, 0);
    assert_memory_equal(safetensors_find(f, "quo\"te")->data, "abc", 3);
    assert_null(safetensors_find(f, "matri"));
    assert_null(safetensors_find(f, "zebra"));
    assert_string_equal(safetensors_metadata(f, "format"), "pt");
    assert_string_equal(safetensors_metadata(f, "names"), "[\"caf\xc3\xa9\", \"a\\b\"]\n");
    assert_null(safetensors_metadata(f, "iteration"));
    const char *key, *value;
    assert_int_equal(safetensors_metadata_count(f), 2);
    safetensors_metadata_at(&key, &value, f, 0);
    assert_string_equal(key, "format");
    assert_string_equal(value, "pt");
    safetensors_close(f);
    unlink("a.safetensors");
}

static void failed_write_leaves_the_old_file(void **state) {
    (void)state;
    float values[7] = {1, 2, 3, 4, 5, 6, 7};
    assert_int_equal(write_sample("b.safetensors", values), STATUS_OK);
    struct rlimit old, small = {.rlim_cur = 200};
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small.rlim_max = old.rlim_max;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    values[0] = 9;
    status s = write_sample("b.safetensors", values);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, handler);
    assert_int_equal(s, STATUS_IO);
    assert_non_null(strstr(error_cause(), "b.safetensors"));
    assert_int_not_equal(access("b.safetensors.part", F_OK), 0);
    safetensors *f;
    assert_int_equal(safetensors_open(&f, "b.safetensors"), STATUS_OK);
    float first;
    memcpy(&first, safetensors_find(f, "matrix")->data, sizeof first);
    assert_true(first == 1);
    safetensors_close(f);
    unlink("b.safetensors");
    assert_int_equal(write_sample("no/such/folder.safetensors", values), STATUS_CANT_CREATE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts_what_the_format_allows),
        cmocka_unit_test(refuses_every_broken_rule),
        cmocka_unit_test(deep_nesting_ends_at_once),
        cmocka_unit_test(foreign_files_are_recognised),
        cmocka_unit_test(paths_that_are_no_files),
        cmocka_unit_test(every_other_length_is_refused),
        cmocka_unit_test(mutants_stay_inside),
        cmocka_unit_test(half_precision_is_exact),
        cmocka_unit_test(what_was_written_is_read),
        cmocka_unit_test(failed_write_leaves_the_old_file),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
