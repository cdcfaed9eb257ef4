/* Backward of conv2d where few pixels of d_y are not zero (conv2d_params.live_pixels): products over those pixels only.
 *
 * One pass over d_y (and over y, masked in place, where d_y is not zero) marks the live pixels; their numbers are written side
 * by side in rising order. d_weight and d_bias are sums over them. Each live pixel's product with the weights (its share of
 * the patch of d_x) lies in scratch, and a pass over the pixels of x adds up the shares that reach a pixel, tap by tap, or
 * writes 0. So every order of sums is that of the pixels, whatever the number of live ones, and nothing is added to d_x where
 * no share arrives. All sums are in float.
 *
 * Scratch and grids have room for live_pixels of them. If more are live, the gradients of weight and bias and the pixels of d_x
 * that the others reach become NaN. */
#ifndef KERNELS_CONV2D_CONV2D_SPARSE_CUH
#define KERNELS_CONV2D_CONV2D_SPARSE_CUH

#include "conv_tiles.cuh"

/* Everything but d_residual; d_out[0] holds the masked gradient afterwards. live_pixels > 0. */
void conv2d_sparse_backward(const op_call *call, const conv_shape &shape);
size_t conv2d_sparse_scratch(const op_call *call, const conv_shape &shape);

#endif
