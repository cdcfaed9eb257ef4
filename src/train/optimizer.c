#include "train/optimizer.h"

#include "base/check.h"
#include "base/thread_pool.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TILE_FLOATS = 64 * 1024, LANES = 8 };

/* Detectron's SCALE_MOMENTUM_THRESHOLD, and the rate below which it never corrects. */
static const double momentum_ratio = 1.1, least_corrected_lr = 1e-7;

typedef enum clip_kind { CLIP_NONE, CLIP_VALUE, CLIP_NORM, CLIP_FULL_MODEL } clip_kind;

typedef struct group {
    float weight_decay, lr_scale;
    double squares, powers; /* of the last check: sum g^2; sum |g|^p, or the largest |g| */
    float clip_factor;
} group;

typedef struct tile {
    int param;
    int64_t begin, count; /* floats of the flat buffers */
    double squares, powers;
} tile;

struct optimizer {
    param_store *store;
    group *groups; /* by index of the store; only trainable ones are used */
    tile *tiles;   /* in order of the parameters; none spans two */
    int64_t tile_count;
    clip_kind clip;
    double clip_value, norm_type;
    float momentum;
    bool scale_momentum, checked;
    float step_lr, step_momentum; /* of the optimizer_step that runs */
};

static bool is_called_bias(const char *name) {
    const char *dot = strrchr(name, '.');
    return strcmp(dot ? dot + 1 : name, "bias") == 0;
}

static group make_group(const param *p, const config *cfg) {
    group g = {.weight_decay = (float)cfg->SOLVER_WEIGHT_DECAY, .lr_scale = 1, .clip_factor = 1};
    if (p->kind == PARAM_NORM && cfg->SOLVER_WEIGHT_DECAY_NORM.is_set)
        g.weight_decay = (float)cfg->SOLVER_WEIGHT_DECAY_NORM.value;
    if (is_called_bias(p->name)) {
        if (cfg->SOLVER_WEIGHT_DECAY_BIAS.is_set) g.weight_decay = (float)cfg->SOLVER_WEIGHT_DECAY_BIAS.value;
        g.lr_scale = (float)cfg->SOLVER_BIAS_LR_FACTOR;
    }
    return g;
}

static clip_kind clip_from_config(const config *cfg) {
    const char *type = cfg->SOLVER_CLIP_GRADIENTS_CLIP_TYPE;
    if (!cfg->SOLVER_CLIP_GRADIENTS_ENABLED) return CLIP_NONE;
    if (strcmp(type, "value") == 0) return CLIP_VALUE;
    return strcmp(type, "norm") == 0 ? CLIP_NORM : CLIP_FULL_MODEL;
}

static int64_t tiles_of(const param *p) {
    return p->trainable ? (p->size + TILE_FLOATS - 1) / TILE_FLOATS : 0;
}

static void make_tiles(optimizer *o) {
    int64_t at = 0;
    for (int i = 0; i < o->store->count; i++) {
        const param *p = &o->store->params[i];
        for (int64_t k = 0; k < tiles_of(p); k++) {
            int64_t left = p->size - k * TILE_FLOATS;
            o->tiles[at++] = (tile){.param = i,
                                    .begin = p->offset + k * TILE_FLOATS,
                                    .count = left < TILE_FLOATS ? left : TILE_FLOATS};
        }
    }
}

status optimizer_new(optimizer **out, param_store *store, const config *cfg) {
    *out = NULL;
    int64_t tiles = 0;
    for (int i = 0; i < store->count; i++) tiles += tiles_of(&store->params[i]);
    optimizer *o = calloc(1, sizeof *o);
    if (o) {
        o->groups = calloc((size_t)store->count + 1, sizeof *o->groups);
        o->tiles = calloc((size_t)tiles + 1, sizeof *o->tiles);
    }
    if (!o || !o->groups || !o->tiles) {
        optimizer_free(o);
        return error_set(STATUS_OS, "free some memory", "no memory for the optimizer's table");
    }
    o->store = store;
    o->tile_count = tiles;
    o->clip = clip_from_config(cfg);
    o->clip_value = cfg->SOLVER_CLIP_GRADIENTS_CLIP_VALUE;
    o->norm_type = cfg->SOLVER_CLIP_GRADIENTS_NORM_TYPE;
    o->momentum = (float)cfg->SOLVER_MOMENTUM;
    o->scale_momentum = cfg->SOLVER_SCALE_MOMENTUM;
    for (int i = 0; i < store->count; i++) o->groups[i] = make_group(&store->params[i], cfg);
    make_tiles(o);
    *out = o;
    return STATUS_OK;
}

void optimizer_free(optimizer *o) {
    if (!o) return;
    free(o->groups);
    free(o->tiles);
    free(o);
}

double optimizer_weight_decay(const optimizer *o, int index) {
    return (double)o->groups[index].weight_decay;
}
double optimizer_lr_scale(const optimizer *o, int index) {
    return (double)o->groups[index].lr_scale;
}

