/* Where the output pixels of one axis come from. */
#ifndef KERNELS_IMAGE_PACK_RESAMPLE_AXIS_H
#define KERNELS_IMAGE_PACK_RESAMPLE_AXIS_H

#include <math.h>
#include <stdint.h>

/* Plain bilinear: value = (1 - upper_weight) * in[lower] + upper_weight * in[upper]. */
typedef struct bilinear_tap {
    int32_t lower, upper;
    double upper_weight;
} bilinear_tap;

static inline bilinear_tap bilinear_tap_of(int i, int in, int out) {
    double s = (i + 0.5) * ((double)in / out) - 0.5;
    if (s < 0) s = 0;
    int lower = (int)s;
    if (lower > in - 1) lower = in - 1;
    return (bilinear_tap){lower, lower + 1 < in ? lower + 1 : lower, s - lower};
}

/* Pillow's triangle filter: weights in fixed point over `count` pixels from `first`. */
enum { TRIANGLE_BITS = 22 };

typedef struct triangle_tap {
    int32_t first, count;
} triangle_tap;

/* Computes the weights of output pixel i: at most 2 * max(in/out, 1) + 1 of them. */
triangle_tap triangle_tap_of(int32_t *weights, int i, int in, int out);

/* Fixed point sum to 8 bits; the sum starts at TRIANGLE_HALF. */
#define TRIANGLE_HALF (1 << (TRIANGLE_BITS - 1))

static inline uint8_t triangle_round(int32_t sum) {
    int32_t v = sum >> TRIANGLE_BITS;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

#endif
