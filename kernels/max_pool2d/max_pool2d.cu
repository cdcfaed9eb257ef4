/* max_pool2d: a thread takes one vector of channels of one pixel. Backward finds each window's maximum once, as the number of
 * its tap in scratch; then each pixel of x gathers from the windows that cover it. */
#include "cuda_common.cuh"

extern "C" {
#include "max_pool2d/max_pool2d.h"
}

namespace {

enum { THREADS = 256, SMALL_KERNEL = 16 }; /* up to which the number of a tap is a byte */

struct shape {
    row_count images;
    int height, width, channels; /* of x */
    int out_height, out_width;
    int kernel, stride, pad;
};

/* What of the window is known when compiling; 0: nothing. */
template <int KERNEL, int STRIDE> struct window {
    int kernel, stride, pad;
    __device__ explicit window(const shape &s)
        : kernel(KERNEL ? KERNEL : s.kernel), stride(STRIDE ? STRIDE : s.stride), pad(s.pad) {}
};

/* The maximum of the window of y's pixel (i, j) for WIDTH channels, and the number r * kernel + s of its tap: the first of equal
 * ones, the last NaN. `x` points to the channels in pixel (0, 0) of the image. Loads stand under a condition alone, so that those
 * of a row of taps go out together. */
template <int KERNEL, int STRIDE, int WIDTH, class T>
__device__ void find_maximum(float (&best)[WIDTH], int (&tap)[WIDTH], const T *x, const shape &s, int i,
                             int j) {
    window<KERNEL, STRIDE> w(s);
    int top = i * w.stride - w.pad, left = j * w.stride - w.pad;
#pragma unroll
    for (int k = 0; k < WIDTH; k++) best[k] = -INFINITY, tap[k] = -1;
#pragma unroll(KERNEL ? KERNEL : 1)
    for (int r = 0; r < w.kernel; r++) {
#pragma unroll(KERNEL ? KERNEL : 1)
        for (int c = 0; c < w.kernel; c++) {
            bool inside =
                (unsigned)(top + r) < (unsigned)s.height && (unsigned)(left + c) < (unsigned)s.width;
            packed<T, WIDTH> v = {};
            if (inside)
                v = *reinterpret_cast<const packed<T, WIDTH> *>(
                    x + ((int64_t)(top + r) * s.width + (left + c)) * s.channels);
#pragma unroll
            for (int k = 0; k < WIDTH; k++) {
                float value = to_float(v.v[k]);
                bool better = inside && (tap[k] < 0 || value > best[k] || value != value);
                best[k] = better ? value : best[k];
                tap[k] = better ? r * w.kernel + c : tap[k];
            }
        }
    }
}

/* Writes y, or the tap of each maximum where y is NULL. blockIdx.x: part of a row of y; rows over blockIdx.y. */
template <int KERNEL, int STRIDE, int WIDTH, class T, class TAP>
__global__ void __launch_bounds__(THREADS, 4)
    maximum_kernel(T *__restrict__ y, TAP *__restrict__ taps, const T *__restrict__ x, shape s) {
    unsigned rows = (unsigned)valid_rows(s.images) * (unsigned)s.out_height,
             row = (unsigned)(s.out_width * s.channels);
    for (unsigned at_row = blockIdx.y; at_row < rows; at_row += gridDim.y) {
        unsigned n = at_row / (unsigned)s.out_height, i = at_row - n * (unsigned)s.out_height;
        const T *image = x + (int64_t)n * s.height * s.width * s.channels;
        for (unsigned at = (blockIdx.x * THREADS + threadIdx.x) * WIDTH; at < row;
             at += gridDim.x * THREADS * WIDTH) {
            unsigned j = at / (unsigned)s.channels, c = at - j * (unsigned)s.channels;
            float best[WIDTH];
            int tap[WIDTH];
            find_maximum<KERNEL, STRIDE, WIDTH>(best, tap, image + c, s, (int)i, (int)j);
            int64_t to = (int64_t)at_row * row + at;
            if (y) {
                store_floats<WIDTH>(y + to, best);
                continue;
            }
            packed<TAP, WIDTH> found;
#pragma unroll
            for (int k = 0; k < WIDTH; k++) found.v[k] = (TAP)tap[k];
            *reinterpret_cast<packed<TAP, WIDTH> *>(taps + to) = found;
        }
    }
}

/* The windows along one axis that hold the pixel `at`: those from `first` on, `count` of them. */
struct covering {
    int first, count;
    template <int KERNEL, int STRIDE>
    __device__ covering(const window<KERNEL, STRIDE> &w, int at, int windows) {
        int last = (at + w.pad) / w.stride;
        first = at + w.pad < w.kernel ? 0 : (at + w.pad - w.kernel) / w.stride + 1;
        count = (last < windows ? last + 1 : windows) - first;
    }
};

/* Sum of what the windows around the pixel (r, column) of x bring to it; `taps` and `d_y` point to its channels in the first
 * pixel of the image. `taps` NULL: kernel 1, whose windows hold nothing else. */
template <int KERNEL, int STRIDE, int WIDTH, class T, class TAP>
__device__ void gather_pixel(float (&d)[WIDTH], const T *d_y, const TAP *taps, const shape &s, int r,
                             int column) {
    window<KERNEL, STRIDE> w(s);
    constexpr int most = KERNEL ? (KERNEL + STRIDE - 1) / STRIDE : 0;
    covering rows(w, r, s.out_height), columns(w, column, s.out_width);
#pragma unroll(most ? most : 1)
    for (int a = 0; a < (most ? most : rows.count); a++) {
        int i = rows.first + a;
#pragma unroll(most ? most : 1)
        for (int b = 0; b < (most ? most : columns.count); b++) {
            int j = columns.first + b;
            int64_t at = ((int64_t)i * s.out_width + j) * s.channels;
            int wanted = (r + w.pad - i * w.stride) * w.kernel + (column + w.pad - j * w.stride);
            bool inside = a < rows.count && b < columns.count;
            packed<T, WIDTH> g = {};
            packed<TAP, WIDTH> tap = {};
            if (inside) g = *reinterpret_cast<const packed<T, WIDTH> *>(d_y + at);
            if (inside && taps) tap = *reinterpret_cast<const packed<TAP, WIDTH> *>(taps + at);
#pragma unroll
            for (int k = 0; k < WIDTH; k++) d[k] += inside && tap.v[k] == wanted ? to_float(g.v[k]) : 0.0f;
        }
    }
}

/* blockIdx.x: part of a row of x; rows over blockIdx.y. */
template <int KERNEL, int STRIDE, int WIDTH, class T, class TAP>
__global__ void __launch_bounds__(THREADS, 4)
    gather_kernel(T *__restrict__ d_x, const T *__restrict__ d_y, const TAP *__restrict__ taps, shape s,
                  bool accumulate) {
    unsigned rows = (unsigned)valid_rows(s.images) * (unsigned)s.height,
             row = (unsigned)(s.width * s.channels);
    for (unsigned at_row = blockIdx.y; at_row < rows; at_row += gridDim.y) {
        unsigned n = at_row / (unsigned)s.height, r = at_row - n * (unsigned)s.height;
        int64_t image = (int64_t)n * s.out_height * s.out_width * s.channels;
        for (unsigned at = (blockIdx.x * THREADS + threadIdx.x) * WIDTH; at < row;
             at += gridDim.x * THREADS * WIDTH) {
            unsigned column = at / (unsigned)s.channels, c = at - column * (unsigned)s.channels;
            T *to = d_x + (int64_t)at_row * row + at;
            float d[WIDTH] = {};
            if (accumulate) load_floats<WIDTH>(d, to);
            gather_pixel<KERNEL, STRIDE, WIDTH>(d, d_y + image + c, taps ? taps + image + c : taps, s, (int)r,
                                                (int)column);
            store_floats<WIDTH>(to, d);
        }
    }
}

shape shape_of(const op_call *call) {
    const auto *p = static_cast<const max_pool2d_params *>(call->params);
    const tensor *x = call->in[MAX_POOL2D_X];
    const int64_t *in = x->shape, *out = call->out[0]->shape;
    CHECK(in[0] * in[1] < INT32_MAX && in[0] * out[1] < INT32_MAX && in[2] * in[3] < INT32_MAX &&
              out[2] * out[3] < INT32_MAX,
          "max_pool2d: a map of %lld x %lld x %lld x %lld", (long long)in[0], (long long)in[1],
          (long long)in[2], (long long)in[3]);
    return {row_count_of(x), (int)in[1], (int)in[2], (int)in[3], (int)out[1],
            (int)out[2],     p->kernel,  p->stride,  p->pad};
}

dim3 grid_of(int64_t rows, int64_t row, int width) {
    int64_t most = 1 << 15;
    return dim3(cuda_grid(row, THREADS * width), (unsigned)(rows < most ? rows : most));
}

/* One call with everything chosen that a template wants to know. */
template <int KERNEL, int STRIDE, int WIDTH, class T, class TAP> struct launcher {
    static void maximum(const op_call *call, T *y, TAP *taps) {
        shape s = shape_of(call);
        dim3 grid = grid_of(s.images.capacity * s.out_height, (int64_t)s.out_width * s.channels, WIDTH);
        LAUNCH(maximum_kernel<KERNEL, STRIDE, WIDTH, T, TAP>, grid, THREADS, 0, call->stream, y, taps,
               tensor_as<T>(call->in[MAX_POOL2D_X]), s);
    }
    static void forward(const op_call *call) { maximum(call, tensor_as<T>(call->out[0]), (TAP *)nullptr); }
    static void backward(const op_call *call) {
        shape s = shape_of(call);
        TAP *taps = s.kernel > 1 ? static_cast<TAP *>(call->scratch) : nullptr;
        if (taps) maximum(call, (T *)nullptr, taps);
        dim3 grid = grid_of(s.images.capacity * s.height, (int64_t)s.width * s.channels, WIDTH);
        LAUNCH(gather_kernel<KERNEL, STRIDE, WIDTH, T, TAP>, grid, THREADS, 0, call->stream,
               tensor_as<T>(call->d_in[MAX_POOL2D_X]), tensor_as<T>(call->d_out[0]), taps, s,
               call->accumulate[MAX_POOL2D_X]);
    }
};

/* Calls run(launcher) with the one for this call: the window of the stem (3, every 2) and the usual widths are compiled in. */
template <class T, class F> void choose(const op_call *call, bool wide, F run) {
    const auto *p = static_cast<const max_pool2d_params *>(call->params);
    constexpr int width = vector_width<T>;
    if (p->kernel > SMALL_KERNEL)
        run(launcher<0, 0, 1, T, uint16_t>());
    else if (!wide)
        run(launcher<0, 0, 1, T, uint8_t>());
    else if (p->kernel == 3 && p->stride == 2)
        run(launcher<3, 2, width, T, uint8_t>());
    else
        run(launcher<0, 0, width, T, uint8_t>());
}

void forward(const op_call *call) {
    const tensor *x = call->in[MAX_POOL2D_X];
    dispatch_real(x->type, [&](auto zero) {
        using T = decltype(zero);
        bool wide = is_packable(tensor_as<T>(x), x->shape[3]) && is_packable(tensor_as<T>(call->out[0]), 0);
        choose<T>(call, wide, [&](auto launch) { launch.forward(call); });
    });
}

void backward(const op_call *call) {
    const tensor *x = call->in[MAX_POOL2D_X], *d_x = call->d_in[MAX_POOL2D_X];
    if (!d_x) return;
    dispatch_real(x->type, [&](auto zero) {
        using T = decltype(zero);
        bool wide = is_packable(tensor_as<T>(x), x->shape[3]) && is_packable(tensor_as<T>(d_x), 0) &&
                    is_packable(tensor_as<T>(call->d_out[0]), 0);
        choose<T>(call, wide, [&](auto launch) { launch.backward(call); });
    });
}

size_t scratch_bytes(const op_call *call, bool backward_pass) {
    int kernel = static_cast<const max_pool2d_params *>(call->params)->kernel;
    if (!backward_pass || kernel == 1) return 0;
    return (size_t)tensor_count(call->out[0]) * (kernel > SMALL_KERNEL ? sizeof(uint16_t) : sizeof(uint8_t));
}

const op_kernel gather = {"cuda_gather", forward, backward, scratch_bytes};

} // namespace

extern "C" const op_kernel *const max_pool2d_cuda[] = {&gather, nullptr};
