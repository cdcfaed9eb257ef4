#include "gradient_norm/gradient_norm.h"

#include "autograd/op_cost.h"
#include "autograd/tape.h"

#include <math.h>
#include <stddef.h>

static status gradient_norm_infer(op_call *call) {
    const gradient_norm_params *p = call->params;
    RETURN_IF_ERROR(op_expect_rank(call, GRADIENT_NORM_GRADIENTS, 1));
    RETURN_IF_ERROR(op_expect_rank(call, GRADIENT_NORM_TILES, 2));
    RETURN_IF_ERROR(
        op_expect_dim(call, GRADIENT_NORM_TILES, 1, GRADIENT_TILE_INTS, "parameter, start, size"));
    RETURN_IF_ERROR(op_expect_rank(call, GRADIENT_NORM_SPANS, 2));
    RETURN_IF_ERROR(op_expect_dim(call, GRADIENT_NORM_SPANS, 1, GRADIENT_SPAN_INTS, "first tile, tiles"));
    if (call->in[GRADIENT_NORM_LOSSES]) RETURN_IF_ERROR(op_expect_rank(call, GRADIENT_NORM_LOSSES, 1));
    RETURN_IF_ERROR(op_expect_rank(call, GRADIENT_NORM_STATE, 1));
    RETURN_IF_ERROR(op_expect_dim(call, GRADIENT_NORM_STATE, 0, GRADIENT_STATE_SIZE, "the state"));
    if (p->clip < GRADIENT_CLIP_NONE || p->clip > GRADIENT_CLIP_ALL)
        return op_bad_attr(call, "clip", "0, 1 or 2");
    if (!(p->clip_value >= 0)) return op_bad_attr(call, "clip_value", "at least 0");
    if (!(p->norm_type > 0)) return op_bad_attr(call, "norm_type", "above 0");
    if (p->growth_interval < 1) return op_bad_attr(call, "growth_interval", "at least 1");
    dtype real = op_real_type(call);
    op_describe_output(call, 0, DTYPE_F64, 1, (int64_t[]){1}, NULL);
    op_describe_output(call, 1, real, 1, (int64_t[]){call->in[GRADIENT_NORM_SPANS]->shape[0]}, NULL);
    op_describe_output(call, 2, real, 1, (int64_t[]){GRADIENT_VERDICT_SIZE}, NULL);
    op_describe_output(call, 3, real, 1, (int64_t[]){GRADIENT_STATE_SIZE}, NULL);
    return STATUS_OK;
}

static status bad_table(const char *table, int64_t row) {
    return error_set(STATUS_DATA, "correct the table",
                     "gradient_norm: tensor %s, row %lld leaves what it points into", table, (long long)row);
}

static status gradient_norm_validate(const op_call *call) {
    const tensor *tiles = call->in[GRADIENT_NORM_TILES], *spans = call->in[GRADIENT_NORM_SPANS];
    int64_t n = tensor_count(call->in[GRADIENT_NORM_GRADIENTS]);
    for (int64_t i = 0; i < tiles->shape[0]; i++) {
        const int32_t *tile = tensor_i32(tiles) + GRADIENT_TILE_INTS * i;
        if (tile[0] < 0 || tile[0] >= spans->shape[0] || tile[1] < 0 || tile[2] < 0 ||
            (int64_t)tile[1] + tile[2] > n)
            return bad_table("tiles", i);
    }
    for (int64_t i = 0; i < spans->shape[0]; i++) {
        const int32_t *span = tensor_i32(spans) + GRADIENT_SPAN_INTS * i;
        if (span[0] < 0 || span[1] < 0 || (int64_t)span[0] + span[1] > tiles->shape[0])
            return bad_table("spans", i);
    }
    return STATUS_OK;
}

static const op_attr gradient_norm_attrs[] = {
    {.name = "clip", .type = ATTR_INT, .offset = offsetof(gradient_norm_params, clip), .fallback = 0},
    {.name = "clip_value",
     .type = ATTR_FLOAT,
     .offset = offsetof(gradient_norm_params, clip_value),
     .fallback = 1},
    {.name = "norm_type",
     .type = ATTR_FLOAT,
     .offset = offsetof(gradient_norm_params, norm_type),
     .fallback = 2},
    {.name = "dynamic_scale", .type = ATTR_BOOL, .offset = offsetof(gradient_norm_params, dynamic_scale)},
    {.name = "growth_interval",
     .type = ATTR_INT,
     .offset = offsetof(gradient_norm_params, growth_interval),
     .fallback = 2000},
    {0}};

