/* sgd_step; built for float and for double (training uses float). */
#include "sgd_step/sgd_step.h"

#include "base/thread_pool.h"

#include <string.h>

typedef struct piece {
    REAL *w, *v;
    const REAL *g;
    int64_t count;
    REAL decay, lr, momentum, factor, limit;
} piece;

static void step_clipped(const piece *p) {
    REAL *restrict w = p->w, *restrict v = p->v;
    const REAL *restrict g = p->g;
    for (int64_t i = 0; i < p->count; i++) {
        REAL x = p->factor * g[i], clipped = x < -p->limit ? -p->limit : x > p->limit ? p->limit : x;
        v[i] = p->momentum * v[i] + (clipped + p->decay * w[i]);
        w[i] -= p->lr * v[i];
    }
}

static void step_plain(const piece *p) {
    REAL *restrict w = p->w, *restrict v = p->v;
    const REAL *restrict g = p->g;
    for (int64_t i = 0; i < p->count; i++) {
        v[i] = p->momentum * v[i] + (p->factor * g[i] + p->decay * w[i]);
        w[i] -= p->lr * v[i];
    }
}

static void copy_unless_same(REAL *to, const REAL *from, int64_t count) {
    if (to != from) memcpy(to, from, (size_t)count * sizeof *to);
}

static void step_tile(void *context, int64_t index, int thread) {
    (void)thread;
    const op_call *call = context;
    const sgd_step_params *p = call->params;
    const int32_t *tile = tensor_i32(call->in[SGD_STEP_TILES]) + SGD_STEP_TILE_INTS * index;
    const REAL *rates = call->in[SGD_STEP_RATES]->data;
    const REAL *group = (const REAL *)call->in[SGD_STEP_GROUPS]->data + SGD_STEP_GROUP_FLOATS * tile[0];
    int64_t begin = tile[1], count = tile[2];
    piece own = {.w = (REAL *)call->out[0]->data + begin,
                 .v = (REAL *)call->out[1]->data + begin,
                 .g = (const REAL *)call->in[SGD_STEP_GRADIENTS]->data + begin,
                 .count = count,
                 .decay = group[0],
                 .lr = rates[0] * group[1],
                 .momentum = rates[1],
                 .factor = ((const REAL *)call->in[SGD_STEP_FACTORS]->data)[tile[0]],
                 .limit = (REAL)p->clip_value};
    copy_unless_same(own.w, (const REAL *)call->in[SGD_STEP_VALUES]->data + begin, count);
    copy_unless_same(own.v, (const REAL *)call->in[SGD_STEP_MOMENTUM]->data + begin, count);
    bool is_skipped = ((const REAL *)call->in[SGD_STEP_VERDICT]->data)[0] != 0;
    if (!is_skipped) own.limit > 0 ? step_clipped(&own) : step_plain(&own);
    if (p->copies) memcpy((REAL *)call->out[2]->data + begin, own.w, (size_t)count * sizeof(REAL));
}

static void forward(const op_call *call) {
    parallel_for(call->in[SGD_STEP_TILES]->shape[0], step_tile, (void *)call);
}

const op_kernel REAL_NAME(sgd_step_reference) = {.name = REAL_KERNEL_NAME, .forward = forward};
