#include "sgd_step/sgd_step.h"

#include "autograd/op_cost.h"
#include "autograd/tape.h"

#include <stddef.h>

static status sgd_step_infer(op_call *call) {
    const sgd_step_params *p = call->params;
    static const int rows_of_two[] = {SGD_STEP_TILES, SGD_STEP_GROUPS};
    for (int input = 0; input < SGD_STEP_INPUTS; input++)
        RETURN_IF_ERROR(
            op_expect_rank(call, input, input == rows_of_two[0] || input == rows_of_two[1] ? 2 : 1));
    RETURN_IF_ERROR(op_expect_same_shape(call, SGD_STEP_VALUES, SGD_STEP_GRADIENTS));
    RETURN_IF_ERROR(op_expect_same_shape(call, SGD_STEP_MOMENTUM, SGD_STEP_GRADIENTS));
    RETURN_IF_ERROR(op_expect_dim(call, SGD_STEP_TILES, 1, SGD_STEP_TILE_INTS, "parameter, start, size"));
    RETURN_IF_ERROR(op_expect_dim(call, SGD_STEP_GROUPS, 1, SGD_STEP_GROUP_FLOATS, "weight decay, lr scale"));
    RETURN_IF_ERROR(op_expect_dims_equal(call, SGD_STEP_FACTORS, 0, SGD_STEP_GROUPS, 0));
    RETURN_IF_ERROR(op_expect_dim(call, SGD_STEP_RATES, 0, SGD_STEP_RATE_FLOATS, "lr, momentum"));
    RETURN_IF_ERROR(op_expect_dim(call, SGD_STEP_VERDICT, 0, SGD_STEP_VERDICT_FLOATS, "the verdict"));
    if (!(p->clip_value >= 0)) return op_bad_attr(call, "clip_value", "at least 0");
    const int64_t *n = call->in[SGD_STEP_GRADIENTS]->shape;
    op_describe_output(call, 0, op_real_type(call), 1, n, NULL);
    op_describe_output(call, 1, op_real_type(call), 1, n, NULL);
    op_describe_output(call, 2, op_storage_type(call), 1, p->copies ? n : (int64_t[]){0}, NULL);
    return STATUS_OK;
}

static status sgd_step_validate(const op_call *call) {
    const tensor *tiles = call->in[SGD_STEP_TILES];
    int64_t n = tensor_count(call->in[SGD_STEP_GRADIENTS]), params = call->in[SGD_STEP_GROUPS]->shape[0],
            end = 0;
    for (int64_t i = 0; i < tiles->shape[0]; i++) {
        const int32_t *tile = tensor_i32(tiles) + SGD_STEP_TILE_INTS * i;
        if (tile[0] < 0 || tile[0] >= params || tile[1] < end || tile[2] < 0 ||
            (int64_t)tile[1] + tile[2] > n)
            return error_set(
                STATUS_DATA, "list tiles by rising start, within the buffers",
                "sgd_step: tensor tiles, row %lld leaves the buffers or the parameters, or overlaps",
                (long long)i);
        end = (int64_t)tile[1] + tile[2];
    }
    return STATUS_OK;
}

static const op_attr sgd_step_attrs[] = {
    {.name = "clip_value", .type = ATTR_FLOAT, .offset = offsetof(sgd_step_params, clip_value)},
    {.name = "copies", .type = ATTR_BOOL, .offset = offsetof(sgd_step_params, copies)},
    {0}};

/* As many tiles as there are rows; each element is in one, of the parameter i modulo P. Rates and verdict as in training. */
static void prepare(const op_call *call) {
    tensor *tiles = call->in[SGD_STEP_TILES];
    int64_t n = tensor_count(call->in[SGD_STEP_GRADIENTS]), rows = tiles->shape[0], at = 0;
    for (int64_t i = 0; i < rows; i++) {
        int64_t end = i + 1 == rows ? n : (n * (i + 1) / rows) & ~INT64_C(15);
        int32_t *tile = tensor_i32(tiles) + SGD_STEP_TILE_INTS * i;
        tile[0] = (int32_t)(i % call->in[SGD_STEP_GROUPS]->shape[0]);
        tile[1] = (int32_t)at;
        tile[2] = (int32_t)(end - at);
        at = end;
    }
    tensor_set(call->in[SGD_STEP_RATES], 0, 0.125);
    tensor_set(call->in[SGD_STEP_RATES], 1, 0.875);
}

