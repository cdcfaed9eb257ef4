/* add in 16-byte vectors. Without ReLU the gradients are copies of d_y; an input that shares d_y's memory needs none. */
#include "elementwise.cuh"

extern "C" {
#include "add/add.h"
}

namespace {

template <bool RELU> struct sum {
    __device__ float operator()(float a, float b) const {
        float y = a + b;
        return RELU && y < 0 ? 0 : y;
    }
};

struct masked {
    __device__ float operator()(float d_y, float y) const { return y > 0 ? d_y : 0; }
};

struct copied {
    __device__ float operator()(float d_y) const { return d_y; }
};

void forward(const op_call *call) {
    const auto *p = static_cast<const add_params *>(call->params);
    const tensor *a = call->in[ADD_A];
    dispatch_real(a->type, [&](auto zero) {
        using T = decltype(zero);
        T *y = tensor_as<T>(call->out[0]);
        const T *x = tensor_as<T>(a), *z = tensor_as<T>(call->in[ADD_B]);
        p->relu ? elementwise<2>(call, y, x, z, a, false, sum<true>())
                : elementwise<2>(call, y, x, z, a, false, sum<false>());
    });
}

template <class T> void write_gradient(const op_call *call, int input) {
    const auto *p = static_cast<const add_params *>(call->params);
    if (!call->d_in[input]) return;
    const tensor *y = call->out[0];
    T *d = tensor_as<T>(call->d_in[input]), *d_y = tensor_as<T>(call->d_out[0]);
    if (p->relu)
        elementwise<2>(call, d, d_y, tensor_as<T>(y), y, call->accumulate[input], masked());
    else if (d != d_y)
        elementwise<1>(call, d, d_y, (const T *)nullptr, y, call->accumulate[input], copied());
}

void backward(const op_call *call) {
    dispatch_real(call->out[0]->type, [&](auto zero) {
        using T = decltype(zero);
        write_gradient<T>(call, ADD_A);
        write_gradient<T>(call, ADD_B); /* the one that may write into d_y comes last */
    });
}

const op_kernel vectors = {"cuda_vectors", forward, backward, nullptr};

} // namespace

extern "C" const op_kernel *const add_cuda[] = {&vectors, nullptr};
