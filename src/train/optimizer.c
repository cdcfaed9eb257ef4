#include "train/optimizer.h"

#include "autograd/tape.h"
#include "base/check.h"
#include "device/device.h"
#include "sgd_step/sgd_step.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TILE_ELEMENTS = 64 * 1024 };

/* Detectron's SCALE_MOMENTUM_THRESHOLD, and the rate below which it never corrects. */
static const double momentum_ratio = 1.1, least_corrected_lr = 1e-7;

/* Of mixed precision with fp16: where the loss scale starts, and how many good steps double it. */
enum { FIRST_LOSS_SCALE = 65536, GROWTH_INTERVAL = 2000 };

/* A row of sgd_step's groups. */
typedef struct group {
    float weight_decay, lr_scale;
} group;

/* What the ops read besides the parameters, in one piece of device memory. */
typedef struct tables {
    size_t groups, tiles, spans, state, record, bytes; /* offsets; size of all */
} tables;

struct optimizer {
    param_store *store;
    group *groups; /* by index of the store; only trainable ones are used */
    int32_t tile_count;
    float momentum;
    bool scale_momentum, dynamic_scale;
    tables at;
    char *memory; /* of the tables */
    tape *t;
    void *arena;
    size_t arena_bytes;
};

static bool is_called_bias(const char *name) {
    const char *dot = strrchr(name, '.');
    return strcmp(dot ? dot + 1 : name, "bias") == 0;
}

static group make_group(const param *p, const config *cfg) {
    group g = {.weight_decay = (float)cfg->SOLVER_WEIGHT_DECAY, .lr_scale = 1};
    if (p->kind == PARAM_NORM && cfg->SOLVER_WEIGHT_DECAY_NORM.is_set)
        g.weight_decay = (float)cfg->SOLVER_WEIGHT_DECAY_NORM.value;
    if (is_called_bias(p->name)) {
        if (cfg->SOLVER_WEIGHT_DECAY_BIAS.is_set) g.weight_decay = (float)cfg->SOLVER_WEIGHT_DECAY_BIAS.value;
        g.lr_scale = (float)cfg->SOLVER_BIAS_LR_FACTOR;
    }
    return g;
}

static int64_t tiles_of(const param *p) {
    return p->trainable ? (p->size + TILE_ELEMENTS - 1) / TILE_ELEMENTS : 0;
}

static size_t place(size_t *end, size_t bytes) {
    size_t at = *end;
    *end = at + (bytes + 63) / 64 * 64;
    return at;
}

static tables lay_out(const optimizer *o) {
    size_t end = 0, params = (size_t)o->store->count;
    tables at = {.groups = place(&end, params * sizeof(group)),
                 .tiles = place(&end, (size_t)o->tile_count * GRADIENT_TILE_INTS * sizeof(int32_t)),
                 .spans = place(&end, params * GRADIENT_SPAN_INTS * sizeof(int32_t)),
                 .state = place(&end, GRADIENT_STATE_SIZE * sizeof(float)),
                 .record = place(&end, sizeof(optimizer_record))};
    at.bytes = end;
    return at;
}

/* The tables as the device gets them. */
static void fill_tables(const optimizer *o, char *memory) {
    int32_t *tile = (int32_t *)(memory + o->at.tiles), *span = (int32_t *)(memory + o->at.spans), count = 0;
    memcpy(memory + o->at.groups, o->groups, (size_t)o->store->count * sizeof *o->groups);
    for (int i = 0; i < o->store->count; i++, span += GRADIENT_SPAN_INTS) {
        const param *p = &o->store->params[i];
        span[0] = count;
        for (int64_t k = 0; k < tiles_of(p); k++, count++, tile += GRADIENT_TILE_INTS) {
            int64_t left = p->size - k * TILE_ELEMENTS;
            tile[0] = i;
            tile[1] = (int32_t)(p->offset + k * TILE_ELEMENTS);
            tile[2] = (int32_t)(left < TILE_ELEMENTS ? left : TILE_ELEMENTS);
        }
        span[1] = count - span[0];
    }
    ((float *)(memory + o->at.state))[GRADIENT_STATE_SCALE] = o->dynamic_scale ? FIRST_LOSS_SCALE : 1;
}

static status upload_tables(optimizer *o) {
    device *dev = o->store->dev;
    void *memory = NULL;
    char *host = calloc(1, o->at.bytes);
    if (!host) return error_set(STATUS_OS, "free some memory", "no memory for the optimizer's table");
    status s = device_alloc(dev, &memory, o->at.bytes, "the optimizer's tables");
    if (s == STATUS_OK) {
        o->memory = memory;
        fill_tables(o, host);
        device_copy(dev, NULL, memory, host, o->at.bytes);
        device_synchronize(dev, NULL);
    }
    free(host);
    return s;
}

