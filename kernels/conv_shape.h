/* Sizes of one convolution x [n,h,w,c] -> y [n,ho,wo,k] with weight [k,r,s,c]; conv2d and conv2d_transpose
 * (which is the same map read backwards) share it. Output pixel (p,q) reads x at row p*stride - pad +
 * i*dilation, column q*stride - pad + j*dilation for tap (i,j); what lies outside of x counts as zero. */
#ifndef KERNELS_CONV_SHAPE_H
#define KERNELS_CONV_SHAPE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct conv_shape {
    int64_t n, h, w, c, ho, wo, k, r, s, stride, pad, dilation;
} conv_shape;

/* Sizes beyond these are refused by the shape rules, so that products of sizes stay below 2^63. */
enum { CONV_MAX_STEP = 1 << 15 };

/* Whether a tensor of this shape has at most 2^40 elements. */
static inline bool conv_size_fits(int64_t a, int64_t b, int64_t c, int64_t d) {
    int64_t product;
    return !__builtin_mul_overflow(a, b, &product) && !__builtin_mul_overflow(product, c, &product) &&
           !__builtin_mul_overflow(product, d, &product) && product <= (int64_t)1 << 40;
}

#endif
