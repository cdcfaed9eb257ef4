/* 16-bit floats, converted as GPUs do: to the nearest, ties to even, beyond the largest to infinity; NaN stays NaN. */
#ifndef BASE_HALF_H
#define BASE_HALF_H

#include <stdint.h>

/* bfloat16: sign, 8 bits of exponent, 7 of fraction. */
float bfloat16_to_float(uint16_t bits);
uint16_t bfloat16_from_float(float x);

/* IEEE 754 binary16: sign, 5 bits of exponent, 10 of fraction, denormals. */
float float16_to_float(uint16_t bits);
uint16_t float16_from_float(float x);

#endif
