/* upsample_add: a thread takes one vector of channels of top and the four of y over it; one pass over memory in each
 * direction. */
#include "cuda_common.cuh"

extern "C" {
#include "upsample_add/upsample_add.h"
}

namespace {

enum { THREADS = 256 };

struct shape {
    row_count images;
    unsigned height, row; /* of top; elements of one of its rows */
    unsigned channels;
};

/* Elements of y over top's element `at` of a row; `line` is the width of a row of y in elements. */
struct corners {
    int64_t upper, next, line;
    __device__ corners(const shape &s, int64_t top_row, unsigned at) {
        unsigned column = at / s.channels;
        line = 2 * (int64_t)s.row;
        next = s.channels;
        upper = top_row * 2 * line + at + (int64_t)column * s.channels;
    }
    __device__ int64_t operator[](int k) const { return upper + (k & 1) * next + (k >> 1) * line; }
};

/* blockIdx.x: part of a row of top; rows over blockIdx.y. WIDTH divides the channels. */
template <int WIDTH, class T>
__global__ void __launch_bounds__(THREADS)
    forward_kernel(T *__restrict__ y, const T *__restrict__ top, const T *__restrict__ lateral, shape s) {
    int64_t rows = valid_rows(s.images) * s.height;
    for (int64_t r = blockIdx.y; r < rows; r += gridDim.y) {
        for (unsigned at = (blockIdx.x * THREADS + threadIdx.x) * WIDTH; at < s.row;
             at += gridDim.x * THREADS * WIDTH) {
            corners c(s, r, at);
            float t[WIDTH], v[4][WIDTH];
            load_floats<WIDTH>(t, top + r * s.row + at);
#pragma unroll
            for (int k = 0; k < 4; k++) load_floats<WIDTH>(v[k], lateral + c[k]);
#pragma unroll
            for (int k = 0; k < 4; k++) {
#pragma unroll
                for (int i = 0; i < WIDTH; i++) v[k][i] += t[i];
                store_floats<WIDTH>(y + c[k], v[k]);
            }
        }
    }
}

/* d_top and d_lateral may be NULL; d_lateral is not d_y. */
template <int WIDTH, class T>
__global__ void __launch_bounds__(THREADS)
    backward_kernel(T *__restrict__ d_top, T *__restrict__ d_lateral, const T *__restrict__ d_y, shape s,
                    bool add_to_top, bool add_to_lateral) {
    int64_t rows = valid_rows(s.images) * s.height;
    for (int64_t r = blockIdx.y; r < rows; r += gridDim.y) {
        for (unsigned at = (blockIdx.x * THREADS + threadIdx.x) * WIDTH; at < s.row;
             at += gridDim.x * THREADS * WIDTH) {
            corners c(s, r, at);
            float g[4][WIDTH], d[WIDTH];
#pragma unroll
            for (int k = 0; k < 4; k++) load_floats<WIDTH>(g[k], d_y + c[k]);
            if (d_top) {
                if (add_to_top) load_floats<WIDTH>(d, d_top + r * s.row + at);
#pragma unroll
                for (int i = 0; i < WIDTH; i++) {
                    float sum = (g[0][i] + g[1][i]) + (g[2][i] + g[3][i]);
                    d[i] = add_to_top ? d[i] + sum : sum;
                }
                store_floats<WIDTH>(d_top + r * s.row + at, d);
            }
            if (!d_lateral) continue;
#pragma unroll
            for (int k = 0; k < 4; k++) {
                if (add_to_lateral) load_floats<WIDTH>(d, d_lateral + c[k]);
#pragma unroll
                for (int i = 0; i < WIDTH; i++) d[i] = add_to_lateral ? d[i] + g[k][i] : g[k][i];
                store_floats<WIDTH>(d_lateral + c[k], d);
            }
        }
    }
}

shape shape_of(const op_call *call) {
    const tensor *top = call->in[UPSAMPLE_ADD_TOP];
    int64_t row = top->shape[2] * top->shape[3];
    CHECK(row < INT32_MAX, "upsample_add: a row of %lld values", (long long)row);
    return {row_count_of(call->out[0]), (unsigned)top->shape[1], (unsigned)row, (unsigned)top->shape[3]};
}

dim3 grid_of(const shape &s, int width) {
    int64_t rows = s.images.capacity * s.height, most = 1 << 15;
    return dim3(cuda_grid(s.row, THREADS * width), (unsigned)(rows < most ? rows : most));
}

template <int WIDTH, class T> void launch_forward(const op_call *call) {
    shape s = shape_of(call);
    LAUNCH(forward_kernel<WIDTH, T>, grid_of(s, WIDTH), THREADS, 0, call->stream, tensor_as<T>(call->out[0]),
           tensor_as<T>(call->in[UPSAMPLE_ADD_TOP]), tensor_as<T>(call->in[UPSAMPLE_ADD_LATERAL]), s);
}

template <int WIDTH, class T> void launch_backward(const op_call *call, T *d_top, T *d_lateral, T *d_y) {
    shape s = shape_of(call);
    LAUNCH(backward_kernel<WIDTH, T>, grid_of(s, WIDTH), THREADS, 0, call->stream, d_top, d_lateral, d_y, s,
           call->accumulate[UPSAMPLE_ADD_TOP], call->accumulate[UPSAMPLE_ADD_LATERAL]);
}

void forward(const op_call *call) {
    const tensor *top = call->in[UPSAMPLE_ADD_TOP], *lateral = call->in[UPSAMPLE_ADD_LATERAL];
    dispatch_real(top->type, [&](auto zero) {
        using T = decltype(zero);
        bool wide = is_packable(tensor_as<T>(top), top->shape[3]) && is_packable(tensor_as<T>(lateral), 0) &&
                    is_packable(tensor_as<T>(call->out[0]), 0);
        wide ? launch_forward<vector_width<T>, T>(call) : launch_forward<1, T>(call);
    });
}

void backward(const op_call *call) {
    const tensor *top = call->in[UPSAMPLE_ADD_TOP];
    dispatch_real(top->type, [&](auto zero) {
        using T = decltype(zero);
        T *d_y = tensor_as<T>(call->d_out[0]), *d_top = tensor_as<T>(call->d_in[UPSAMPLE_ADD_TOP]),
          *d_lateral = tensor_as<T>(call->d_in[UPSAMPLE_ADD_LATERAL]);
        if (d_lateral == d_y) d_lateral = nullptr; /* shared: it is there already */
        if (!d_top && !d_lateral) return;
        bool wide = is_packable(d_top, top->shape[3]) && is_packable(d_lateral, 0) && is_packable(d_y, 0);
        wide ? launch_backward<vector_width<T>, T>(call, d_top, d_lateral, d_y)
             : launch_backward<1, T>(call, d_top, d_lateral, d_y);
    });
}

const op_kernel vectors = {"cuda_vectors", forward, backward, nullptr};

} // namespace

extern "C" const op_kernel *const upsample_add_cuda[] = {&vectors, nullptr};
