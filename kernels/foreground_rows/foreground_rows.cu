/* foreground_rows: one block counts the places of all rows, then rows are copied in 16-byte vectors. */
#include "block_rank.cuh"

extern "C" {
#include "foreground_rows/foreground_rows.h"
}

namespace {

enum { THREADS = 256 };

/* places [capacity]: of each valid row of x its place in y, or -1. One block. */
__global__ void __launch_bounds__(THREADS)
    place_kernel(int32_t *places, const int32_t *labels, row_count rows) {
    int64_t count = valid_rows(rows);
    int before = 0;
    for (int64_t first = 0; first < count; first += THREADS) { /* the same in every thread */
        int64_t row = first + threadIdx.x;
        bool taken = row < count && labels[row] > 0;
        int total, rank = block_rank<THREADS>(taken, &total);
        if (row < count) places[row] = taken ? before + rank : -1;
        before += total;
    }
}

/* Grid: (parts of a row, rows). `size` in vectors of WIDTH. */
template <int WIDTH, class T>
__global__ void __launch_bounds__(THREADS)
    forward_kernel(T *y, const T *x, const int32_t *places, row_count counted, int64_t size) {
    int64_t rows = valid_rows(counted);
    using vector = packed<T, WIDTH>;
    for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
        int place = places[row];
        if (place < 0) continue;
        const vector *from = reinterpret_cast<const vector *>(x) + row * size;
        vector *to = reinterpret_cast<vector *>(y) + (int64_t)place * size;
        for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < size;
             i += (int64_t)gridDim.x * THREADS)
            to[i] = from[i];
    }
}

/* Likewise. */
template <int WIDTH, class T>
__global__ void __launch_bounds__(THREADS) backward_kernel(T *d_x, const T *d_y, const int32_t *places,
                                                           row_count counted, int64_t size, bool accumulate) {
    int64_t rows = valid_rows(counted);
    for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
        int place = places[row];
        if (place < 0 && accumulate) continue;
        for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < size;
             i += (int64_t)gridDim.x * THREADS) {
            float d[WIDTH] = {}, old[WIDTH];
            T *to = d_x + (row * size + i) * WIDTH;
            if (place >= 0) load_floats<WIDTH>(d, d_y + ((int64_t)place * size + i) * WIDTH);
            if (accumulate) {
                load_floats<WIDTH>(old, to);
#pragma unroll
                for (int k = 0; k < WIDTH; k++) d[k] += old[k];
            }
            store_floats<WIDTH>(to, d);
        }
    }
}

size_t scratch_bytes(const op_call *call, bool) {
    return (size_t)call->in[FOREGROUND_ROWS_LABELS]->shape[0] * sizeof(int32_t);
}

int32_t *find_places(const op_call *call) {
    int32_t *places = static_cast<int32_t *>(call->scratch);
    LAUNCH(place_kernel, 1u, THREADS, 0, call->stream, places, tensor_i32(call->in[FOREGROUND_ROWS_LABELS]),
           row_count_of(call->in[FOREGROUND_ROWS_X]));
    return places;
}

dim3 grid_of(const tensor *x, int64_t vectors) {
    int64_t most = 1 << 15, rows = x->shape[0], parts = (vectors + THREADS - 1) / THREADS;
    return dim3((unsigned)(parts < 64 ? parts : 64), (unsigned)(rows < most ? rows : most));
}

template <int WIDTH, class T> void run_forward(const op_call *call) {
    const tensor *x = call->in[FOREGROUND_ROWS_X];
    int64_t vectors = tensor_row_size(x) / WIDTH;
    int32_t *places = find_places(call);
    LAUNCH(forward_kernel<WIDTH, T>, grid_of(x, vectors), THREADS, 0, call->stream,
           tensor_as<T>(call->out[0]), tensor_as<T>(x), places, row_count_of(x), vectors);
}

template <int WIDTH, class T> void run_backward(const op_call *call) {
    const tensor *x = call->in[FOREGROUND_ROWS_X];
    int64_t vectors = tensor_row_size(x) / WIDTH;
    int32_t *places = find_places(call);
    LAUNCH(backward_kernel<WIDTH, T>, grid_of(x, vectors), THREADS, 0, call->stream,
           tensor_as<T>(call->d_in[FOREGROUND_ROWS_X]), tensor_as<T>(call->d_out[0]), places, row_count_of(x),
           vectors, call->accumulate[FOREGROUND_ROWS_X]);
}

void forward(const op_call *call) {
    dispatch_real(call->in[FOREGROUND_ROWS_X]->type, [&](auto zero) {
        using T = decltype(zero);
        int64_t size = tensor_row_size(call->in[FOREGROUND_ROWS_X]);
        if (is_packable(tensor_as<T>(call->in[FOREGROUND_ROWS_X]), size) &&
            is_packable(tensor_as<T>(call->out[0]), size))
            run_forward<vector_width<T>, T>(call);
        else
            run_forward<1, T>(call);
    });
}

void backward(const op_call *call) {
    if (!call->d_in[FOREGROUND_ROWS_X]) return;
    dispatch_real(call->d_in[FOREGROUND_ROWS_X]->type, [&](auto zero) {
        using T = decltype(zero);
        int64_t size = tensor_row_size(call->in[FOREGROUND_ROWS_X]);
        if (is_packable(tensor_as<T>(call->d_in[FOREGROUND_ROWS_X]), size) &&
            is_packable(tensor_as<T>(call->d_out[0]), size))
            run_backward<vector_width<T>, T>(call);
        else
            run_backward<1, T>(call);
    });
}

const op_kernel copied_rows = {"cuda_copied_rows", forward, backward, scratch_bytes};

} // namespace

extern "C" const op_kernel *const foreground_rows_cuda[] = {&copied_rows, nullptr};
