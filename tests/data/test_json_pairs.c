/* Paths, numbers, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "data/json_pairs.h"

static status parse(json_pairs *pairs, const char *text) {
    return json_pairs_parse(pairs, "document", text, strlen(text));
}

static void paths_name_every_value(void **state) {
    (void)state;
    json_pairs p;
    assert_int_equal(parse(&p, "{\"a\": {\"b\": [7, \"x\", [true, null]], \"c.d\": -1.5e3}, \"e\": [], "
                               "\"f\": {\"\": \"\"}, \"g\": 9007199254740993}"),
                     STATUS_OK);
    assert_int_equal(p.count, 7);
    assert_string_equal(json_pairs_get(&p, "a/b/0"), "7");
    assert_string_equal(json_pairs_get(&p, "a/b/1"), "x");
    assert_string_equal(json_pairs_get(&p, "a/b/2/0"), "true");
    assert_string_equal(json_pairs_get(&p, "a/b/2/1"), "null");
    assert_string_equal(json_pairs_get(&p, "f/"), "");
    assert_null(json_pairs_get(&p, "a/b"));
    int64_t whole;
    double real;
    assert_true(json_pairs_i64(&whole, &p, "g"));
    assert_true(whole == INT64_C(9007199254740993));
    assert_false(json_pairs_i64(&whole, &p, "a/c.d"));
    assert_false(json_pairs_i64(&whole, &p, "f/"));
    assert_false(json_pairs_i64(&whole, &p, "absent"));
    assert_true(json_pairs_f64(&real, &p, "a/c.d"));
    assert_true(real == -1500);
    assert_false(json_pairs_f64(&real, &p, "a/b/1"));
    json_pairs_release(&p);
    assert_int_equal(parse(&p, "[1, 2]"), STATUS_OK);
    assert_string_equal(json_pairs_get(&p, "1"), "2");
    json_pairs_release(&p);
}

static void broken_documents_are_refused(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"{\"a\": 1", "not valid JSON"},
        {"{\"a\": 1, \"a\": 2}", "a stands there twice"},
        {"{\"a\": {\"b\": 1}, \"a\": {\"b\": 1}}", "a/b stands there twice"},
        {"[[[[[[[[[1]]]]]]]]]", "nested too deep"},
        {"{\"a\\u0000b\": 1}", "zero byte"},
        {"{\"a\": \"\\u0000\"}", "zero byte"},
        {"", "not valid JSON"},
        {"{} {}", "not valid JSON"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_pairs p;
        if (parse(&p, cases[i][0]) != STATUS_DATA) fail_msg("%s accepted", cases[i][0]);
        if (!strstr(error_cause(), cases[i][1])) fail_msg("\"%s\" lacks \"%s\"", error_cause(), cases[i][1]);
        json_pairs_release(&p);
    }
    /* A path of more than 500 characters. */
    char *text = malloc(700);
    assert_non_null(text);
    memset(text, 'n', 700);
    memcpy(text, "{\"", 2);
    memcpy(text + 694, "\": 1}", 6);
    json_pairs p;
    assert_int_equal(parse(&p, text), STATUS_DATA);
    assert_non_null(strstr(error_cause(), "too long"));
    json_pairs_release(&p);
    free(text);
}

/* Sums the numbers "n" of the lines; refuses a line with "stop". */
static status add_number(void *context, const json_pairs *line) {
    int64_t n;
    if (json_pairs_get(line, "stop")) return error_set(STATUS_IO, "", "stopped");
    if (json_pairs_i64(&n, line, "n")) *(int64_t *)context += n;
    return STATUS_OK;
}

static void lines_are_read_one_by_one(void **state) {
    (void)state;
    static const char lines[] =
        "{\"n\": 1}\n\n{\"n\": 10, \"n\": 5}\n{\"n\": 100}\n{\"n\": \n7\n{\"n\": 1000}";
    int64_t sum = 0, unread = -1;
    assert_int_equal(json_pairs_parse_lines(&unread, add_number, &sum, lines, sizeof lines - 1), STATUS_OK);
    assert_int_equal(sum, 1101);
    assert_int_equal(unread, 2);
    assert_string_equal(error_cause(), "");
    static const char stopping[] = "{\"n\": 1}\n{\"stop\": 1}\n{\"n\": 1}\n";
    assert_int_equal(json_pairs_parse_lines(&unread, add_number, &sum, stopping, sizeof stopping - 1),
                     STATUS_IO);
    assert_int_equal(sum, 1102);
    assert_int_equal(json_pairs_parse_lines(&unread, add_number, &sum, "", 0), STATUS_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_name_every_value),
        cmocka_unit_test(broken_documents_are_refused),
        cmocka_unit_test(lines_are_read_one_by_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
