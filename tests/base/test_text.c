#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static void utf8_is_told_from_other_bytes(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t length;
    } rows[] = {{"a", 1},
                {"\xC3\xA9", 2},
                {"\xE2\x82\xAC", 3},
                {"\xF0\x9F\x98\x80", 4},
                {"\x80", 0},
                {"\xC0\x80", 0},
                {"\xC1\xBF", 0},
                {"\xC3", 0},
                {"\xC3(", 0},
                {"\xE0\x9F\xBF", 0},
                {"\xE0\xA0\x80", 3},
                {"\xED\x9F\xBF", 3},
                {"\xED\xA0\x80", 0},
                {"\xE2\x82", 0},
                {"\xF0\x8F\xBF\xBF", 0},
                {"\xF0\x90\x80\x80", 4},
                {"\xF4\x8F\xBF\xBF", 4},
                {"\xF4\x90\x80\x80", 0},
                {"\xF5\x80\x80\x80", 0},
                {"\xFF", 0}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(text_utf8_length(rows[i].bytes, SIZE_MAX), rows[i].length);
    assert_int_equal(text_utf8_length("\xC3\xA9", 1), 0); /* cut off */
    assert_int_equal(text_utf8_length("a", 0), 0);
    assert_true(text_is_utf8(""));
    assert_true(text_is_utf8("na\xC3\xAFve"));
    assert_false(text_is_utf8("na\xEFve"));
}

static void choices_are_whole_words(void **state) {
    (void)state;
    assert_true(text_is_choice("cpu|cuda", "cpu"));
    assert_true(text_is_choice("cpu|cuda", "cuda"));
    assert_false(text_is_choice("cpu|cuda", "cud"));
    assert_false(text_is_choice("cpu|cuda", "cpu|cuda"));
    assert_false(text_is_choice("cpu|cuda", ""));
    assert_true(text_is_choice("|GN", ""));
    assert_true(text_is_choice("|GN", "GN"));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(utf8_is_told_from_other_bytes),
                                       cmocka_unit_test(choices_are_whole_words)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
