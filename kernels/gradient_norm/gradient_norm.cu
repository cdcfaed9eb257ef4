/* gradient_norm: a block adds up each tile, then one block the tiles of each parameter (a warp for each) and all parameters. */
#include "cuda_common.cuh"

extern "C" {
#include "gradient_norm/gradient_norm.h"
}

namespace {

enum { TILE_THREADS = 256, JUDGE_THREADS = 1024, JUDGE_WARPS = JUDGE_THREADS / 32 };

struct sums {
    double squares, powers; /* sum g^2; sum |g|^p, or the largest |g| */
};

/* Which powers are wanted beside the squares. */
enum power_kind { POWER_NONE, POWER_SUM, POWER_LARGEST };

__device__ double join_powers(double a, double b, power_kind kind) {
    return kind != POWER_LARGEST ? a + b : a != a || b <= a ? a : b; /* keeps a NaN, as the squares do */
}

__device__ void look_at(sums *s, float g, power_kind kind, double p) {
    s->squares += (double)g * (double)g;
    if (kind == POWER_SUM) s->powers += pow(fabs((double)g), p);
    if (kind == POWER_LARGEST) s->powers = join_powers(s->powers, fabs((double)g), kind);
}

template <class T>
__global__ void __launch_bounds__(TILE_THREADS)
    tile_kernel(sums *out, const T *gradients, const int32_t *tiles, power_kind kind, double p) {
    constexpr int WIDTH = vector_width<T>;
    const int32_t *tile = tiles + GRADIENT_TILE_INTS * blockIdx.x;
    const T *g = gradients + tile[1];
    int count = tile[2], vectors = reinterpret_cast<uintptr_t>(g) % 16 == 0 ? count / WIDTH : 0;
    sums own = {0, 0};
    for (int i = (int)threadIdx.x; i < vectors; i += TILE_THREADS) {
        float v[WIDTH];
        load_floats<WIDTH>(v, g + (int64_t)i * WIDTH);
#pragma unroll
        for (int k = 0; k < WIDTH; k++) look_at(&own, v[k], kind, p);
    }
    for (int i = vectors * WIDTH + (int)threadIdx.x; i < count; i += TILE_THREADS)
        look_at(&own, to_float(g[i]), kind, p);
    own.squares = block_sum<TILE_THREADS>(own.squares);
    own.powers =
        kind == POWER_LARGEST ? block_largest<TILE_THREADS>(own.powers) : block_sum<TILE_THREADS>(own.powers);
    if (threadIdx.x == 0) out[blockIdx.x] = own;
}

struct judge_args {
    const sums *tiles;
    const int32_t *spans;
    int params, losses_count, clip, growth_interval;
    bool dynamic_scale;
    power_kind kind;
    double clip_value, norm_type;
    const float *losses, *state;
    double *norm;
    float *factors, *verdict, *next;
};

__device__ double clip_factor(double limit, double norm) {
    return fmin(1.0, limit / (norm + 1e-6));
}

__device__ void judge(const judge_args &a, bool is_bad, int culprit) {
    float scale = a.state[GRADIENT_STATE_SCALE], good = a.state[GRADIENT_STATE_GOOD],
          stopped = a.state[GRADIENT_STATE_STOPPED], skipped = a.state[GRADIENT_STATE_SKIPPED];
    a.verdict[GRADIENT_VERDICT_SCALE] = scale;
    if (is_bad && (!a.dynamic_scale || scale <= 1)) stopped = 1;
    if (is_bad || stopped != 0) {
        skipped += 1;
        good = 0;
        if (stopped == 0) scale /= 2;
    } else if (a.dynamic_scale && ++good >= (float)a.growth_interval) {
        good = 0;
        if (scale < GRADIENT_LARGEST_SCALE) scale *= 2;
    }
    a.verdict[GRADIENT_VERDICT_ACTION] = (float)(stopped != 0 ? GRADIENT_STOP
                                                 : is_bad     ? GRADIENT_SKIP
                                                              : GRADIENT_TAKE);
    a.verdict[GRADIENT_VERDICT_CULPRIT] = (float)culprit;
    a.verdict[GRADIENT_VERDICT_SKIPPED] = a.next[GRADIENT_STATE_SKIPPED] = skipped;
    a.next[GRADIENT_STATE_SCALE] = scale;
    a.next[GRADIENT_STATE_GOOD] = good;
    a.next[GRADIENT_STATE_STOPPED] = stopped;
}

/* One block. */
__global__ void __launch_bounds__(JUDGE_THREADS) judge_kernel(judge_args a) {
    int lane = (int)threadIdx.x % 32, bad = INT32_MAX;
    double scale = (double)a.state[GRADIENT_STATE_SCALE], squares = 0;
    for (int i = (int)threadIdx.x / 32; i < a.params; i += JUDGE_WARPS) {
        const int32_t *span = a.spans + GRADIENT_SPAN_INTS * i;
        sums own = {0, 0};
        for (int t = lane; t < span[1]; t += 32) {
            sums tile = a.tiles[span[0] + t];
            own.squares += tile.squares;
            own.powers = join_powers(own.powers, tile.powers, a.kind);
        }
        own.squares = warp_sum(own.squares);
        own.powers = a.kind == POWER_LARGEST ? warp_largest(own.powers) : warp_sum(own.powers);
        if (!isfinite(own.squares) && bad == INT32_MAX) bad = i;
        squares += own.squares;
        if (a.clip == GRADIENT_CLIP_EACH && lane == 0) {
            double norm = a.kind == POWER_NONE      ? sqrt(own.squares)
                          : a.kind == POWER_LARGEST ? own.powers
                                                    : pow(own.powers, 1 / a.norm_type);
            a.factors[i] = (float)(clip_factor(a.clip_value, norm / scale) / scale);
        }
    }
    squares = block_sum<JUDGE_THREADS>(lane == 0 ? squares : 0.0); /* all lanes of a warp hold its sum */
    bad = -block_largest<JUDGE_THREADS>(-bad);
    int is_bad = 0;
    for (int i = (int)threadIdx.x; i < a.losses_count; i += JUDGE_THREADS) is_bad |= !isfinite(a.losses[i]);
    is_bad = block_largest<JUDGE_THREADS>(is_bad | (bad != INT32_MAX));
    double norm = sqrt(squares) / scale;
    double all = (a.clip == GRADIENT_CLIP_ALL ? clip_factor(a.clip_value, norm) : 1.0) / scale;
    for (int i = (int)threadIdx.x; i < a.params && a.clip != GRADIENT_CLIP_EACH; i += JUDGE_THREADS)
        a.factors[i] = (float)all;
    if (threadIdx.x > 0) return; /* every thread has read the state before the last sum */
    *a.norm = isfinite(norm) ? norm : -1;
    judge(a, is_bad != 0, bad == INT32_MAX ? -1 : bad);
}

size_t scratch_bytes(const op_call *call, bool) {
    return (size_t)call->in[GRADIENT_NORM_TILES]->shape[0] * sizeof(sums);
}

power_kind powers_of(const gradient_norm_params *p) {
    if (p->clip != GRADIENT_CLIP_EACH || p->norm_type == 2) return POWER_NONE;
    return isinf(p->norm_type) ? POWER_LARGEST : POWER_SUM;
}

void forward(const op_call *call) {
    const auto *p = static_cast<const gradient_norm_params *>(call->params);
    const tensor *g = call->in[GRADIENT_NORM_GRADIENTS], *tiles = call->in[GRADIENT_NORM_TILES],
                 *losses = call->in[GRADIENT_NORM_LOSSES];
    auto *partial = static_cast<sums *>(call->scratch);
    power_kind kind = powers_of(p);
    dispatch_real(g->type, [&](auto zero) {
        using T = decltype(zero);
        LAUNCH(tile_kernel<T>, (unsigned)tiles->shape[0], TILE_THREADS, 0, call->stream, partial,
               tensor_as<T>(g), tensor_i32(tiles), kind, p->norm_type);
    });
    judge_args a = {};
    a.tiles = partial;
    a.spans = tensor_i32(call->in[GRADIENT_NORM_SPANS]);
    a.params = (int)call->in[GRADIENT_NORM_SPANS]->shape[0];
    a.losses = tensor_as<float>(losses);
    a.losses_count = losses ? (int)losses->shape[0] : 0;
    a.clip = p->clip;
    a.growth_interval = p->growth_interval;
    a.dynamic_scale = p->dynamic_scale;
    a.kind = kind;
    a.clip_value = p->clip_value;
    a.norm_type = p->norm_type;
    a.state = tensor_f32(call->in[GRADIENT_NORM_STATE]);
    a.norm = tensor_as<double>(call->out[0]);
    a.factors = tensor_f32(call->out[1]);
    a.verdict = tensor_f32(call->out[2]);
    a.next = tensor_f32(call->out[3]);
    LAUNCH(judge_kernel, 1, JUDGE_THREADS, 0, call->stream, a);
}

const op_kernel tiles_then_one = {"cuda_tiles_then_one", forward, nullptr, scratch_bytes};

} // namespace

extern "C" const op_kernel *const gradient_norm_cuda[] = {&tiles_then_one, nullptr};
