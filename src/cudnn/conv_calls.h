/* The convolutions that a call of an op stands for, and the same as a matrix product where it is one. */
#ifndef CUDNN_CONV_CALLS_H
#define CUDNN_CONV_CALLS_H

#include "autograd/op.h"
#include "cudnn/conv_graph.h"

/* By the op's name: the plug-in has its own copy of the tables. */
typedef enum conv_op { CONV_OP_NONE, CONV_OP_CONV, CONV_OP_TRANSPOSE, CONV_OP_LINEAR } conv_op;
conv_op conv_op_of(const op_call *call);

/* What of a call is computed. */
typedef enum conv_part { CONV_OF_OUTPUT, CONV_OF_D_X, CONV_OF_D_WEIGHT } conv_part;

/* Describes that part of a call of conv2d, conv2d_transpose or linear with activations in `storage`, with everything that the
 * call wants fused to it: what adds to a gradient is an addend, also of a weight's where it is a product of matrices, which
 * then also has the type of the gradient buffer. linear is a 1x1 convolution of images of one pixel. False: not for a library
 * (another op, nothing to compute, F32 results of 16-bit operands that are no product of matrices, sizes beyond 31 bits, gradients
 * of few live pixels). */
bool conv_call_describe(conv_desc *d, const op_call *call, conv_part part, dtype storage);

/* Without what is fused to it. */
conv_desc conv_desc_plain(const conv_desc *d);

/* Whether it is a product of matrices with pixels as rows: 1x1, stride 1, no padding. */
bool conv_desc_is_product(const conv_desc *d);

/* Whether cuDNN is asked for it. Not for what its graphs cannot say, for linear (that is cublasLt's), and for a strided
 * transposed convolution with something added, which it searches for minutes and does not find. */
bool conv_desc_is_asked(const conv_desc *d);

/* Workspace that a plan may use, by the size of the operands: at most 64 MiB. */
size_t conv_desc_workspace(const conv_desc *d);

#endif
