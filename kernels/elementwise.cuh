/* Ops that work element by element, as one functor each: out[i] = f(i-th element of each input), in 16-byte vectors. */
#ifndef KERNELS_ELEMENTWISE_CUH
#define KERNELS_ELEMENTWISE_CUH

#include "cuda_common.cuh"

enum { ELEMENTWISE_THREADS = 256 };

/* f takes one float for each input. `b` is read only where INPUTS is 2. With `accumulate`, f's result is added to what is there. */
template <int INPUTS, int WIDTH, class O, class A, class B, class F>
__global__ void elementwise_kernel(O *out, const A *a, const B *b, row_count rows, int64_t row_size,
                                   bool accumulate, F f) {
    int64_t count = valid_rows(rows) * row_size, vectors = count / WIDTH;
    for (int64_t i = global_thread(); i < vectors; i += global_threads()) {
        float x[WIDTH], y[WIDTH], z[WIDTH];
        load_floats<WIDTH>(x, a + i * WIDTH);
        if constexpr (INPUTS == 2) load_floats<WIDTH>(y, b + i * WIDTH);
        if (accumulate) load_floats<WIDTH>(z, out + i * WIDTH);
#pragma unroll
        for (int k = 0; k < WIDTH; k++) {
            float value;
            if constexpr (INPUTS == 2)
                value = f(x[k], y[k]);
            else
                value = f(x[k]);
            z[k] = accumulate ? z[k] + value : value;
        }
        store_floats<WIDTH>(out + i * WIDTH, z);
    }
    int64_t i = vectors * WIDTH + global_thread(); /* the tail: fewer elements than a block has threads */
    if (i >= count) return;
    float value;
    if constexpr (INPUTS == 2)
        value = f(to_float(a[i]), to_float(b[i]));
    else
        value = f(to_float(a[i]));
    out[i] = from_float<O>(accumulate ? to_float(out[i]) + value : value);
}

/* out = f(a) or f(a, b) over the valid rows of `like`; `b` may be NULL. `out` may be one of the inputs. The types may differ. */
template <int INPUTS, class O, class A, class B, class F>
void elementwise(const op_call *call, O *out, const A *a, const B *b, const tensor *like, bool accumulate,
                 F f) {
    constexpr int largest = sizeof(O) > sizeof(A) ? (sizeof(O) > sizeof(B) ? sizeof(O) : sizeof(B))
                                                  : (sizeof(A) > sizeof(B) ? sizeof(A) : sizeof(B));
    constexpr int width = 16 / largest;
    int64_t count = tensor_count(like), row_size = tensor_row_size(like);
    row_count rows = row_count_of(like);
    bool wide = is_packable(out, 0) && is_packable(a, 0) && is_packable(b, 0);
    unsigned grid = cuda_grid(count, ELEMENTWISE_THREADS * (wide ? width : 1));
    if (wide)
        LAUNCH(elementwise_kernel<INPUTS, width, O, A, B, F>, grid, ELEMENTWISE_THREADS, 0, call->stream, out,
               a, b, rows, row_size, accumulate, f);
    else
        LAUNCH(elementwise_kernel<INPUTS, 1, O, A, B, F>, grid, ELEMENTWISE_THREADS, 0, call->stream, out, a,
               b, rows, row_size, accumulate, f);
}

#endif