static gradient_norm_params norm_params(const optimizer *o, const config *cfg) {
    gradient_norm_params p = {.clip_value = cfg->SOLVER_CLIP_GRADIENTS_CLIP_VALUE,
                              .norm_type = cfg->SOLVER_CLIP_GRADIENTS_NORM_TYPE,
                              .dynamic_scale = o->dynamic_scale,
                              .growth_interval = GROWTH_INTERVAL};
    const char *type = cfg->SOLVER_CLIP_GRADIENTS_CLIP_TYPE;
    if (!cfg->SOLVER_CLIP_GRADIENTS_ENABLED || strcmp(type, "value") == 0)
        p.clip = GRADIENT_CLIP_NONE;
    else
        p.clip = strcmp(type, "norm") == 0 ? GRADIENT_CLIP_EACH : GRADIENT_CLIP_ALL;
    return p;
}

static sgd_step_params step_params(const optimizer *o, const config *cfg) {
    bool by_value =
        cfg->SOLVER_CLIP_GRADIENTS_ENABLED && strcmp(cfg->SOLVER_CLIP_GRADIENTS_CLIP_TYPE, "value") == 0;
    return (sgd_step_params){.clip_value = by_value ? cfg->SOLVER_CLIP_GRADIENTS_CLIP_VALUE : 0,
                             .copies = o->store->copies != NULL};
}

static tensor *flat(const optimizer *o, const char *name, dtype type, int64_t count, void *data) {
    return tape_constant(o->t, name, type, 1, &count, data);
}

static void record(optimizer *o, const config *cfg, float *rates) {
    const param_store *store = o->store;
    int64_t n = store->trainable, params = store->count;
    o->t = tape_new(store->dev, NULL);
    tape_set_precision(o->t, store->precision.storage, store->precision.tf32);
    tape_scope(o->t, "optimizer");
    optimizer_record *report = optimizer_record_place(o);
    tensor *gradients = flat(o, "gradients", store->precision.storage, n, store->gradients);
    tensor *tiles = tape_constant(o->t, "tiles", DTYPE_I32, 2, (int64_t[]){o->tile_count, GRADIENT_TILE_INTS},
                                  o->memory + o->at.tiles);
    tensor *spans = tape_constant(o->t, "spans", DTYPE_I32, 2, (int64_t[]){params, GRADIENT_SPAN_INTS},
                                  o->memory + o->at.spans);
    tensor *groups = tape_constant(o->t, "groups", DTYPE_F32, 2, (int64_t[]){params, SGD_STEP_GROUP_FLOATS},
                                   o->memory + o->at.groups);
    tensor *state = flat(o, "state", DTYPE_F32, GRADIENT_STATE_SIZE, o->memory + o->at.state);
    gradient_norm_params norm = norm_params(o, cfg);
    gradient_norm_result found =
        gradient_norm(o->t,
                      (tensor *[]){gradients, tiles, spans,
                                   flat(o, "losses", DTYPE_F32, OPTIMIZER_LOSSES, report->losses), state},
                      &norm);
    tape_bind(o->t, found.norm, &report->norm);
    tape_bind(o->t, found.verdict, report->verdict);
    tape_bind(o->t, found.state, state->data);
    sgd_step_params step = step_params(o, cfg);
    sgd_step_result stepped = sgd_step(
        o->t,
        (tensor *[]){gradients, flat(o, "values", DTYPE_F32, n, store->values),
                     flat(o, "momentum", DTYPE_F32, n, store->momentum), tiles, groups, found.factors,
                     flat(o, "rates", DTYPE_F32, SGD_STEP_RATE_FLOATS, rates), found.verdict},
        &step);
    tape_bind(o->t, stepped.values, store->values);
    tape_bind(o->t, stepped.momentum, store->momentum);
    if (step.copies) tape_bind(o->t, stepped.copies, store->copies);
}

