/* class_logits: memory is all that it costs. Forward reads x once; backward reads x and writes d_x in one pass that also adds
 * up x for the weight, in slices of each row that a second kernel collects for each class. */
#include "cuda_common.cuh"

extern "C" {
#include "class_logits/class_logits.h"
}

namespace {

enum {
    THREADS = 256,
    WARPS = THREADS / 32,
    SIDE_BY_SIDE = 4, /* places of a warp that are on their way at once */
    LEAST_PLACES = 64 /* of a slice */
};
constexpr int64_t MOST_SLICES = 4;

/* Rows of `places` places of `channels` values, cut into slices of `slice` places. */
struct shape {
    row_count rows;
    const int32_t *labels;
    int places, channels, slices, slice;
};

/* Grid: (slices, rows). A warp takes four places after the other. */
template <int WIDTH, class T>
__global__ void __launch_bounds__(THREADS)
    forward_kernel(float *y, const T *x, const T *weight, const float *bias, shape s) {
    int64_t rows = valid_rows(s.rows);
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
        const T *w = weight + (int64_t)s.labels[row] * s.channels, *from = x + row * s.places * s.channels;
        float start = bias[s.labels[row]];
        int first = (int)blockIdx.x * s.slice, end = min(first + s.slice, s.places);
        for (int p = first + warp * SIDE_BY_SIDE; p < end; p += WARPS * SIDE_BY_SIDE) {
            float sum[SIDE_BY_SIDE] = {};
            for (int c = lane * WIDTH; c < s.channels; c += 32 * WIDTH) {
                float of_class[WIDTH], v[SIDE_BY_SIDE][WIDTH];
                load_floats<WIDTH>(of_class, w + c);
#pragma unroll
                for (int i = 0; i < SIDE_BY_SIDE; i++)
                    load_floats<WIDTH>(v[i], from + (int64_t)min(p + i, end - 1) * s.channels + c);
#pragma unroll
                for (int i = 0; i < SIDE_BY_SIDE; i++)
#pragma unroll
                    for (int k = 0; k < WIDTH; k++) sum[i] += v[i][k] * of_class[k];
            }
#pragma unroll
            for (int i = 0; i < SIDE_BY_SIDE; i++) {
                sum[i] = warp_sum(sum[i]);
                if (lane == i && p + i < end) y[row * s.places + p + i] = start + sum[i];
            }
        }
    }
}

/* One place's channels c .. c + WIDTH - 1: its share of d_x, and of the sums. d_x and x may be NULL. */
template <int WIDTH, class T>
__device__ void take_place(float (&sum)[WIDTH], T *d_x, const T *x, const float (&of_class)[WIDTH], float g,
                           bool accumulate) {
    if (d_x) {
        float d[WIDTH] = {};
        if (accumulate) load_floats<WIDTH>(d, d_x);
#pragma unroll
        for (int k = 0; k < WIDTH; k++) d[k] += g * of_class[k];
        store_floats<WIDTH>(d_x, d);
    }
    if (x) {
        float v[WIDTH];
        load_floats<WIDTH>(v, x);
#pragma unroll
        for (int k = 0; k < WIDTH; k++) sum[k] += g * v[k];
    }
}

/* Grid: (slices, rows). sums [rows,slices,channels+1]: of d_y x, then of d_y; NULL: not wanted. d_x may be NULL. */
template <int WIDTH, class T>
__global__ void __launch_bounds__(THREADS) backward_kernel(T *d_x, float *sums, const float *d_y, const T *x,
                                                           const T *weight, shape s, bool accumulate) {
    SHARED_ARRAY(float, of_warps, THREADS *WIDTH);
    int64_t rows = valid_rows(s.rows);
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
        const T *w = weight + (int64_t)s.labels[row] * s.channels;
        const float *g = d_y + row * s.places;
        int first = (int)blockIdx.x * s.slice, end = min(first + s.slice, s.places);
        for (int base = 0; base < s.channels; base += 32 * WIDTH) { /* the same in every thread */
            int c = base + lane * WIDTH;
            float sum[WIDTH] = {};
            if (c < s.channels) {
                float of_class[WIDTH];
                load_floats<WIDTH>(of_class, w + c);
                int64_t at = (row * s.places + first + warp) * s.channels + c,
                        step = (int64_t)WARPS * s.channels;
#pragma unroll 2
                for (int p = first + warp; p < end; p += WARPS, at += step)
                    take_place<WIDTH>(sum, d_x ? d_x + at : nullptr, sums ? x + at : nullptr, of_class, g[p],
                                      accumulate);
            }
            if (!sums) continue;
            float *to = sums + (row * s.slices + blockIdx.x) * (s.channels + 1);
#pragma unroll
            for (int k = 0; k < WIDTH; k++) of_warps[threadIdx.x * WIDTH + k] = sum[k];
            __syncthreads();
            for (int i = (int)threadIdx.x; i < 32 * WIDTH && base + i < s.channels; i += THREADS) {
                float all = 0;
                for (int other = 0; other < WARPS; other++) all += of_warps[other * 32 * WIDTH + i];
                to[base + i] = all;
            }
            __syncthreads();
        }
        if (!sums) continue;
        float of_bias = 0;
        for (int p = first + (int)threadIdx.x; p < end; p += THREADS) of_bias += g[p];
        of_bias = block_sum<THREADS>(of_bias);
        if (threadIdx.x == 0) sums[(row * s.slices + blockIdx.x + 1) * (s.channels + 1) - 1] = of_bias;
    }
}

