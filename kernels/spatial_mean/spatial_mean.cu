/* spatial_mean: a block takes a part of a row's channels; its warps add up every eighth place, and their sums are added in their
 * order. Backward writes each place once. */
#include "cuda_common.cuh"

extern "C" {
#include "spatial_mean/spatial_mean.h"
}

namespace {

enum { THREADS = 256, WARPS = THREADS / 32 };

struct shape {
    row_count rows;
    int places, channels;
};

/* Grid: (32 WIDTH channels each, rows). */
template <int WIDTH, class T>
__global__ void __launch_bounds__(THREADS) forward_kernel(T *y, const T *x, shape s) {
    SHARED_ARRAY(float, of_warps, THREADS *WIDTH);
    int64_t rows = valid_rows(s.rows);
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    int c = ((int)blockIdx.x * 32 + lane) * WIDTH;
    for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) { /* the same in every thread */
        float sum[WIDTH] = {};
        const T *from = x + row * s.places * s.channels + c;
        if (c < s.channels)
#pragma unroll 4
            for (int p = warp; p < s.places; p += WARPS) {
                float v[WIDTH];
                load_floats<WIDTH>(v, from + (int64_t)p * s.channels);
#pragma unroll
                for (int k = 0; k < WIDTH; k++) sum[k] += v[k];
            }
#pragma unroll
        for (int k = 0; k < WIDTH; k++) of_warps[threadIdx.x * WIDTH + k] = sum[k];
        __syncthreads();
        if (warp == 0 && c < s.channels) {
            float mean[WIDTH] = {};
            for (int other = 0; other < WARPS; other++)
#pragma unroll
                for (int k = 0; k < WIDTH; k++) mean[k] += of_warps[(other * 32 + lane) * WIDTH + k];
#pragma unroll
            for (int k = 0; k < WIDTH; k++) mean[k] /= (float)s.places;
            store_floats<WIDTH>(y + row * s.channels + c, mean);
        }
        __syncthreads();
    }
}

/* Grid: (32 WIDTH channels each, rows). */
template <int WIDTH, class T>
__global__ void __launch_bounds__(THREADS) backward_kernel(T *d_x, const T *d_y, shape s, bool accumulate) {
    int64_t rows = valid_rows(s.rows);
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    int c = ((int)blockIdx.x * 32 + lane) * WIDTH;
    if (c >= s.channels) return;
    for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
        float d[WIDTH];
        load_floats<WIDTH>(d, d_y + row * s.channels + c);
#pragma unroll
        for (int k = 0; k < WIDTH; k++) d[k] /= (float)s.places;
        T *to = d_x + row * s.places * s.channels + c;
        for (int p = warp; p < s.places; p += WARPS) {
            float v[WIDTH] = {};
            if (accumulate) load_floats<WIDTH>(v, to + (int64_t)p * s.channels);
#pragma unroll
            for (int k = 0; k < WIDTH; k++) v[k] += d[k];
            store_floats<WIDTH>(to + (int64_t)p * s.channels, v);
        }
    }
}

shape shape_of(const tensor *x) {
    int64_t places = x->shape[1] * x->shape[2];
    CHECK(places < INT32_MAX / 2 && x->shape[3] < INT32_MAX / 2,
          "spatial_mean: more than 2^30 places or channels");
    return {row_count_of(x), (int)places, (int)x->shape[3]};
}

template <int WIDTH> dim3 grid_of(const shape &s) {
    int64_t most = 1 << 15;
    return dim3(((unsigned)s.channels + 32 * WIDTH - 1) / (32 * WIDTH),
                (unsigned)(s.rows.capacity < most ? s.rows.capacity : most));
}

template <int WIDTH, class T> void run_forward(const op_call *call, const shape &s) {
    LAUNCH(forward_kernel<WIDTH, T>, grid_of<WIDTH>(s), THREADS, 0, call->stream, tensor_as<T>(call->out[0]),
           tensor_as<T>(call->in[0]), s);
}

template <int WIDTH, class T> void run_backward(const op_call *call, const shape &s) {
    LAUNCH(backward_kernel<WIDTH, T>, grid_of<WIDTH>(s), THREADS, 0, call->stream,
           tensor_as<T>(call->d_in[0]), tensor_as<T>(call->d_out[0]), s, call->accumulate[0]);
}

void forward(const op_call *call) {
    dispatch_real(call->in[0]->type, [&](auto zero) {
        using T = decltype(zero);
        shape s = shape_of(call->in[0]);
        if (is_packable(tensor_as<T>(call->in[0]), s.channels) &&
            is_packable(tensor_as<T>(call->out[0]), s.channels))
            run_forward<vector_width<T>, T>(call, s);
        else
            run_forward<1, T>(call, s);
    });
}

void backward(const op_call *call) {
    if (!call->d_in[0]) return;
    dispatch_real(call->d_in[0]->type, [&](auto zero) {
        using T = decltype(zero);
        shape s = shape_of(call->in[0]);
        if (is_packable(tensor_as<T>(call->d_in[0]), s.channels) &&
            is_packable(tensor_as<T>(call->d_out[0]), s.channels))
            run_backward<vector_width<T>, T>(call, s);
        else
            run_backward<1, T>(call, s);
    });
}

const op_kernel parts = {"cuda_parts", forward, backward, nullptr};

} // namespace

extern "C" const op_kernel *const spatial_mean_cuda[] = {&parts, nullptr};