static status prepare(optimizer *o, const config *cfg, float *rates) {
    o->groups = calloc((size_t)o->store->count + 1, sizeof *o->groups);
    if (!o->groups) return error_set(STATUS_OS, "free some memory", "no memory for the optimizer's table");
    int64_t tiles = 0;
    for (int i = 0; i < o->store->count; i++) {
        o->groups[i] = make_group(&o->store->params[i], cfg);
        tiles += tiles_of(&o->store->params[i]);
    }
    if (o->store->trainable > INT32_MAX)
        return error_set(STATUS_CONFIG, "train a smaller model",
                         "%lld trained parameters, at most %d can be counted", (long long)o->store->trainable,
                         INT32_MAX);
    o->tile_count = (int32_t)tiles;
    o->at = lay_out(o);
    RETURN_IF_ERROR(upload_tables(o));
    record(o, cfg, rates);
    o->arena_bytes = tape_plan(o->t);
    RETURN_IF_ERROR(device_alloc(o->store->dev, &o->arena, o->arena_bytes, "the optimizer's sums"));
    tape_attach(o->t, o->arena, o->arena_bytes);
    return STATUS_OK;
}

status optimizer_new(optimizer **out, param_store *store, const config *cfg, float *rates) {
    *out = NULL;
    optimizer *o = calloc(1, sizeof *o);
    if (!o) return error_set(STATUS_OS, "free some memory", "no memory for the optimizer");
    o->store = store;
    o->momentum = (float)cfg->SOLVER_MOMENTUM;
    o->scale_momentum = cfg->SOLVER_SCALE_MOMENTUM;
    o->dynamic_scale = store->precision.storage == DTYPE_F16;
    status s = prepare(o, cfg, rates);
    if (s == STATUS_OK)
        *out = o;
    else
        optimizer_free(o);
    return s;
}

void optimizer_free(optimizer *o) {
    if (!o) return;
    tape_free(o->t);
    device_free(o->store->dev, o->arena, o->arena_bytes);
    device_free(o->store->dev, o->memory, o->at.bytes);
    free(o->groups);
    free(o);
}

double optimizer_weight_decay(const optimizer *o, int index) {
    return (double)o->groups[index].weight_decay;
}
double optimizer_lr_scale(const optimizer *o, int index) {
    return (double)o->groups[index].lr_scale;
}

optimizer_record *optimizer_record_place(const optimizer *o) {
    return (optimizer_record *)(o->memory + o->at.record);
}

float *optimizer_loss_scale(const optimizer *o) {
    return o->dynamic_scale ? (float *)(o->memory + o->at.state) + GRADIENT_STATE_SCALE : NULL;
}

tape *optimizer_tape(const optimizer *o) {
    return o->t;
}

/* How much of v = V / lr Detectron's V keeps when the rate changes. */
static double kept_momentum(double lr, double previous_lr) {
    if (lr <= 0 || previous_lr <= 0) return 1;
    double ratio = fmax(lr / previous_lr, previous_lr / lr);
    return ratio > momentum_ratio && previous_lr > least_corrected_lr ? 1 : previous_lr / lr;
}

void optimizer_rates(float rates[SGD_STEP_RATE_FLOATS], const optimizer *o, double lr, double previous_lr) {
    rates[0] = (float)lr;
    rates[1] =
        o->scale_momentum ? (float)((double)o->momentum * kept_momentum(lr, previous_lr)) : o->momentum;
}

void optimizer_queue(optimizer *o) {
    tape_forward(o->t);
}

gradient_report optimizer_report(const optimizer *o, const optimizer_record *record) {
    int action = (int)record->verdict[GRADIENT_VERDICT_ACTION],
        culprit = (int)record->verdict[GRADIENT_VERDICT_CULPRIT];
    return (gradient_report){.norm = record->norm < 0 ? INFINITY : record->norm,
                             .non_finite = culprit >= 0 ? o->store->params[culprit].name : NULL,
                             .is_skipped = action == GRADIENT_SKIP,
                             .is_stopped = action == GRADIENT_STOP,
                             .loss_scale =
                                 o->dynamic_scale ? (double)record->verdict[GRADIENT_VERDICT_SCALE] : 0,
                             .skipped_steps = (int64_t)record->verdict[GRADIENT_VERDICT_SKIPPED]};
}

void optimizer_read_state(const optimizer *o, float state[GRADIENT_STATE_SIZE]) {
    device_copy(o->store->dev, NULL, state, o->memory + o->at.state, GRADIENT_STATE_SIZE * sizeof *state);
    device_synchronize(o->store->dev, NULL);
}

void optimizer_write_state(optimizer *o, const float state[GRADIENT_STATE_SIZE]) {
    device_copy(o->store->dev, NULL, o->memory + o->at.state, state, GRADIENT_STATE_SIZE * sizeof *state);
    device_synchronize(o->store->dev, NULL);
}
