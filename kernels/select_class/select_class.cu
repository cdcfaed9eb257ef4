/* select_class: forward and an adding backward touch the row's class only; a backward that overwrites also clears the other
 * classes, in one pass of 16-byte stores. */
#include "cuda_common.cuh"

extern "C" {
#include "select_class/select_class.h"
}

namespace {

enum { THREADS = 256 };

/* Rows of `places` places, each of `channels` values in x and of `size` in y. */
struct shape {
    row_count rows;
    const int32_t *labels;
    int places, channels, size;
};

/* A block takes a row of the batch after the other, its threads the row's values. */
template <class T> __global__ void __launch_bounds__(THREADS) forward_kernel(T *y, const T *x, shape s) {
    int64_t rows = valid_rows(s.rows);
    unsigned values = (unsigned)s.places * (unsigned)s.size;
    for (int64_t m = blockIdx.x; m < rows; m += gridDim.x) {
        const T *from = x + m * s.places * s.channels + (int64_t)s.labels[m] * s.size;
        for (unsigned i = threadIdx.x; i < values; i += THREADS) {
            unsigned place = i / (unsigned)s.size, d = i - place * (unsigned)s.size;
            y[m * values + i] = from[(int64_t)place * s.channels + d];
        }
    }
}

template <class T> __global__ void __launch_bounds__(THREADS) add_kernel(T *d_x, const T *d_y, shape s) {
    int64_t rows = valid_rows(s.rows);
    unsigned values = (unsigned)s.places * (unsigned)s.size;
    for (int64_t m = blockIdx.x; m < rows; m += gridDim.x) {
        T *to = d_x + m * s.places * s.channels + (int64_t)s.labels[m] * s.size;
        for (unsigned i = threadIdx.x; i < values; i += THREADS) {
            unsigned place = i / (unsigned)s.size, d = i - place * (unsigned)s.size;
            T *out = to + (int64_t)place * s.channels + d;
            *out = from_float<T>(to_float(*out) + to_float(d_y[m * values + i]));
        }
    }
}

/* blockIdx.x: part of the row; rows over blockIdx.y. WIDTH divides the channels. */
template <int WIDTH, class T>
__global__ void __launch_bounds__(THREADS) overwrite_kernel(T *d_x, const T *d_y, shape s) {
    int64_t rows = valid_rows(s.rows);
    unsigned vectors = (unsigned)s.channels / WIDTH, count = (unsigned)s.places * vectors;
    for (int64_t m = blockIdx.y; m < rows; m += gridDim.y) {
        int first = s.labels[m] * s.size;
        const T *from = d_y + m * s.places * s.size;
        T *to = d_x + m * s.places * s.channels;
        for (unsigned i = blockIdx.x * THREADS + threadIdx.x; i < count; i += gridDim.x * THREADS) {
            unsigned place = i / vectors;
            int channel = (int)((i - place * vectors) * WIDTH);
            packed<T, WIDTH> v;
#pragma unroll
            for (int k = 0; k < WIDTH; k++) {
                int d = channel + k - first;
                v.v[k] = d >= 0 && d < s.size ? from[(int64_t)place * s.size + d] : from_float<T>(0.0f);
            }
            *reinterpret_cast<packed<T, WIDTH> *>(to + (int64_t)i * WIDTH) = v;
        }
    }
}

shape shape_of(const op_call *call) {
    const tensor *x = call->in[SELECT_X];
    int64_t channels = x->shape[x->rank - 1], places = channels ? tensor_row_size(x) / channels : 0;
    CHECK(places * channels < INT32_MAX, "select_class: rows of %lld values", (long long)(places * channels));
    return {row_count_of(x), tensor_i32(call->in[SELECT_LABELS]), (int)places, (int)channels,
            static_cast<const select_class_params *>(call->params)->size};
}

void forward(const op_call *call) {
    dispatch_real(op_storage_type(call), [&](auto zero) {
        using T = decltype(zero);
        shape s = shape_of(call);
        LAUNCH(forward_kernel<T>, cuda_grid(s.rows.capacity, 1), THREADS, 0, call->stream,
               tensor_as<T>(call->out[0]), tensor_as<T>(call->in[SELECT_X]), s);
    });
}

template <int WIDTH, class T> void overwrite(const op_call *call, const shape &s) {
    int64_t most = 1 << 15, vectors = (int64_t)s.places * s.channels / WIDTH;
    dim3 grid(cuda_grid(vectors, THREADS), (unsigned)(s.rows.capacity < most ? s.rows.capacity : most));
    LAUNCH(overwrite_kernel<WIDTH, T>, grid, THREADS, 0, call->stream, tensor_as<T>(call->d_in[SELECT_X]),
           tensor_as<T>(call->d_out[0]), s);
}

void backward(const op_call *call) {
    if (!call->d_in[SELECT_X]) return;
    dispatch_real(op_storage_type(call), [&](auto zero) {
        using T = decltype(zero);
        shape s = shape_of(call);
        T *d_x = tensor_as<T>(call->d_in[SELECT_X]), *d_y = tensor_as<T>(call->d_out[0]);
        if (call->accumulate[SELECT_X])
            LAUNCH(add_kernel<T>, cuda_grid(s.rows.capacity, 1), THREADS, 0, call->stream, d_x, d_y, s);
        else if (is_packable(d_x, s.channels))
            overwrite<vector_width<T>, T>(call, s);
        else
            overwrite<1, T>(call, s);
    });
}

const op_kernel own_class = {"cuda_own_class", forward, backward, nullptr};

} // namespace

extern "C" const op_kernel *const select_class_cuda[] = {&own_class, nullptr};
