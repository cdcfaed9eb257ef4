#include "base/json_write.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void nested_values_have_their_separators(void **state) {
    (void)state;
    json_writer w;
    json_write_init(&w);
    json_write_begin_object(&w);
    json_write_key(&w, "a"), json_write_i64(&w, -7);
    json_write_key(&w, "b"), json_write_begin_array(&w);
    json_write_bool(&w, true), json_write_null(&w), json_write_begin_array(&w), json_write_end_array(&w);
    json_write_begin_object(&w), json_write_end_object(&w);
    json_write_end_array(&w);
    json_write_key(&w, "c"), json_write_string(&w, "x");
    json_write_end_object(&w);
    json_write_newline(&w);
    assert_int_equal(json_write_finish(&w), STATUS_OK);
    assert_string_equal(w.text, "{\"a\": -7, \"b\": [true, null, [], {}], \"c\": \"x\"}\n");
    json_write_release(&w);
}

static void check_string(const char *text, const char *expected) {
    json_writer w;
    json_write_init(&w);
    json_write_string(&w, text);
    assert_string_equal(w.text, expected);
    json_write_release(&w);
}

static void strings_are_escaped(void **state) {
    (void)state;
    check_string("a\"b\\c/d", "\"a\\\"b\\\\c/d\"");
    check_string("\n\t\r\x01\x1f", "\"\\n\\t\\r\\u0001\\u001f\"");
    check_string("gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80",
                 "\"gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80\"");
    check_string("\x80z\xc3", "\"\\ufffdz\\ufffd\"");
    check_string("\xc0\x80|\xed\xa0\x80|\xf5", "\"\\ufffd\\ufffd|\\ufffd\\ufffd\\ufffd|\\ufffd\"");
    check_string("", "\"\"");
}

static void check_f64(double value, const char *expected) {
    char text[32];
    json_format_f64(text, value);
    assert_string_equal(text, expected);
}

static void numbers_are_shortest_that_read_back(void **state) {
    (void)state;
    check_f64(0.1, "0.1");
    check_f64(0.1 + 0.2, "0.30000000000000004");
    check_f64(20, "20");
    check_f64(1e-7, "1e-07");
    check_f64(NAN, "null");
    check_f64(-INFINITY, "null");
    char text[32];
    json_format_f32(text, 0.1f);
    assert_string_equal(text, "0.1");
    json_format_f32(text, 16777217.0f / 3.0f);
    assert_true(strtof(text, NULL) == 16777217.0f / 3.0f);
    double value = 1.0 / 3.0;
    for (int i = 0; i < 2000; i++) {
        value = fmod(value * 1.37e3 + 0.123456789, 1e9) * (i % 2 ? -1e-5 : 1.0);
        json_format_f64(text, value);
        assert_true(strtod(text, NULL) == value);
    }
}

static void text_goes_to_a_file_in_pieces(void **state) {
    (void)state;
    char *stored = NULL;
    size_t stored_size = 0;
    FILE *file = open_memstream(&stored, &stored_size);
    json_writer w;
    json_write_init(&w);
    json_write_begin_array(&w);
    for (int i = 0; i < 500; i++) {
        json_write_i64(&w, i % 10);
        if (i % 100 == 0) assert_int_equal(json_write_flush(&w, file), STATUS_OK);
    }
    json_write_end_array(&w);
    assert_int_equal(json_write_finish(&w), STATUS_OK);
    assert_int_equal(json_write_flush(&w, file), STATUS_OK);
    fclose(file);
    assert_int_equal(stored_size, 500 * 3);
    assert_memory_equal(stored, "[0, 1, 2, 3, 4", 14);
    assert_string_equal(stored + stored_size - 5, "8, 9]");
    json_write_release(&w);
    free(stored);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nested_values_have_their_separators),
        cmocka_unit_test(strings_are_escaped),
        cmocka_unit_test(numbers_are_shortest_that_read_back),
        cmocka_unit_test(text_goes_to_a_file_in_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