/* Starts that are no multiple of anything: no vectors. */
static void prepare_crooked(const op_call *call) {
    prepare(call);
    int32_t *tile = tensor_i32(call->in[SGD_STEP_TILES]);
    tile[2] -= 3;
    tile[4] -= 3;
    tile[5] += 3;
}

static void prepare_skipped(const op_call *call) {
    prepare(call);
    tensor_set(call->in[SGD_STEP_VERDICT], 0, 1);
}

static const sgd_step_params plain = {0}, copies = {.copies = true},
                             clipped = {.clip_value = 0.25, .copies = true};

#define CASE(name_, params_, prepare_, n, t, p)                                                              \
    {                                                                                                        \
        .name = name_, .params = params_, .prepare = prepare_, .in = {                                       \
            OP_IN(NORMAL, 0, 1, n),                                                                          \
            OP_IN(NORMAL, 0, 1, n),                                                                          \
            OP_IN(NORMAL, 0, 1, n),                                                                          \
            OP_IN(CONSTANT, 0, 0, t, 3),                                                                     \
            OP_IN(UNIFORM, 0, 1, p, 2),                                                                      \
            OP_IN(UNIFORM, 0, 1, p),                                                                         \
            OP_IN(CONSTANT, 0, 0, 2),                                                                        \
            OP_IN(CONSTANT, 0, 0, 4)                                                                         \
        }                                                                                                    \
    }

static const op_case sgd_step_cases[] = {
    CASE("plain", &plain, prepare, 700, 4, 3),
    CASE("copies", &copies, prepare, 700, 4, 3),
    CASE("clipped", &clipped, prepare, 333, 4, 2),
    CASE("crooked_tiles", &copies, prepare_crooked, 333, 4, 2),
    CASE("skipped", &copies, prepare_skipped, 333, 2, 2),
    CASE("one_element", &copies, prepare, 1, 1, 1),
    CASE("no_parameters", &copies, NULL, 0, 0, 0),
};

static void sgd_step_cost(op_cost *cost, const op_call *call, bool backward) {
    (void)backward;
    cost->flops = 7 * op_cost_elements(call->in[SGD_STEP_GRADIENTS]);
}

/* The trained parameters of R50-FPN with two frozen stages. */
static const op_case sgd_step_bench[] = {
    CASE("r50_fpn", &plain, prepare, 44120816, 756, 84),
};

const op_def sgd_step_op = {
    .name = "sgd_step",
    .n_inputs = SGD_STEP_INPUTS,
    .n_outputs = 3,
    .input_names = {"gradients", "values", "momentum", "tiles", "groups", "factors", "rates", "verdict"},
    .output_names = {"new_values", "new_momentum", "copies"},
    .input_types = {DTYPE_F32, DTYPE_F32, DTYPE_F32, DTYPE_I32, DTYPE_F32, DTYPE_F32, DTYPE_F32, DTYPE_F32},
    .half_inputs = 1u << SGD_STEP_GRADIENTS,
    .shares_gradient = -1,
    .params_size = sizeof(sgd_step_params),
    .attrs = sgd_step_attrs,
    .infer = sgd_step_infer,
    .validate = sgd_step_validate,
    .cost = sgd_step_cost,
    .reference_f32 = &sgd_step_reference_f32,
    .reference_f64 = &sgd_step_reference_f64,
    .cpu = &sgd_step_reference_f32,
    .atol = 1e-6,
    .rtol = 1e-6,
    .cases = sgd_step_cases,
    .n_cases = sizeof sgd_step_cases / sizeof sgd_step_cases[0],
    .bench_cases = sgd_step_bench,
    .n_bench_cases = sizeof sgd_step_bench / sizeof sgd_step_bench[0],
};

sgd_step_result sgd_step(struct tape *t, tensor *const inputs[SGD_STEP_INPUTS],
                         const sgd_step_params *params) {
    tensor *out[3];
    tape_apply(t, &sgd_step_op, params, inputs, out);
    return (sgd_step_result){.values = out[0], .momentum = out[1], .copies = out[2]};
}