/* Grid: (classes, channels and the bias). Rows are added in their order. */
__global__ void __launch_bounds__(THREADS)
    class_kernel(gradient_sink d_weight, gradient_sink d_bias, const float *sums, shape s) {
    SHARED_ARRAY(int, labels, THREADS);
    int label = (int)blockIdx.x, channel = (int)(blockIdx.y * THREADS + threadIdx.x),
        rows = (int)valid_rows(s.rows);
    float sum = 0;
    for (int first = 0; first < rows; first += THREADS) {
        int count = min((int)THREADS, rows - first);
        if ((int)threadIdx.x < count) labels[threadIdx.x] = s.labels[first + (int)threadIdx.x];
        __syncthreads();
        for (int i = 0; i < count; i++) {
            if (labels[i] != label || channel > s.channels) continue;
            const float *from = sums + (int64_t)(first + i) * s.slices * (s.channels + 1) + channel;
            for (int slice = 0; slice < s.slices; slice++) sum += from[(int64_t)slice * (s.channels + 1)];
        }
        __syncthreads();
    }
    if (channel < s.channels && d_weight.data) d_weight.put((int64_t)label * s.channels + channel, sum);
    if (channel == s.channels && d_bias.data) d_bias.put(label, sum);
}

/* ---- host ----------------------------------------------------------------------------------------------- */

shape shape_of(const op_call *call) {
    const tensor *x = call->in[CLASS_LOGITS_X];
    int64_t places = x->shape[1] * x->shape[2];
    CHECK(places < INT32_MAX / 2 && x->shape[3] < INT32_MAX / 2 && x->shape[0] < INT32_MAX / 2,
          "class_logits: more than 2^30 rows, places or channels");
    int64_t slices = places / LEAST_PLACES;
    slices = slices < 1 ? 1 : slices < MOST_SLICES ? slices : MOST_SLICES;
    return {row_count_of(x), tensor_i32(call->in[CLASS_LOGITS_LABELS]), (int)places, (int)x->shape[3],
            (int)slices,     (int)((places + slices - 1) / slices)};
}

dim3 grid_of(const shape &s) {
    int64_t most = 1 << 15;
    return dim3((unsigned)s.slices, (unsigned)(s.rows.capacity < most ? s.rows.capacity : most));
}

bool wants_sums(const op_call *call) {
    return call->d_in[CLASS_LOGITS_WEIGHT] || call->d_in[CLASS_LOGITS_BIAS];
}

void forward(const op_call *call) {
    dispatch_real(call->in[CLASS_LOGITS_X]->type, [&](auto zero) {
        using T = decltype(zero);
        shape s = shape_of(call);
        float *y = tensor_as<float>(call->out[0]);
        const float *bias = tensor_as<float>(call->in[CLASS_LOGITS_BIAS]);
        const T *x = tensor_as<T>(call->in[CLASS_LOGITS_X]), *w = tensor_as<T>(call->in[CLASS_LOGITS_WEIGHT]);
        if (is_packable(x, s.channels) && is_packable(w, s.channels))
            LAUNCH((forward_kernel<vector_width<T>, T>), grid_of(s), THREADS, 0, call->stream, y, x, w, bias,
                   s);
        else
            LAUNCH((forward_kernel<1, T>), grid_of(s), THREADS, 0, call->stream, y, x, w, bias, s);
    });
}

gradient_sink sink_or_none(const op_call *call, int input) {
    return call->d_in[input] ? gradient_sink_of(call, input) : gradient_sink{nullptr, DTYPE_F32, false};
}

void backward(const op_call *call) {
    shape s = shape_of(call);
    float *sums = wants_sums(call) ? static_cast<float *>(call->scratch) : nullptr;
    dispatch_real(call->in[CLASS_LOGITS_X]->type, [&](auto zero) {
        using T = decltype(zero);
        const float *d_y = tensor_as<float>(call->d_out[0]);
        T *d_x = tensor_as<T>(call->d_in[CLASS_LOGITS_X]);
        const T *x = tensor_as<T>(call->in[CLASS_LOGITS_X]), *w = tensor_as<T>(call->in[CLASS_LOGITS_WEIGHT]);
        bool accumulate = call->accumulate[CLASS_LOGITS_X];
        if (is_packable(x, s.channels) && is_packable(w, s.channels) && is_packable(d_x, s.channels))
            LAUNCH((backward_kernel<vector_width<T>, T>), grid_of(s), THREADS, 0, call->stream, d_x, sums,
                   d_y, x, w, s, accumulate);
        else
            LAUNCH((backward_kernel<1, T>), grid_of(s), THREADS, 0, call->stream, d_x, sums, d_y, x, w, s,
                   accumulate);
    });
    if (!wants_sums(call)) return;
    dim3 grid((unsigned)call->in[CLASS_LOGITS_WEIGHT]->shape[0], (unsigned)(s.channels / THREADS + 1));
    LAUNCH(class_kernel, grid, THREADS, 0, call->stream, sink_or_none(call, CLASS_LOGITS_WEIGHT),
           sink_or_none(call, CLASS_LOGITS_BIAS), sums, s);
}

size_t scratch_bytes(const op_call *call, bool backward_too) {
    if (!backward_too || !wants_sums(call)) return 0;
    shape s = shape_of(call);
    return (size_t)(s.rows.capacity * s.slices * (s.channels + 1)) * sizeof(float);
}

const op_kernel own_class = {"cuda_own_class", forward, backward, scratch_bytes};

} // namespace

extern "C" const op_kernel *const class_logits_cuda[] = {&own_class, nullptr};
