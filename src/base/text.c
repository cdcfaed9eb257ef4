#include "base/text.h"

#include <stdint.h>
#include <string.h>

size_t text_utf8_length(const char *s, size_t left) {
    const unsigned char *p = (const unsigned char *)s;
    if (left == 0) return 0;
    if (p[0] < 0x80) return 1;
    size_t length = p[0] >= 0xC2 && p[0] < 0xE0   ? 2
                    : p[0] >= 0xE0 && p[0] < 0xF0 ? 3
                    : p[0] >= 0xF0 && p[0] < 0xF5 ? 4
                                                  : 0;
    if (length == 0 || left < length) return 0;
    /* The second byte is what tells overlong forms, surrogates and numbers above U+10FFFF. */
    unsigned low = p[0] == 0xE0 ? 0xA0 : p[0] == 0xF0 ? 0x90 : 0x80;
    unsigned high = p[0] == 0xED ? 0x9F : p[0] == 0xF4 ? 0x8F : 0xBF;
    if (p[1] < low || p[1] > high) return 0;
    for (size_t i = 2; i < length; i++)
        if ((p[i] & 0xC0) != 0x80) return 0;
    return length;
}

bool text_is_utf8(const char *text) {
    for (size_t length; *text; text += length) {
        length = text_utf8_length(text, SIZE_MAX);
        if (length == 0) return false;
    }
    return true;
}

bool text_is_choice(const char *choices, const char *word) {
    size_t n = strlen(word);
    for (const char *p = choices;; p++) {
        size_t length = strcspn(p, "|");
        if (length == n && strncmp(p, word, n) == 0) return true;
        p += length;
        if (!*p) return false;
    }
}
