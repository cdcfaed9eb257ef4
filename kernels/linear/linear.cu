/* linear by tiles of sums (conv_tiles.cuh), as a 1x1 convolution of N images of one pixel. */
#include "conv_tiles.cuh"

extern "C" {
#include "linear/linear.h"
}

namespace {

conv_shape shape_of(const op_call *call) {
    const tensor *x = call->in[LINEAR_X], *weight = call->in[LINEAR_WEIGHT];
    return {x->shape[0], 1, 1, weight->shape[1], 1, 1, weight->shape[0], 1, 1, 1, 0, 1};
}

void forward(const op_call *call) {
    const auto *p = static_cast<const linear_params *>(call->params);
    conv_tiles_dest to = {call->out[0], nullptr, call->in[LINEAR_BIAS], p->relu};
    conv_tiles_apply(call, shape_of(call), row_count_of(call->in[LINEAR_X]), call->in[LINEAR_X],
                     call->in[LINEAR_WEIGHT], to);
}

void backward(const op_call *call) {
    const auto *p = static_cast<const linear_params *>(call->params);
    const tensor *x = call->in[LINEAR_X], *g = call->d_out[0], *d_x = call->d_in[LINEAR_X];
    conv_shape v = shape_of(call);
    row_count rows = row_count_of(x);
    conv_tiles_receive(call, rows, 1, v.k, g, p->relu ? call->out[0] : nullptr, LINEAR_BIAS);
    if (call->d_in[LINEAR_WEIGHT]) conv_tiles_weight_gradient(call, v, rows, x, g, LINEAR_WEIGHT);
    if (!d_x) return;
    conv_tiles_dest to = {d_x, call->accumulate[LINEAR_X] ? d_x : nullptr, nullptr, false};
    conv_tiles_apply_transposed(call, v, rows, g, call->in[LINEAR_WEIGHT], to);
}

size_t scratch_bytes(const op_call *call, bool backward_too) {
    if (!backward_too) return 0;
    conv_shape v = shape_of(call);
    size_t bias = conv_tiles_receive_scratch(call, row_count_of(call->in[LINEAR_X]), 1, v.k, LINEAR_BIAS),
           weight = call->d_in[LINEAR_WEIGHT] ? conv_tiles_weight_gradient_scratch(v) : 0;
    return bias > weight ? bias : weight;
}

const op_kernel tiles = {"cuda_tiles", forward, backward, scratch_bytes};

} // namespace

extern "C" const op_kernel *const linear_cuda[] = {&tiles, nullptr};
