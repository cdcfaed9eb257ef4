#include "base/half.h"

#include <math.h>
#include <string.h>

enum { QUIET_NAN = 0x7fff };

static uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static float from_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

float bfloat16_to_float(uint16_t bits) {
    return from_bits((uint32_t)bits << 16);
}

uint16_t bfloat16_from_float(float x) {
    uint32_t bits = bits_of(x);
    if (isnan(x)) return QUIET_NAN;
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

float float16_to_float(uint16_t bits) {
    uint32_t sign = (uint32_t)(bits & 0x8000u) << 16, exponent = bits >> 10 & 31u, fraction = bits & 1023u;
    if (exponent == 31) return from_bits(sign | 0x7f800000u | fraction << 13);
    if (exponent > 0) return from_bits(sign | (exponent + 112) << 23 | fraction << 13);
    float magnitude = (float)fraction * 0x1p-24f; /* a denormal of half is a normal float */
    return sign ? -magnitude : magnitude;
}

uint16_t float16_from_float(float x) {
    uint16_t sign = (uint16_t)(bits_of(x) >> 16 & 0x8000u);
    float magnitude = fabsf(x);
    if (isnan(x)) return QUIET_NAN;
    if (magnitude >= 65520.0f) return (uint16_t)(sign | 0x7c00u);
    int exponent = magnitude > 0 ? ilogbf(magnitude) : -14;
    if (exponent < -14) exponent = -14;
    /* In units of the last place; nearbyintf rounds to even. A carry runs into the exponent as it should. */
    unsigned units = (unsigned)nearbyintf(ldexpf(magnitude, 10 - exponent));
    return (uint16_t)(sign | (((unsigned)(exponent + 14) << 10) + units));
}