/* Several sums side by side, joined in fixed order: fast, and the same bits every time. */
static double sum_of_squares(const float *g, int64_t count) {
    double lanes[LANES] = {0}, sum = 0;
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int lane = 0; lane < LANES; lane++) lanes[lane] += (double)g[i + lane] * (double)g[i + lane];
    for (; i < count; i++) sum += (double)g[i] * (double)g[i];
    for (int lane = 0; lane < LANES; lane++) sum += lanes[lane];
    return sum;
}

static double sum_of_powers(const float *g, int64_t count, double p) {
    double sum = 0;
    if (isinf(p))
        for (int64_t i = 0; i < count; i++) sum = fmax(sum, fabs((double)g[i]));
    else
        for (int64_t i = 0; i < count; i++) sum += pow(fabs((double)g[i]), p);
    return sum;
}

static bool needs_powers(const optimizer *o) {
    return o->clip == CLIP_NORM && o->norm_type != 2;
}

static void check_tile(void *context, int64_t index, int thread) {
    (void)thread;
    optimizer *o = context;
    tile *t = &o->tiles[index];
    const float *g = o->store->gradients + t->begin;
    t->squares = sum_of_squares(g, t->count);
    if (needs_powers(o)) t->powers = sum_of_powers(g, t->count, o->norm_type);
}

static double parameter_norm(const optimizer *o, const group *g) {
    if (!needs_powers(o)) return sqrt(g->squares);
    return isinf(o->norm_type) ? g->powers : pow(g->powers, 1 / o->norm_type);
}

static float clip_factor(double limit, double norm) {
    return (float)fmin(1, limit / (norm + 1e-6));
}

gradient_report optimizer_check_gradients(optimizer *o) {
    parallel_for(o->tile_count, check_tile, o);
    for (int i = 0; i < o->store->count; i++) o->groups[i].squares = o->groups[i].powers = 0;
    for (int64_t k = 0; k < o->tile_count; k++) {
        const tile *t = &o->tiles[k];
        group *g = &o->groups[t->param];
        g->squares += t->squares;
        g->powers = isinf(o->norm_type) ? fmax(g->powers, t->powers) : g->powers + t->powers;
    }
    gradient_report report = {0};
    double squares = 0;
    for (int i = 0; i < o->store->count; i++) {
        group *g = &o->groups[i];
        squares += g->squares;
        /* The square of a finite float is finite in double, and so is any sum of them that fits into memory. */
        if (!isfinite(g->squares) && !report.non_finite) report.non_finite = o->store->params[i].name;
        if (o->clip == CLIP_NORM) g->clip_factor = clip_factor(o->clip_value, parameter_norm(o, g));
    }
    report.norm = sqrt(squares);
    if (o->clip == CLIP_FULL_MODEL)
        for (int i = 0; i < o->store->count; i++)
            o->groups[i].clip_factor = clip_factor(o->clip_value, report.norm);
    o->checked = report.non_finite == NULL;
    return report;
}

static void step_tile(void *context, int64_t index, int thread) {
    (void)thread;
    const optimizer *o = context;
    const tile *t = &o->tiles[index];
    const group *own = &o->groups[t->param];
    float *restrict w = o->store->values + t->begin, *restrict v = o->store->momentum + t->begin;
    const float *restrict g = o->store->gradients + t->begin;
    float decay = own->weight_decay, lr = o->step_lr * own->lr_scale, momentum = o->step_momentum,
          factor = own->clip_factor;
    if (o->clip == CLIP_VALUE) {
        float limit = (float)o->clip_value;
        for (int64_t i = 0; i < t->count; i++) {
            float clipped = g[i] < -limit ? -limit : g[i] > limit ? limit : g[i];
            v[i] = momentum * v[i] + (clipped + decay * w[i]);
            w[i] -= lr * v[i];
        }
        return;
    }
    for (int64_t i = 0; i < t->count; i++) {
        v[i] = momentum * v[i] + (factor * g[i] + decay * w[i]);
        w[i] -= lr * v[i];
    }
}

/* How much of v = V / lr Detectron's V keeps when the rate changes. */
static double kept_momentum(double lr, double previous_lr) {
    if (lr <= 0 || previous_lr <= 0) return 1;
    double ratio = fmax(lr / previous_lr, previous_lr / lr);
    return ratio > momentum_ratio && previous_lr > least_corrected_lr ? 1 : previous_lr / lr;
}

void optimizer_step(optimizer *o, double lr, double previous_lr) {
    CHECK(o->checked, "optimizer_step without finite gradients checked before it");
    o->checked = false;
    o->step_lr = (float)lr;
    o->step_momentum =
        o->scale_momentum ? (float)((double)o->momentum * kept_momentum(lr, previous_lr)) : o->momentum;
    parallel_for(o->tile_count, step_tile, o);
}
