/* conv_around.h: small kernels bound by memory. */
#include "conv_tiles.cuh"

extern "C" {
#include "conv_around.h"
}

namespace {

enum { THREADS = 256 };

template <int WIDTH, class T, class F>
__global__ void add_kernel(T *to, const F *from, int64_t count, bool accumulate) {
    for (int64_t i = global_thread(); i < count / WIDTH; i += global_threads()) {
        float sum[WIDTH], before[WIDTH];
        load_floats<WIDTH>(sum, from + i * WIDTH);
        if (accumulate) {
            load_floats<WIDTH>(before, to + i * WIDTH);
#pragma unroll
            for (int j = 0; j < WIDTH; j++) sum[j] += before[j];
        }
        store_floats<WIDTH>(to + i * WIDTH, sum);
    }
    int64_t i = count / WIDTH * WIDTH + global_thread();
    if (i < count) to[i] = from_float<T>(to_float(from[i]) + (accumulate ? to_float(to[i]) : 0.0f));
}

template <class T, class F>
void add(const op_call *call, T *to, const F *from, int64_t count, bool accumulate) {
    constexpr int width = 16 / (sizeof(T) > sizeof(F) ? sizeof(T) : sizeof(F));
    if (is_packable(to, 0) && is_packable(from, 0))
        LAUNCH(add_kernel<width, T, F>, cuda_grid(count, THREADS * width), THREADS, 0, call->stream, to, from,
               count, accumulate);
    else
        LAUNCH(add_kernel<1, T, F>, cuda_grid(count, THREADS), THREADS, 0, call->stream, to, from, count,
               accumulate);
}

template <class T>
__global__ void finish_kernel(T *y, const float *bias, const T *residual, row_count rows, int64_t row_size,
                              int channels, bool relu) {
    int64_t count = valid_rows(rows) * row_size;
    for (int64_t i = global_thread(); i < count; i += global_threads()) {
        float value = to_float(y[i]);
        if (bias) value += bias[i % channels];
        if (residual) value += to_float(residual[i]);
        y[i] = from_float<T>(relu && !(value > 0) ? 0.0f : value);
    }
}

/* WIDTH divides the channels, so a vector has one place in the bias. */
template <int WIDTH, class T>
__global__ void finish_vectors_kernel(T *y, const float *bias, const T *residual, row_count rows,
                                      int64_t row_vectors, unsigned channel_vectors, bool relu) {
    int64_t count = valid_rows(rows) * row_vectors;
    for (int64_t i = global_thread(); i < count; i += global_threads()) {
        float value[WIDTH], other[WIDTH];
        load_floats<WIDTH>(value, y + i * WIDTH);
        if (bias) {
            const float *of = bias + (unsigned)((uint32_t)i % channel_vectors) * WIDTH;
#pragma unroll
            for (int j = 0; j < WIDTH; j++) value[j] += of[j];
        }
        if (residual) {
            load_floats<WIDTH>(other, residual + i * WIDTH);
#pragma unroll
            for (int j = 0; j < WIDTH; j++) value[j] += other[j];
        }
#pragma unroll
        for (int j = 0; j < WIDTH; j++)
            if (relu && !(value[j] > 0)) value[j] = 0;
        store_floats<WIDTH>(y + i * WIDTH, value);
    }
}

__global__ void clear_tail_kernel(uint32_t *words, row_count rows, int64_t row_bytes) {
    unsigned char *bytes = reinterpret_cast<unsigned char *>(words);
    int64_t first = valid_rows(rows) * row_bytes, end = rows.capacity * row_bytes;
    int64_t first_word = (first + 3) / 4, end_word = end / 4;
    for (int64_t i = first_word + global_thread(); i < end_word; i += global_threads()) words[i] = 0;
    /* bytes before the first whole word and behind the last */
    int64_t i = global_thread();
    int64_t head_end = first_word * 4 < end ? first_word * 4 : end,
            tail = end_word * 4 > first ? end_word * 4 : first;
    if (i < 4 && first + i < head_end) bytes[first + i] = 0;
    if (i < 4 && tail + i < end) bytes[tail + i] = 0;
}

} // namespace

extern "C" {

void conv_around_receive(const op_call *call, const tensor *rows_of, int64_t pixels, int64_t channels,
                         const tensor *g, const tensor *y, int bias_input) {
    conv_tiles_receive(call, row_count_of(rows_of), pixels, channels, g, y, bias_input);
}

size_t conv_around_receive_scratch(const op_call *call, const tensor *rows_of, int64_t pixels,
                                   int64_t channels, int bias_input) {
    return conv_tiles_receive_scratch(call, row_count_of(rows_of), pixels, channels, bias_input);
}

void conv_around_add(const op_call *call, void *to, dtype to_type, const void *from, dtype from_type,
                     int64_t count, bool accumulate) {
    dispatch_real(to_type, [&](auto to_zero) {
        using T = decltype(to_zero);
        dispatch_real(from_type, [&](auto from_zero) {
            using F = decltype(from_zero);
            add(call, static_cast<T *>(to), static_cast<const F *>(from), count, accumulate);
        });
    });
}

void conv_around_convert(const op_call *call, void *to, dtype to_type, const void *from, dtype from_type,
                         int64_t count) {
    conv_around_add(call, to, to_type, from, from_type, count, false);
}

void conv_around_finish(const op_call *call, const tensor *y, const tensor *bias, const tensor *residual,
                        bool relu) {
    if (!bias && !residual && !relu) return;
    int64_t row_size = tensor_row_size(y), channels = y->shape[y->rank - 1];
    dispatch_real(y->type, [&](auto zero) {
        using T = decltype(zero);
        constexpr int width = vector_width<T>;
        T *to = tensor_as<T>(y);
        const T *other = tensor_as<T>(residual);
        if (is_packable(to, channels) && is_packable(other, 0) && tensor_count(y) / width <= UINT32_MAX)
            LAUNCH(finish_vectors_kernel<width, T>, cuda_grid(tensor_count(y), THREADS * width), THREADS, 0,
                   call->stream, to, tensor_as<float>(bias), other, row_count_of(y), row_size / width,
                   (unsigned)(channels / width), relu);
        else
            LAUNCH(finish_kernel<T>, cuda_grid(tensor_count(y), THREADS), THREADS, 0, call->stream, to,
                   tensor_as<float>(bias), other, row_count_of(y), row_size, (int)channels, relu);
    });
}

void conv_around_clear_tail(const op_call *call, const tensor *x) {
    if (!x->rows) return;
    LAUNCH(clear_tail_kernel, cuda_grid((int64_t)tensor_bytes(x) / 4 + 1, THREADS * 4), THREADS, 0,
           call->stream, static_cast<uint32_t *>(x->data), row_count_of(x),
           tensor_row_size(x) * (int64_t)dtype_size(x->type));
}

} // extern "C"
