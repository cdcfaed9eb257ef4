/* What stands around a convolution or matrix product that a library computes on a GPU: kernels for what the library does not
 * fuse. All queue on call->stream. */
#ifndef KERNELS_CONV_AROUND_H
#define KERNELS_CONV_AROUND_H

#include "autograd/op.h"

/* The gradient that arrives, `pixels` of `channels` in each row of `rows_of`: cleared where y is not positive (y NULL: no ReLU),
 * and summed over pixels for d_in[bias_input] where that is wanted. Uses this many bytes of call->scratch from its start. */
void conv_around_receive(const op_call *call, const tensor *rows_of, int64_t pixels, int64_t channels,
                         const tensor *g, const tensor *y, int bias_input);
size_t conv_around_receive_scratch(const op_call *call, const tensor *rows_of, int64_t pixels,
                                   int64_t channels, int bias_input);

/* Converts `count` elements. */
void conv_around_convert(const op_call *call, void *to, dtype to_type, const void *from, dtype from_type,
                         int64_t count);

/* to (+)= from for `count` elements of any real types. */
void conv_around_add(const op_call *call, void *to, dtype to_type, const void *from, dtype from_type,
                     int64_t count, bool accumulate);

/* y = relu?(y + bias + residual) in place over y's valid rows; bias f32 over the last axis, both may be NULL. */
void conv_around_finish(const op_call *call, const tensor *y, const tensor *bias, const tensor *residual,
                        bool relu);

/* Clears the rows of x behind its count; nothing where all are valid. */
void conv_around_clear_tail(const op_call *call, const tensor *x);

#endif
