#include "base/crc32c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

/* Values of RFC 3720, appendix B.4, and the common check value. */
static void known_values(void **state) {
    (void)state;
    unsigned char bytes[32];
    assert_int_equal(crc32c(0, "123456789", 9), 0xE3069283u);
    assert_int_equal(crc32c(0, "", 0), 0);
    memset(bytes, 0, 32);
    assert_int_equal(crc32c(0, bytes, 32), 0x8A9136AAu);
    memset(bytes, 0xFF, 32);
    assert_int_equal(crc32c(0, bytes, 32), 0x62A8AB43u);
    for (int i = 0; i < 32; i++) bytes[i] = (unsigned char)i;
    assert_int_equal(crc32c(0, bytes, 32), 0x46DD794Eu);
}

static void pieces_give_what_the_whole_gives(void **state) {
    (void)state;
    unsigned char bytes[67];
    for (int i = 0; i < 67; i++) bytes[i] = (unsigned char)(i * 37 + 11);
    uint32_t whole = crc32c(0, bytes, sizeof bytes);
    for (size_t cut = 0; cut <= sizeof bytes; cut++)
        assert_int_equal(crc32c(crc32c(0, bytes, cut), bytes + cut, sizeof bytes - cut), whole);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(known_values),
                                       cmocka_unit_test(pieces_give_what_the_whole_gives)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
