/* 3x3 convolutions with stride 1 by Winograd's minimal filtering F(2x2,3x3): 16 products for each 2x2 outputs instead of
 * 36 (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015). With
 *
 *   B^T = [1 0 -1 0; 0 1 1 0; 0 -1 1 0; 0 1 0 -1]   G = [1 0 0; .5 .5 .5; .5 -.5 .5; 0 0 1]   A^T = [1 1 1 0; 0 1 -1 -1]
 *
 * the outputs y of a tile are A^T [ sum over channels of (G w G^T) * (B^T d B) ] A, with w the kernel, d the 4x4 inputs and
 * * the product element by element; the kernel's gradient is G^T [ sum over tiles of (A g A^T) * (B^T d B) ] G. All
 * factors are 0, 1 and 1/2, and rounding errors are no larger than those of direct sums. */
#ifndef KERNELS_CONV_WINOGRAD_H
#define KERNELS_CONV_WINOGRAD_H

#include "conv_engine.h"

enum { WINOGRAD_POSITIONS = 16 };

/* Whether the shape is one it can do and gains from. The number of images has no say: an image gets the same bits in a
 * batch of any size, so on any number of ranks. */
bool conv_winograd_suits(const conv_shape *shape);

/* As conv_apply and conv_apply_transposed. */
void conv_winograd(const conv_shape *shape, const float *x, const float *weight, const conv_epilogue *to,
                   void *scratch);
size_t conv_winograd_scratch(const conv_shape *shape);
void conv_winograd_transposed(const conv_shape *shape, const float *g, const uint8_t *live,
                              const float *weight, const conv_epilogue *to, void *scratch);
size_t conv_winograd_transposed_scratch(const conv_shape *shape);

/* Pointers to the 4x4 pixels that start at (top, left) of an image [h,w,c]; `zero` stands for those outside. */
void conv_winograd_pixels(const float *pixels[16], const float *image, const int64_t hwc[3], int64_t top,
                          int64_t left, const float *zero);

/* d_weight[k][tap][c] = or += G^T sums G, for rows [first, first + count) of k; sums is [k][position][c]. */
void conv_winograd_kernel_gradient(float *d_weight, const float *sums, int64_t c, int64_t first,
                                   int64_t count, bool accumulate);

#endif