/* Tiles of at most 40 elements: as many parameters as there are spans, of equal share; state: scale 4, `good` steps. */
static void cut(const op_call *call, int64_t n, float good, float stopped) {
    tensor *tiles = call->in[GRADIENT_NORM_TILES], *spans = call->in[GRADIENT_NORM_SPANS];
    int64_t params = spans->shape[0], per = params ? n / params : 0, at = 0;
    int64_t length = n < 1 << 20 ? 40 : 1 << 16; /* of a tile */
    for (int64_t p = 0; p < params; p++) {
        int64_t begin = p * per, end = p + 1 == params ? n : begin + per;
        tensor_i32(spans)[GRADIENT_SPAN_INTS * p] = (int32_t)at;
        for (; begin < end; begin += length, at++) {
            int32_t *tile = tensor_i32(tiles) + GRADIENT_TILE_INTS * at;
            tile[0] = (int32_t)p;
            tile[1] = (int32_t)begin;
            tile[2] = (int32_t)(end - begin < length ? end - begin : length);
        }
        tensor_i32(spans)[GRADIENT_SPAN_INTS * p + 1] =
            (int32_t)at - tensor_i32(spans)[GRADIENT_SPAN_INTS * p];
    }
    tensor *state = call->in[GRADIENT_NORM_STATE];
    tensor_set(state, GRADIENT_STATE_SCALE, 4);
    tensor_set(state, GRADIENT_STATE_GOOD, (double)good);
    tensor_set(state, GRADIENT_STATE_STOPPED, (double)stopped);
    tensor_set(state, GRADIENT_STATE_SKIPPED, 3);
}

static void prepare(const op_call *call) {
    cut(call, tensor_count(call->in[GRADIENT_NORM_GRADIENTS]), 5, 0);
}
static void prepare_last_good(const op_call *call) {
    cut(call, tensor_count(call->in[GRADIENT_NORM_GRADIENTS]), 9, 0);
}
static void prepare_stopped(const op_call *call) {
    cut(call, tensor_count(call->in[GRADIENT_NORM_GRADIENTS]), 5, 1);
}
/* An infinity in the third of four parameters; its norm is infinite on every path. */
static void prepare_bad(const op_call *call) {
    tensor *g = call->in[GRADIENT_NORM_GRADIENTS];
    prepare(call);
    tensor_set(g, tensor_count(g) / 2 + 3, (double)INFINITY);
}
static void prepare_bad_at_one(const op_call *call) {
    prepare_bad(call);
    tensor_set(call->in[GRADIENT_NORM_STATE], GRADIENT_STATE_SCALE, 1);
}
static void prepare_bad_loss(const op_call *call) {
    prepare(call);
    tensor_set(call->in[GRADIENT_NORM_LOSSES], 1, (double)NAN);
}

#define GROWTH .norm_type = 2, .clip_value = 0.5, .growth_interval = 10
static const gradient_norm_params
    plain = {GROWTH},
    each = {GROWTH, .clip = GRADIENT_CLIP_EACH}, all = {GROWTH, .clip = GRADIENT_CLIP_ALL},
    dynamic = {GROWTH, .dynamic_scale = true},
    manhattan = {.norm_type = 1, .clip_value = 0.5, .growth_interval = 10, .clip = GRADIENT_CLIP_EACH},
    third = {.norm_type = 3, .clip_value = 0.5, .growth_interval = 10, .clip = GRADIENT_CLIP_EACH},
    largest = {.norm_type = INFINITY, .clip_value = 0.5, .growth_interval = 10, .clip = GRADIENT_CLIP_EACH};

/* 500 elements of four parameters: 125 each in 4 tiles. */
#define CASE(name_, params_, prepare_)                                                                       \
    {                                                                                                        \
        .name = name_, .params = params_, .prepare = prepare_, .in = {                                       \
            OP_IN(NORMAL, 0, 1, 500),                                                                        \
            OP_IN(CONSTANT, 0, 0, 16, 3),                                                                    \
            OP_IN(CONSTANT, 0, 0, 4, 2),                                                                     \
            OP_IN(UNIFORM, 0, 2, 5),                                                                         \
            OP_IN(CONSTANT, 0, 0, 4)                                                                         \
        }                                                                                                    \
    }

