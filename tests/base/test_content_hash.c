#include "base/content_hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static void test_hash_vectors(void **state) {
    (void)state;
    assert_true(content_hash_of("", 0) == 0xEF46DB3751D8E999u);
    assert_true(content_hash_of("abc", 3) == 0x44BC2CF5AD770999u);
    char text[1000];
    for (size_t i = 0; i < sizeof text; i++) text[i] = (char)(i * 7 + i / 13);
    uint64_t whole = content_hash_of(text, sizeof text);
    for (size_t step = 1; step < 70; step++) { /* any cutting gives the same digest */
        content_hash h;
        content_hash_init(&h);
        for (size_t at = 0; at < sizeof text; at += step)
            content_hash_update(&h, text + at, sizeof text - at < step ? sizeof text - at : step);
        assert_true(content_hash_digest(&h) == whole);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_hash_vectors)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
