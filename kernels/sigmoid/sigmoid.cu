/* sigmoid in 16-byte vectors: one pass over memory in each direction. */
#include "elementwise.cuh"

extern "C" {
#include "sigmoid/sigmoid.h"
}

namespace {

struct sigmoid_value {
    __device__ float operator()(float x) const { return 1.0f / (1.0f + expf(-x)); }
};

struct sigmoid_gradient {
    __device__ float operator()(float d_y, float y) const { return d_y * y * (1.0f - y); }
};

void forward(const op_call *call) {
    const tensor *x = call->in[0];
    dispatch_real(x->type, [&](auto zero) {
        using T = decltype(zero);
        elementwise<1>(call, tensor_f32(call->out[0]), tensor_as<T>(x), (const T *)nullptr, x, false,
                       sigmoid_value());
    });
}

void backward(const op_call *call) {
    if (!call->d_in[0]) return;
    dispatch_real(call->d_in[0]->type, [&](auto zero) {
        using T = decltype(zero);
        elementwise<2>(call, tensor_as<T>(call->d_in[0]), tensor_f32(call->d_out[0]),
                       tensor_f32(call->out[0]), call->in[0], call->accumulate[0], sigmoid_gradient());
    });
}

const op_kernel vectors = {"cuda_vectors", forward, backward, nullptr};

} // namespace

extern "C" const op_kernel *const sigmoid_cuda[] = {&vectors, nullptr};