static const op_case gradient_norm_cases[] = {
    CASE("plain", &plain, prepare),
    CASE("clip_each", &each, prepare),
    CASE("clip_each_by_sum", &manhattan, prepare),
    CASE("clip_each_by_cubes", &third, prepare),
    CASE("clip_each_by_largest", &largest, prepare),
    CASE("clip_all", &all, prepare),
    CASE("scale_stays", &dynamic, prepare),
    CASE("scale_grows", &dynamic, prepare_last_good),
    CASE("overflow_halves_the_scale", &dynamic, prepare_bad),
    CASE("bad_at_scale_one_stops", &dynamic, prepare_bad_at_one),
    CASE("bad_stops", &all, prepare_bad),
    CASE("bad_loss_stops", &plain, prepare_bad_loss),
    CASE("stopped_stays", &dynamic, prepare_stopped),
    {.name = "one_element",
     .params = &each,
     .prepare = prepare,
     .in = {OP_IN(NORMAL, 0, 1, 1),
            OP_IN(CONSTANT, 0, 0, 1, 3),
            OP_IN(CONSTANT, 0, 0, 1, 2),
            {0},
            OP_IN(CONSTANT, 0, 0, 4)}},
    {.name = "no_parameters",
     .params = &all,
     .prepare = prepare,
     .in = {OP_IN(NORMAL, 0, 1, 0),
            OP_IN(CONSTANT, 0, 0, 0, 3),
            OP_IN(CONSTANT, 0, 0, 0, 2),
            {0},
            OP_IN(CONSTANT, 0, 0, 4)}},
};

static void gradient_norm_cost(op_cost *cost, const op_call *call, bool backward) {
    (void)backward;
    cost->flops = 2 * op_cost_elements(call->in[GRADIENT_NORM_GRADIENTS]);
}

/* The trained parameters of R50-FPN with two frozen stages, in as many tensors. */
enum { TRAINED = 44120816, TRAINED_TENSORS = 84, TRAINED_TILES = 756 };

#define TRAINED_CASE(name_, params_)                                                                         \
    {                                                                                                        \
        .name = name_, .params = params_, .prepare = prepare, .in = {                                        \
            OP_IN(NORMAL, 0, 1, TRAINED),                                                                    \
            OP_IN(CONSTANT, 0, 0, TRAINED_TILES, 3),                                                         \
            OP_IN(CONSTANT, 0, 0, TRAINED_TENSORS, 2),                                                       \
            OP_IN(UNIFORM, 0, 2, 5),                                                                         \
            OP_IN(CONSTANT, 0, 0, 4)                                                                         \
        }                                                                                                    \
    }

static const op_case gradient_norm_bench[] = {TRAINED_CASE("r50_fpn", &plain),
                                              TRAINED_CASE("r50_fpn_clip_all", &all)};

const op_def gradient_norm_op = {
    .name = "gradient_norm",
    .n_inputs = GRADIENT_NORM_INPUTS,
    .n_outputs = 4,
    .input_names = {"gradients", "tiles", "spans", "losses", "state"},
    .output_names = {"norm", "factors", "verdict", "new_state"},
    .input_types = {DTYPE_F32, DTYPE_I32, DTYPE_I32, DTYPE_F32, DTYPE_F32},
    .optional_inputs = 1u << GRADIENT_NORM_LOSSES,
    .half_inputs = 1u << GRADIENT_NORM_GRADIENTS,
    .shares_gradient = -1,
    .params_size = sizeof(gradient_norm_params),
    .attrs = gradient_norm_attrs,
    .infer = gradient_norm_infer,
    .validate = gradient_norm_validate,
    .cost = gradient_norm_cost,
    .reference_f32 = &gradient_norm_reference_f32,
    .reference_f64 = &gradient_norm_reference_f64,
    .cpu = &gradient_norm_reference_f32,
    .atol = 1e-7,
    .rtol = 1e-6,
    .cases = gradient_norm_cases,
    .n_cases = sizeof gradient_norm_cases / sizeof gradient_norm_cases[0],
    .bench_cases = gradient_norm_bench,
    .n_bench_cases = sizeof gradient_norm_bench / sizeof gradient_norm_bench[0],
};

gradient_norm_result gradient_norm(struct tape *t, tensor *const inputs[GRADIENT_NORM_INPUTS],
                                   const gradient_norm_params *params) {
    tensor *out[4];
    tape_apply(t, &gradient_norm_op, params, inputs, out);
    return (gradient_norm_result){.norm = out[0], .factors = out[1], .verdict = out[2], .state = out[3]};
}
