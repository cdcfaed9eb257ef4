/* Stable radix sort of 32-bit keys with values, without allocation. */
#ifndef KERNELS_RADIX_SORT_H
#define KERNELS_RADIX_SORT_H

#include <stdint.h>
#include <string.h>

typedef struct radix_buffer {
    uint32_t *keys;  /* [n] */
    int32_t *values; /* [n] */
} radix_buffer;

/* Sorts `data` by ascending key; equal keys keep their order. `spare` holds as many elements. */
void radix_sort(radix_buffer data, radix_buffer spare, int64_t n);

/* Ascending keys are descending floats; both zeros are equal, NaN comes last. */
static inline uint32_t radix_key_descending(float value) {
    uint32_t bits;
    value += 0.0f; /* -0 + 0 is +0 */
    memcpy(&bits, &value, sizeof bits);
    if (value != value) return UINT32_MAX;
    return bits & 0x80000000u ? bits : ~(bits | 0x80000000u);
}

#endif
