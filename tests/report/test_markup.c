/* Escaping and base64. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "report/markup.h"
#include "report/xml_check.h"

static void expect_text(const char *text, const char *expected) {
    markup m = {0};
    markup_text(&m, text);
    assert_int_equal(markup_finish(&m), STATUS_OK);
    assert_string_equal(m.text, expected);
    assert_int_equal(m.size, strlen(expected));
    markup_release(&m);
}

static void text_is_escaped(void **state) {
    (void)state;
    expect_text("<script>alert('x')</script>", "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;");
    expect_text("\" onload=\"x", "&quot; onload=&quot;x");
    expect_text("a & b &amp; c", "a &amp; b &amp;amp; c");
    expect_text("größe 形 \xF0\x9F\x8D\x8E", "größe 形 \xF0\x9F\x8D\x8E");
    expect_text("tab\tline\n", "tab\tline\n");
}

static void broken_bytes_are_replaced(void **state) {
    (void)state;
    expect_text("a\x01\x7f\r", "a\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");
    expect_text("\xff<", "\xEF\xBF\xBD&lt;");
    expect_text("\xC3", "\xEF\xBF\xBD");
    expect_text("\xEF\xBF\xBF", "\xEF\xBF\xBD");
    expect_text("\xED\xA0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"); /* half of a surrogate pair */
}

static void base64_is_rfc_4648(void **state) {
    (void)state;
    static const char *const expected[] = {"", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"};
    for (size_t n = 1; n < 7; n++) {
        markup m = {0};
        markup_base64(&m, "foobar", n);
        assert_string_equal(m.text, expected[n]);
        markup_release(&m);
    }
    markup m = {0};
    markup_base64(&m, "\xfb\xff\xfe", 3);
    assert_string_equal(m.text, "+//+");
    markup_release(&m);
}

/* The checker that other tests rest on. */
static void checker_finds_faults(void **state) {
    (void)state;
    assert_null(xml_fault("<!DOCTYPE html>\n<a b=\"1\" c-d=\"&lt;\"><e/>text &amp; more</a><f g=\"\"/>"));
    static const char *const faulty[] = {"<a>",           "</a>",        "<a></b>",    "<a b=1/>",
                                         "<a b=\"<\"/>",  "a & b",       "a > b",      "<a b=\"1\"c=\"2\"/>",
                                         "<a b=\"1></a>", "a\x01",       "<>",         "&nbsp;",
                                         "<a b='1'/>",    "<a/ b=\"\">", "<script x>", "<a><b></a></b>"};
    for (size_t i = 0; i < sizeof faulty / sizeof *faulty; i++)
        if (!xml_fault(faulty[i])) fail_msg("passed: %s", faulty[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_escaped),
        cmocka_unit_test(broken_bytes_are_replaced),
        cmocka_unit_test(base64_is_rfc_4648),
        cmocka_unit_test(checker_finds_faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
