/* gradient_norm; built for float and for double (training uses float). */
#include "gradient_norm/gradient_norm.h"

#include "base/thread_pool.h"

#include <math.h>

enum { LANES = 8 };

/* Of one tile; then of one parameter. */
typedef struct sums {
    double squares, powers; /* sum g^2; sum |g|^p, or the largest |g| */
} sums;

/* Several sums side by side, joined in fixed order: fast, and the same bits every time. */
static double sum_of_squares(const REAL *g, int64_t count) {
    double lanes[LANES] = {0}, sum = 0;
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int lane = 0; lane < LANES; lane++) lanes[lane] += (double)g[i + lane] * (double)g[i + lane];
    for (; i < count; i++) sum += (double)g[i] * (double)g[i];
    for (int lane = 0; lane < LANES; lane++) sum += lanes[lane];
    return sum;
}

static double sum_of_powers(const REAL *g, int64_t count, double p) {
    double sum = 0;
    if (isinf(p))
        for (int64_t i = 0; i < count; i++) sum = fmax(sum, fabs((double)g[i]));
    else
        for (int64_t i = 0; i < count; i++) sum += pow(fabs((double)g[i]), p);
    return sum;
}

static bool needs_powers(const gradient_norm_params *p) {
    return p->clip == GRADIENT_CLIP_EACH && p->norm_type != 2;
}

static size_t scratch_bytes(const op_call *call, bool backward) {
    (void)backward;
    return (size_t)call->in[GRADIENT_NORM_TILES]->shape[0] * sizeof(sums);
}

static void look_at_tile(void *context, int64_t index, int thread) {
    (void)thread;
    const op_call *call = context;
    const gradient_norm_params *p = call->params;
    const int32_t *tile = tensor_i32(call->in[GRADIENT_NORM_TILES]) + GRADIENT_TILE_INTS * index;
    const REAL *g = (const REAL *)call->in[GRADIENT_NORM_GRADIENTS]->data + tile[1];
    sums *out = (sums *)call->scratch + index;
    out->squares = sum_of_squares(g, tile[2]);
    out->powers = needs_powers(p) ? sum_of_powers(g, tile[2], p->norm_type) : 0;
}

static sums sums_of_parameter(const op_call *call, int64_t index) {
    const gradient_norm_params *p = call->params;
    const int32_t *span = tensor_i32(call->in[GRADIENT_NORM_SPANS]) + GRADIENT_SPAN_INTS * index;
    sums total = {0};
    for (int32_t i = 0; i < span[1]; i++) {
        sums tile = ((const sums *)call->scratch)[span[0] + i];
        total.squares += tile.squares;
        total.powers = isinf(p->norm_type) ? fmax(total.powers, tile.powers) : total.powers + tile.powers;
    }
    return total;
}

static double norm_of(const gradient_norm_params *p, sums s) {
    if (!needs_powers(p)) return sqrt(s.squares);
    return isinf(p->norm_type) ? s.powers : pow(s.powers, 1 / p->norm_type);
}

static double clip_factor(double limit, double norm) {
    return fmin(1, limit / (norm + 1e-6));
}

static bool are_finite(const tensor *losses) {
    for (int64_t i = 0; losses && i < tensor_count(losses); i++)
        if (!isfinite(((const REAL *)losses->data)[i])) return false;
    return true;
}

static void judge(const op_call *call, int64_t culprit) {
    const gradient_norm_params *p = call->params;
    const REAL *state = call->in[GRADIENT_NORM_STATE]->data;
    REAL *verdict = call->out[2]->data, *next = call->out[3]->data;
    REAL scale = state[GRADIENT_STATE_SCALE], good = state[GRADIENT_STATE_GOOD],
         stopped = state[GRADIENT_STATE_STOPPED], skipped = state[GRADIENT_STATE_SKIPPED];
    bool is_bad = culprit >= 0 || !are_finite(call->in[GRADIENT_NORM_LOSSES]);
    verdict[GRADIENT_VERDICT_SCALE] = scale;
    if (is_bad && (!p->dynamic_scale || scale <= 1)) stopped = 1;
    if (is_bad || stopped != 0) {
        skipped += 1;
        good = 0;
        if (stopped == 0) scale /= 2;
    } else if (p->dynamic_scale && ++good >= (REAL)p->growth_interval) {
        good = 0;
        if (scale < (REAL)GRADIENT_LARGEST_SCALE) scale *= 2;
    }
    verdict[GRADIENT_VERDICT_ACTION] = stopped != 0 ? GRADIENT_STOP : is_bad ? GRADIENT_SKIP : GRADIENT_TAKE;
    verdict[GRADIENT_VERDICT_CULPRIT] = (REAL)culprit;
    verdict[GRADIENT_VERDICT_SKIPPED] = next[GRADIENT_STATE_SKIPPED] = skipped;
    next[GRADIENT_STATE_SCALE] = scale;
    next[GRADIENT_STATE_GOOD] = good;
    next[GRADIENT_STATE_STOPPED] = stopped;
}

static void forward(const op_call *call) {
    const gradient_norm_params *p = call->params;
    int64_t params = call->in[GRADIENT_NORM_SPANS]->shape[0], culprit = -1;
    double scale = (double)((const REAL *)call->in[GRADIENT_NORM_STATE]->data)[GRADIENT_STATE_SCALE],
           squares = 0;
    REAL *factors = call->out[1]->data;
    parallel_for(call->in[GRADIENT_NORM_TILES]->shape[0], look_at_tile, (void *)call);
    for (int64_t i = 0; i < params; i++) {
        sums own = sums_of_parameter(call, i);
        squares += own.squares;
        /* The square of a finite float is finite in double, and so is any sum of them that fits into memory. */
        if (!isfinite(own.squares) && culprit < 0) culprit = i;
        if (p->clip == GRADIENT_CLIP_EACH)
            factors[i] = (REAL)(clip_factor(p->clip_value, norm_of(p, own) / scale) / scale);
    }
    double norm = sqrt(squares) / scale;
    double all = p->clip == GRADIENT_CLIP_ALL ? clip_factor(p->clip_value, norm) : 1;
    for (int64_t i = 0; i < params && p->clip != GRADIENT_CLIP_EACH; i++) factors[i] = (REAL)(all / scale);
    *(double *)call->out[0]->data = isfinite(norm) ? norm : -1;
    judge(call, culprit);
}

const op_kernel REAL_NAME(gradient_norm_reference) = {
    .name = REAL_KERNEL_NAME, .forward = forward, .scratch_bytes = scratch_bytes};
