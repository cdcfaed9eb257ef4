#include "report/markup.h"

#include "base/text.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void markup_release(markup *m) {
    free(m->text);
    *m = (markup){0};
}

/* Room for `size` more bytes and a zero. */
static bool make_room(markup *m, size_t size) {
    if (m->out_of_memory || size > SIZE_MAX / 4 - m->size) {
        m->out_of_memory = true;
        return false;
    }
    if (m->size + size < m->capacity) return true;
    size_t capacity = 2 * (m->size + size) + 256;
    char *text = realloc(m->text, capacity);
    if (!text) {
        m->out_of_memory = true;
        return false;
    }
    m->text = text;
    m->capacity = capacity;
    return true;
}

static void append(markup *m, const char *bytes, size_t size) {
    if (!make_room(m, size)) return;
    memcpy(m->text + m->size, bytes, size);
    m->size += size;
    m->text[m->size] = '\0';
}

void markup_put(markup *m, const char *literal) {
    append(m, literal, strlen(literal));
}

void markup_format(markup *m, const char *format, ...) {
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int size = vsnprintf(NULL, 0, format, arguments);
    if (size >= 0 && make_room(m, (size_t)size)) {
        vsnprintf(m->text + m->size, (size_t)size + 1, format, again);
        m->size += (size_t)size;
    }
    va_end(again);
    va_end(arguments);
}

/* What stands for the character at `s`; NULL where it can stand for itself. U+FFFE and U+FFFF are not allowed in XML. */
static const char *replacement(const char *s, size_t length) {
    static const char unknown[] = "\xEF\xBF\xBD";
    unsigned char c = (unsigned char)*s;
    if (length == 0) return unknown;
    if (length > 1)
        return memcmp(s, "\xEF\xBF\xBE", 3) == 0 || memcmp(s, "\xEF\xBF\xBF", 3) == 0 ? unknown : NULL;
    switch (c) {
    case '&':
        return "&amp;";
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '"':
        return "&quot;";
    case '\'':
        return "&#39;";
    case '\t':
    case '\n':
        return NULL;
    default:
        return c < 0x20 || c == 0x7f ? unknown : NULL;
    }
}

void markup_text_sized(markup *m, const char *text, size_t size) {
    size_t plain = 0; /* where what needs no change begins */
    for (size_t at = 0; at < size;) {
        size_t length = text_utf8_length(text + at, size - at);
        const char *instead = replacement(text + at, length);
        size_t next = at + (length ? length : 1);
        if (instead) {
            append(m, text + plain, at - plain);
            markup_put(m, instead);
            plain = next;
        }
        at = next;
    }
    append(m, text + plain, size - plain);
}

void markup_text(markup *m, const char *text) {
    markup_text_sized(m, text, strlen(text));
}

void markup_base64(markup *m, const void *bytes, size_t size) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *from = bytes;
    if (size > SIZE_MAX / 4 || !make_room(m, (size + 2) / 3 * 4)) {
        m->out_of_memory = true;
        return;
    }
    char *to = m->text + m->size;
    for (size_t at = 0; at < size; at += 3) {
        size_t left = size - at;
        uint32_t three = (uint32_t)from[at] << 16 | (left > 1 ? (uint32_t)from[at + 1] << 8 : 0) |
                         (left > 2 ? (uint32_t)from[at + 2] : 0);
        *to++ = digits[three >> 18];
        *to++ = digits[three >> 12 & 63];
        *to++ = left > 1 ? digits[three >> 6 & 63] : '=';
        *to++ = left > 2 ? digits[three & 63] : '=';
    }
    *to = '\0';
    m->size = (size_t)(to - m->text);
}

status markup_finish(const markup *m) {
    if (!m->out_of_memory) return STATUS_OK;
    return error_set(STATUS_OS, "free some memory", "no memory for a page beyond %zu bytes", m->size);
}
