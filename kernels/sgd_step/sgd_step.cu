/* sgd_step: a block for each tile, every buffer read and written once in 16-byte vectors. */
#include "cuda_common.cuh"

extern "C" {
#include "sgd_step/sgd_step.h"
}

namespace {

enum { THREADS = 256 };

template <class T> struct step_args {
    const T *gradients;
    const float *values, *momentum, *groups, *factors, *rates, *verdict;
    const int32_t *tiles;
    float *new_values, *new_momentum;
    T *copies; /* NULL: none */
    float clip_value;
};

struct step_rule {
    float decay, lr, momentum, factor, limit;
    bool is_skipped;

    __device__ void apply(float *w, float *v, float g) const {
        if (is_skipped) return;
        float x = factor * g;
        if (limit > 0) x = x < -limit ? -limit : x > limit ? limit : x;
        *v = momentum * *v + (x + decay * *w);
        *w -= lr * *v;
    }
};

/* Elements i to i + N - 1. */
template <int N, class T> __device__ void step(const step_args<T> &a, const step_rule &rule, int64_t i) {
    constexpr int PART = N < 4 ? N : 4; /* floats of 16 bytes */
    float g[N], w[N], v[N];
    load_floats<N>(g, a.gradients + i);
#pragma unroll
    for (int k = 0; k < N; k += PART) {
        load_floats<PART>(*reinterpret_cast<float(*)[PART]>(w + k), a.values + i + k);
        load_floats<PART>(*reinterpret_cast<float(*)[PART]>(v + k), a.momentum + i + k);
    }
#pragma unroll
    for (int k = 0; k < N; k++) rule.apply(&w[k], &v[k], g[k]);
#pragma unroll
    for (int k = 0; k < N; k += PART) {
        store_floats<PART>(a.new_values + i + k, *reinterpret_cast<const float(*)[PART]>(w + k));
        store_floats<PART>(a.new_momentum + i + k, *reinterpret_cast<const float(*)[PART]>(v + k));
    }
    if (a.copies) store_floats<N>(a.copies + i, w);
}

template <class T> __global__ void __launch_bounds__(THREADS) step_kernel(step_args<T> a, bool wide) {
    constexpr int WIDTH = vector_width<T>;
    const int32_t *tile = a.tiles + SGD_STEP_TILE_INTS * blockIdx.x;
    const float *group = a.groups + SGD_STEP_GROUP_FLOATS * tile[0];
    step_rule rule = {group[0],           a.rates[0] * group[1], a.rates[1],
                      a.factors[tile[0]], a.clip_value,          a.verdict[0] != 0};
    int64_t begin = tile[1];
    int count = tile[2], vectors = wide && begin % WIDTH == 0 ? count / WIDTH : 0;
    for (int i = (int)threadIdx.x; i < vectors; i += THREADS)
        step<WIDTH>(a, rule, begin + (int64_t)i * WIDTH);
    for (int i = vectors * WIDTH + (int)threadIdx.x; i < count; i += THREADS) step<1>(a, rule, begin + i);
}

void forward(const op_call *call) {
    const auto *p = static_cast<const sgd_step_params *>(call->params);
    const tensor *g = call->in[SGD_STEP_GRADIENTS];
    dispatch_real(g->type, [&](auto zero) {
        using T = decltype(zero);
        step_args<T> a = {};
        a.gradients = tensor_as<T>(g);
        a.values = tensor_f32(call->in[SGD_STEP_VALUES]);
        a.momentum = tensor_f32(call->in[SGD_STEP_MOMENTUM]);
        a.groups = tensor_f32(call->in[SGD_STEP_GROUPS]);
        a.factors = tensor_f32(call->in[SGD_STEP_FACTORS]);
        a.rates = tensor_f32(call->in[SGD_STEP_RATES]);
        a.verdict = tensor_f32(call->in[SGD_STEP_VERDICT]);
        a.tiles = tensor_i32(call->in[SGD_STEP_TILES]);
        a.new_values = tensor_f32(call->out[0]);
        a.new_momentum = tensor_f32(call->out[1]);
        a.copies = p->copies ? tensor_as<T>(call->out[2]) : nullptr;
        a.clip_value = (float)p->clip_value;
        bool wide = is_packable(a.gradients, 0) && is_packable(a.values, 0) && is_packable(a.momentum, 0) &&
                    is_packable(a.new_values, 0) && is_packable(a.new_momentum, 0) &&
                    is_packable(a.copies, 0);
        LAUNCH(step_kernel<T>, (unsigned)call->in[SGD_STEP_TILES]->shape[0], THREADS, 0, call->stream, a,
               wide);
    });
}

const op_kernel vectors = {"cuda_vectors", forward, nullptr, nullptr};

} // namespace

extern "C" const op_kernel *const sgd_step_cuda[] = {&vectors, nullptr};
