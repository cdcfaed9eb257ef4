/* conv2d by tiles of sums (conv_tiles.cuh): plain arithmetic for every shape; what library plans are compared with. Where few
 * pixels of d_y are live, backward is that of conv2d_sparse.cuh. */
#include "conv2d/conv2d_sparse.cuh"
#include "elementwise.cuh"

extern "C" {
#include "conv2d/conv2d.h"
}

namespace {

conv_shape shape_of(const op_call *call) {
    const auto *p = static_cast<const conv2d_params *>(call->params);
    const tensor *x = call->in[CONV2D_X], *weight = call->in[CONV2D_WEIGHT], *y = call->out[0];
    return {x->shape[0],      x->shape[1],      x->shape[2],      x->shape[3], y->shape[1], y->shape[2],
            weight->shape[0], weight->shape[1], weight->shape[2], p->stride,   p->pad,      p->dilation};
}

void forward(const op_call *call) {
    const auto *p = static_cast<const conv2d_params *>(call->params);
    conv_tiles_dest to = {call->out[0], call->in[CONV2D_RESIDUAL], call->in[CONV2D_BIAS], p->relu};
    conv_tiles_apply(call, shape_of(call), row_count_of(call->in[CONV2D_X]), call->in[CONV2D_X],
                     call->in[CONV2D_WEIGHT], to);
}

struct copied {
    __device__ float operator()(float d_y) const { return d_y; }
};

template <class R, class G> void copy(const op_call *call, R *d_residual, const G *d_y) {
    elementwise<1>(call, d_residual, d_y, (const G *)nullptr, call->out[0], call->accumulate[CONV2D_RESIDUAL],
                   copied());
}

/* d_y is masked by now. */
void residual_backward(const op_call *call) {
    const tensor *d_residual = call->d_in[CONV2D_RESIDUAL], *d_y = call->d_out[0];
    if (!d_residual) return;
    if (d_residual->data == d_y->data && tensor_count(d_y) > 0) {
        CHECK(d_residual->type == d_y->type, "conv2d: gradients of two types share memory");
        return;
    }
    dispatch_real(d_residual->type, [&](auto zero) {
        using R = decltype(zero);
        R *d = tensor_as<R>(d_residual);
        if (d_y->type == d_residual->type)
            copy(call, d, tensor_as<R>(d_y));
        else
            copy(call, d, tensor_as<float>(d_y)); /* f32_output */
    });
}

void backward(const op_call *call) {
    const auto *p = static_cast<const conv2d_params *>(call->params);
    const tensor *x = call->in[CONV2D_X], *g = call->d_out[0], *d_x = call->d_in[CONV2D_X];
    conv_shape v = shape_of(call);
    row_count rows = row_count_of(x);
    if (p->live_pixels > 0) {
        conv2d_sparse_backward(call, v);
        residual_backward(call);
        return;
    }
    conv_tiles_receive(call, rows, v.ho * v.wo, v.k, g, p->relu ? call->out[0] : nullptr, CONV2D_BIAS);
    residual_backward(call);
    if (call->d_in[CONV2D_WEIGHT]) conv_tiles_weight_gradient(call, v, rows, x, g, CONV2D_WEIGHT);
    if (!d_x) return;
    conv_tiles_dest to = {d_x, call->accumulate[CONV2D_X] ? d_x : nullptr, nullptr, false};
    conv_tiles_apply_transposed(call, v, rows, g, call->in[CONV2D_WEIGHT], to);
}

size_t scratch_bytes(const op_call *call, bool backward_too) {
    if (!backward_too) return 0;
    conv_shape v = shape_of(call);
    if (static_cast<const conv2d_params *>(call->params)->live_pixels > 0)
        return conv2d_sparse_scratch(call, v);
    size_t bias = conv_tiles_receive_scratch(call, row_count_of(call->in[CONV2D_X]), v.ho * v.wo, v.k,
                                             CONV2D_BIAS),
           weight = call->d_in[CONV2D_WEIGHT] ? conv_tiles_weight_gradient_scratch(v) : 0;
    return bias > weight ? bias : weight;
}

const op_kernel tiles = {"cuda_tiles", forward, backward, scratch_bytes};

} // namespace

extern "C" const op_kernel *const conv2d_cuda[] = {&tiles, nullptr};
