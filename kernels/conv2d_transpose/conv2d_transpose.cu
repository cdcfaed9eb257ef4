/* conv2d_transpose by tiles of sums (conv_tiles.cuh), as the transpose of a convolution from y to x. */
#include "conv_tiles.cuh"

extern "C" {
#include "conv2d_transpose/conv2d_transpose.h"
}

namespace {

/* The convolution that maps y [n,h,w,c] to x [n,ho,wo,k]. */
conv_shape shape_of(const op_call *call) {
    const auto *p = static_cast<const conv2d_transpose_params *>(call->params);
    const tensor *x = call->in[CONV2D_TRANSPOSE_X], *weight = call->in[CONV2D_TRANSPOSE_WEIGHT],
                 *y = call->out[0];
    return {x->shape[0],      y->shape[1],      y->shape[2],      y->shape[3], x->shape[1], x->shape[2],
            weight->shape[0], weight->shape[1], weight->shape[2], p->stride,   p->pad,      1};
}

void forward(const op_call *call) {
    const auto *p = static_cast<const conv2d_transpose_params *>(call->params);
    const tensor *x = call->in[CONV2D_TRANSPOSE_X];
    conv_tiles_dest to = {call->out[0], nullptr, call->in[CONV2D_TRANSPOSE_BIAS], p->relu};
    conv_tiles_apply_transposed(call, shape_of(call), row_count_of(x), x, call->in[CONV2D_TRANSPOSE_WEIGHT],
                                to);
}

void backward(const op_call *call) {
    const auto *p = static_cast<const conv2d_transpose_params *>(call->params);
    const tensor *x = call->in[CONV2D_TRANSPOSE_X], *d_y = call->d_out[0],
                 *d_x = call->d_in[CONV2D_TRANSPOSE_X];
    conv_shape v = shape_of(call);
    row_count rows = row_count_of(x);
    conv_tiles_receive(call, rows, v.h * v.w, v.c, d_y, p->relu ? call->out[0] : nullptr,
                       CONV2D_TRANSPOSE_BIAS);
    if (call->d_in[CONV2D_TRANSPOSE_WEIGHT])
        conv_tiles_weight_gradient(call, v, rows, d_y, x, CONV2D_TRANSPOSE_WEIGHT);
    if (!d_x) return;
    conv_tiles_dest to = {d_x, call->accumulate[CONV2D_TRANSPOSE_X] ? d_x : nullptr, nullptr, false};
    conv_tiles_apply(call, v, rows, d_y, call->in[CONV2D_TRANSPOSE_WEIGHT], to);
}

size_t scratch_bytes(const op_call *call, bool backward_too) {
    if (!backward_too) return 0;
    conv_shape v = shape_of(call);
    size_t bias = conv_tiles_receive_scratch(call, row_count_of(call->in[CONV2D_TRANSPOSE_X]), v.h * v.w, v.c,
                                             CONV2D_TRANSPOSE_BIAS),
           weight = call->d_in[CONV2D_TRANSPOSE_WEIGHT] ? conv_tiles_weight_gradient_scratch(v) : 0;
    return bias > weight ? bias : weight;
}

const op_kernel tiles = {"cuda_tiles", forward, backward, scratch_bytes};

} // namespace

extern "C" const op_kernel *const conv2d_transpose_cuda[] = {&tiles, nullptr};
