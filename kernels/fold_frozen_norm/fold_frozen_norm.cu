/* fold_frozen_norm: a block takes an output channel, works out its scale once and goes over its weights. */
#include "cuda_common.cuh"

extern "C" {
#include "fold_frozen_norm/fold_frozen_norm.h"
}

namespace {

enum { THREADS = 64 };

/* In double, like the reference: one number for each channel, and a small variance loses nothing. */
struct channel_scale {
    const float *gamma, *variance;
    double eps;

    __device__ float operator()(int64_t channel) const {
        return (float)((double)gamma[channel] / sqrt((double)variance[channel] + eps));
    }
};

/* Every thread of the block gets thread 0's. */
__device__ float block_scale(const channel_scale &scale_of, int64_t channel) {
    SHARED_ARRAY(float, shared, 1);
    if (threadIdx.x == 0) shared[0] = scale_of(channel);
    __syncthreads();
    float scale = shared[0];
    __syncthreads(); /* the next channel writes it */
    return scale;
}

template <int WIDTH, class T>
__global__ void __launch_bounds__(THREADS)
    forward_kernel(T *folded, float *folded_bias, const float *weight, const float *beta, const float *mean,
                   channel_scale scale_of, int64_t channels, int64_t row) {
    for (int64_t k = blockIdx.x; k < channels; k += gridDim.x) {
        float scale = block_scale(scale_of, k);
        if (threadIdx.x == 0) folded_bias[k] = beta[k] - mean[k] * scale;
        for (int64_t i = (int64_t)threadIdx.x * WIDTH; i < row; i += THREADS * WIDTH) {
            float v[WIDTH];
            load_floats<WIDTH>(v, weight + k * row + i);
#pragma unroll
            for (int j = 0; j < WIDTH; j++) v[j] *= scale;
            store_floats<WIDTH>(folded + k * row + i, v);
        }
    }
}

/* `d_folded` is NULL where no gradient arrived. */
template <class T>
__global__ void __launch_bounds__(THREADS)
    backward_kernel(gradient_sink d_weight, const T *d_folded, channel_scale scale_of, int64_t channels,
                    int64_t row) {
    for (int64_t k = blockIdx.x; k < channels; k += gridDim.x) {
        float scale = block_scale(scale_of, k);
        for (int64_t i = k * row + threadIdx.x; i < (k + 1) * row; i += THREADS)
            d_weight.put(i, d_folded ? to_float(d_folded[i]) * scale : 0);
    }
}

channel_scale scale_of(const op_call *call) {
    const auto *p = static_cast<const fold_frozen_norm_params *>(call->params);
    return {tensor_f32(call->in[FOLD_NORM_WEIGHT]), tensor_f32(call->in[FOLD_RUNNING_VAR]), p->eps};
}

template <int WIDTH, class T> void launch_forward(const op_call *call) {
    const tensor *weight = call->in[FOLD_WEIGHT];
    LAUNCH(forward_kernel<WIDTH, T>, cuda_grid(weight->shape[0], 1), THREADS, 0, call->stream,
           tensor_as<T>(call->out[0]), tensor_f32(call->out[1]), tensor_f32(weight),
           tensor_f32(call->in[FOLD_NORM_BIAS]), tensor_f32(call->in[FOLD_RUNNING_MEAN]), scale_of(call),
           weight->shape[0], tensor_row_size(weight));
}

void forward(const op_call *call) {
    const tensor *weight = call->in[FOLD_WEIGHT];
    dispatch_real(call->out[0]->type, [&](auto zero) {
        using T = decltype(zero);
        bool wide = is_packable(tensor_f32(weight), tensor_row_size(weight)) &&
                    is_packable(tensor_as<T>(call->out[0]), 0);
        wide ? launch_forward<vector_width<float>, T>(call) : launch_forward<1, T>(call);
    });
}

void backward(const op_call *call) {
    if (!call->d_in[FOLD_WEIGHT]) return;
    const tensor *weight = call->in[FOLD_WEIGHT];
    dispatch_real(call->out[0]->type, [&](auto zero) {
        using T = decltype(zero);
        LAUNCH(backward_kernel<T>, cuda_grid(weight->shape[0], 1), THREADS, 0, call->stream,
               gradient_sink_of(call, FOLD_WEIGHT), tensor_as<T>(call->d_out[0]), scale_of(call),
               weight->shape[0], tensor_row_size(weight));
    });
}

const op_kernel by_channel = {"cuda_by_channel", forward, backward, nullptr};

} // namespace

extern "C" const op_kernel *const fold_frozen_norm_cuda[] = {&by_channel, nullptr};
