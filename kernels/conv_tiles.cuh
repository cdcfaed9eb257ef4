/* Convolution on CUDA by tiles of sums (tile_product.cuh): what conv2d, conv2d_transpose and linear stand on where no library
 * plan is used. The functions queue launches on call->stream. Sizes are those of conv_shape.h with n images of capacity, of
 * which `rows` are valid; tensors have that memory layout whatever their own rank is. Weights, x and what is added have one
 * type, an output's gradient may be F32 beside them. Pixels of a tensor and the elements of one filter are counted in 32 bits:
 * at most 2^29 of each (CHECKed).
 *
 * Nothing is skipped or estimated by values: the order of sums is a function of the shapes. */
#ifndef KERNELS_CONV_TILES_CUH
#define KERNELS_CONV_TILES_CUH

#include "cuda_common.cuh"

extern "C" {
#include "conv_shape.h"
}

/* What happens to a sum: dest = relu?(sum + bias + add). */
struct conv_tiles_dest {
    const tensor *dest;
    const tensor *add;  /* of dest's size, in the weight's type, or NULL; dest itself to accumulate */
    const tensor *bias; /* F32, of the last axis, or NULL */
    bool relu;
};

/* dest [n,ho,wo,k] = conv(x [n,h,w,c], weight [k,r,s,c]) */
void conv_tiles_apply(const op_call *call, const conv_shape &shape, row_count rows, const tensor *x,
                      const tensor *weight, const conv_tiles_dest &to);

/* dest [n,h,w,c] = transposed convolution of g [n,ho,wo,k] */
void conv_tiles_apply_transposed(const op_call *call, const conv_shape &shape, row_count rows,
                                 const tensor *g, const tensor *weight, const conv_tiles_dest &to);

/* call->d_in[weight_input] [k,r,s,c] gets the sum over pixels of g [n,ho,wo,k] times x [n,h,w,c]. Slices of the pixels are summed
 * side by side in call->scratch. */
void conv_tiles_weight_gradient(const op_call *call, const conv_shape &shape, row_count rows, const tensor *x,
                                const tensor *g, int weight_input);
size_t conv_tiles_weight_gradient_scratch(const conv_shape &shape);

/* One pass over an output's gradient g, `pixels` of `channels` in each row: clears it in place where y is not positive (y NULL:
 * no ReLU), and adds it up over pixels for call->d_in[bias_input] if that is wanted. */
void conv_tiles_receive(const op_call *call, row_count rows, int64_t pixels, int64_t channels,
                        const tensor *g, const tensor *y, int bias_input);
size_t conv_tiles_receive_scratch(const op_call *call, row_count rows, int64_t pixels, int64_t channels,
                                  int bias_input);

#endif
