#include "radix_sort.h"

enum { DIGIT_BITS = 8, DIGITS = 1 << DIGIT_BITS, PASSES = 32 / DIGIT_BITS };

void radix_sort(radix_buffer data, radix_buffer spare, int64_t n) {
    int64_t counts[PASSES][DIGITS] = {0};
    for (int64_t i = 0; i < n; i++)
        for (int pass = 0; pass < PASSES; pass++)
            counts[pass][data.keys[i] >> (pass * DIGIT_BITS) & (DIGITS - 1)]++;
    radix_buffer from = data, to = spare;
    for (int pass = 0; pass < PASSES && n > 1; pass++) {
        int shift = pass * DIGIT_BITS;
        if (counts[pass][from.keys[0] >> shift & (DIGITS - 1)] == n)
            continue; /* one digit: nothing would move */
        int64_t at = 0;
        for (int d = 0; d < DIGITS; d++) {
            int64_t count = counts[pass][d];
            counts[pass][d] = at;
            at += count;
        }
        for (int64_t i = 0; i < n; i++) {
            int64_t place = counts[pass][from.keys[i] >> shift & (DIGITS - 1)]++;
            to.keys[place] = from.keys[i];
            to.values[place] = from.values[i];
        }
        radix_buffer swapped = from;
        from = to;
        to = swapped;
    }
    if (from.keys == data.keys) return;
    memcpy(data.keys, from.keys, (size_t)n * sizeof *data.keys);
    memcpy(data.values, from.values, (size_t)n * sizeof *data.values);
}
