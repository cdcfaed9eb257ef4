/* frozen_batch_norm: one kernel makes a scale for each channel, one goes over the pixels in 16-byte vectors. */
#include "cuda_common.cuh"

extern "C" {
#include "frozen_batch_norm/frozen_batch_norm.h"
}

namespace {

enum { THREADS = 256 };

/* In double: it is C numbers only, and a small variance loses nothing. */
__global__ void scale_kernel(float *scale, const float *weight, const float *var, double eps, int channels) {
    int c = (int)global_thread();
    if (c < channels) scale[c] = (float)((double)weight[c] / sqrt((double)var[c] + eps));
}

/* The channel of a thread's first element, and how far it moves from one vector to the next; without 64-bit division. WIDTH
 * divides the number of channels, so a vector never leaves its pixel. */
struct channel_walk {
    int c, step, channels;
    __device__ channel_walk(int width, int channels_) : channels(channels_) {
        unsigned n = (unsigned)channels;
        c = (int)((unsigned)global_thread() * (unsigned)width % n);
        step = (int)((unsigned)global_threads() * (unsigned)width % n);
    }
    __device__ void next() {
        c += step;
        if (c >= channels) c -= channels;
    }
};

template <int WIDTH, class T>
__global__ void __launch_bounds__(THREADS)
    forward_kernel(T *y, const T *x, const float *scale, const float *mean, const float *bias, row_count rows,
                   int64_t row_size, int channels, bool relu) {
    int64_t vectors = valid_rows(rows) * row_size / WIDTH;
    channel_walk walk(WIDTH, channels);
    for (int64_t i = global_thread(); i < vectors; i += global_threads(), walk.next()) {
        int c = walk.c;
        float v[WIDTH];
        load_floats<WIDTH>(v, x + i * WIDTH);
#pragma unroll
        for (int k = 0; k < WIDTH; k++) {
            v[k] = (v[k] - mean[c + k]) * scale[c + k] + bias[c + k];
            if (relu && v[k] < 0) v[k] = 0;
        }
        store_floats<WIDTH>(y + i * WIDTH, v);
    }
}

/* `y` is NULL without ReLU. */
template <int WIDTH, class T>
__global__ void __launch_bounds__(THREADS)
    backward_kernel(T *d_x, const T *d_y, const T *y, const float *scale, row_count rows, int64_t row_size,
                    int channels, bool accumulate) {
    int64_t vectors = valid_rows(rows) * row_size / WIDTH;
    channel_walk walk(WIDTH, channels);
    for (int64_t i = global_thread(); i < vectors; i += global_threads(), walk.next()) {
        int c = walk.c;
        float g[WIDTH], mask[WIDTH], d[WIDTH];
        load_floats<WIDTH>(g, d_y + i * WIDTH);
        if (y) load_floats<WIDTH>(mask, y + i * WIDTH);
        if (accumulate) load_floats<WIDTH>(d, d_x + i * WIDTH);
#pragma unroll
        for (int k = 0; k < WIDTH; k++) {
            float value = y && !(mask[k] > 0) ? 0 : g[k] * scale[c + k];
            d[k] = accumulate ? d[k] + value : value;
        }
        store_floats<WIDTH>(d_x + i * WIDTH, d);
    }
}

size_t scratch_bytes(const op_call *call, bool) {
    return (size_t)call->in[FROZEN_BATCH_NORM_X]->shape[3] * sizeof(float);
}

const float *make_scale(const op_call *call) {
    const auto *p = static_cast<const frozen_batch_norm_params *>(call->params);
    int channels = (int)call->in[FROZEN_BATCH_NORM_X]->shape[3];
    float *scale = static_cast<float *>(call->scratch);
    LAUNCH(scale_kernel, cuda_grid(channels, THREADS), THREADS, 0, call->stream, scale,
           tensor_f32(call->in[FROZEN_BATCH_NORM_WEIGHT]), tensor_f32(call->in[FROZEN_BATCH_NORM_VAR]),
           p->eps, channels);
    return scale;
}

template <int WIDTH, class T> void launch_forward(const op_call *call) {
    const auto *p = static_cast<const frozen_batch_norm_params *>(call->params);
    const tensor *x = call->in[FROZEN_BATCH_NORM_X];
    LAUNCH(forward_kernel<WIDTH, T>, cuda_grid(tensor_count(x), THREADS * WIDTH), THREADS, 0, call->stream,
           tensor_as<T>(call->out[0]), tensor_as<T>(x), make_scale(call),
           tensor_f32(call->in[FROZEN_BATCH_NORM_MEAN]), tensor_f32(call->in[FROZEN_BATCH_NORM_BIAS]),
           row_count_of(x), tensor_row_size(x), (int)x->shape[3], p->relu);
}

template <int WIDTH, class T> void launch_backward(const op_call *call) {
    const auto *p = static_cast<const frozen_batch_norm_params *>(call->params);
    const tensor *x = call->in[FROZEN_BATCH_NORM_X];
    LAUNCH(backward_kernel<WIDTH, T>, cuda_grid(tensor_count(x), THREADS * WIDTH), THREADS, 0, call->stream,
           tensor_as<T>(call->d_in[FROZEN_BATCH_NORM_X]), tensor_as<T>(call->d_out[0]),
           p->relu ? tensor_as<T>(call->out[0]) : nullptr, make_scale(call), row_count_of(x),
           tensor_row_size(x), (int)x->shape[3], call->accumulate[FROZEN_BATCH_NORM_X]);
}

void forward(const op_call *call) {
    const tensor *x = call->in[FROZEN_BATCH_NORM_X];
    if (tensor_count(x) == 0) return;
    dispatch_real(x->type, [&](auto zero) {
        using T = decltype(zero);
        bool wide = is_packable(tensor_as<T>(x), x->shape[3]) && is_packable(tensor_as<T>(call->out[0]), 0);
        wide ? launch_forward<vector_width<T>, T>(call) : launch_forward<1, T>(call);
    });
}

void backward(const op_call *call) {
    const tensor *x = call->in[FROZEN_BATCH_NORM_X], *d_x = call->d_in[FROZEN_BATCH_NORM_X];
    if (!d_x || tensor_count(x) == 0) return;
    dispatch_real(x->type, [&](auto zero) {
        using T = decltype(zero);
        bool wide = is_packable(tensor_as<T>(d_x), x->shape[3]) &&
                    is_packable(tensor_as<T>(call->d_out[0]), 0) &&
                    is_packable(tensor_as<T>(call->out[0]), 0);
        wide ? launch_backward<vector_width<T>, T>(call) : launch_backward<1, T>(call);
    });
}

const op_kernel vectors = {"cuda_vectors", forward, backward, scratch_bytes};

} // namespace

extern "C" const op_kernel *const frozen_batch_norm_cuda[] = {&vectors, nullptr};
