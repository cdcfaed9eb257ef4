#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "data/coco_parse.h"

enum { NUMBER_TEXT_MAX = 511 };

/* Anything the quick paths do not cover; the text need not be terminated. */
static bool slow_double(const char *text, size_t length, double *out) {
    char copy[NUMBER_TEXT_MAX + 1];
    if (length == 0 || length > NUMBER_TEXT_MAX) return false;
    for (size_t i = 0; i < length; i++) /* strtod would also take "nan", "0x10", leading blanks */
        if (!strchr("+-.eE0123456789", text[i]) || text[i] == '\0') return false;
    memcpy(copy, text, length);
    copy[length] = '\0';
    char *end;
    *out = strtod(copy, &end);
    return end == copy + length && isfinite(*out);
}

bool coco_number_to_double(const char *text, size_t length, double *out) {
    static const double powers[] = {1e0, 1e1, 1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                    1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};
    /* Up to 15 digits and a power of ten up to 10^15 are exact in double, so one division rounds correctly. */
    size_t at = length > 0 && text[0] == '-' ? 1 : 0;
    uint64_t digits = 0;
    int count = 0, fraction = 0;
    bool point = false;
    for (; at < length && count <= 15; at++) {
        char c = text[at];
        if (c >= '0' && c <= '9') {
            digits = digits * 10 + (uint64_t)(c - '0');
            count++;
            fraction += point;
        } else if (c == '.' && !point && count > 0) {
            point = true;
        } else {
            return slow_double(text, length, out);
        }
    }
    if (at < length || count == 0 || count > 15) return slow_double(text, length, out);
    double value = (double)digits / powers[fraction];
    *out = text[0] == '-' ? -value : value;
    return true;
}

bool coco_number_to_int64(const char *text, size_t length, int64_t *out) {
    bool negative = length > 0 && text[0] == '-';
    size_t at = negative ? 1 : 0, first = at;
    uint64_t value = 0, limit = negative ? (uint64_t)1 << 63 : ((uint64_t)1 << 63) - 1;
    for (; at < length && text[at] >= '0' && text[at] <= '9'; at++) {
        uint64_t digit = (uint64_t)(text[at] - '0');
        if (value > (limit - digit) / 10) return false;
        value = value * 10 + digit;
    }
    if (at == first) return false;
    if (at < length && text[at] == '.') {
        for (at++; at < length && text[at] == '0'; at++) {
        }
        if (text[at - 1] == '.') at--; /* "12." is no number */
    }
    if (at == length) {
        *out = negative ? (int64_t)(0 - value) : (int64_t)value;
        return true;
    }
    double real;
    if (!coco_number_to_double(text, length, &real) || real != floor(real) || fabs(real) > 0x1p53)
        return false;
    *out = (int64_t)real;
    return true;
}
