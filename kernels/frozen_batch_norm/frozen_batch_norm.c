#include "frozen_batch_norm/frozen_batch_norm.h"

#include "autograd/op_cost.h"
#include "autograd/tape.h"

static status frozen_batch_norm_infer(op_call *call) {
    const frozen_batch_norm_params *p = call->params;
    if (!(p->eps >= 0)) return op_bad_attr(call, "eps", "0 or more");
    RETURN_IF_ERROR(op_expect_rank(call, FROZEN_BATCH_NORM_X, 4));
    for (int i = FROZEN_BATCH_NORM_WEIGHT; i <= FROZEN_BATCH_NORM_VAR; i++) {
        RETURN_IF_ERROR(op_expect_rank(call, i, 1));
        RETURN_IF_ERROR(op_expect_dims_equal(call, i, 0, FROZEN_BATCH_NORM_X, 3));
    }
    const tensor *x = call->in[FROZEN_BATCH_NORM_X];
    op_describe_output(call, 0, x->type, 4, x->shape, x->rows);
    return STATUS_OK;
}

static bool has_no_relu(const op_call *call) {
    return !((const frozen_batch_norm_params *)call->params)->relu;
}

static const op_attr frozen_batch_norm_attrs[] = {
    {.name = "eps", .type = ATTR_FLOAT, .offset = offsetof(frozen_batch_norm_params, eps), .fallback = 1e-5},
    {.name = "relu", .type = ATTR_BOOL, .offset = offsetof(frozen_batch_norm_params, relu)},
    {.name = NULL},
};

static const frozen_batch_norm_params plain = {.eps = 1e-5}, with_relu = {.eps = 1e-5, .relu = true},
                                      no_eps = {.relu = true};

#define VECTORS(c)                                                                                           \
    OP_IN(NORMAL, 1, 0.5, c), OP_IN(NORMAL, 0, 1, c), OP_IN(NORMAL, 0, 1, c), OP_IN(UNIFORM, 0.5, 2, c)

static const op_case frozen_batch_norm_cases[] = {
    {.name = "plain", .params = &plain, .in = {OP_IN(NORMAL, 0, 1, 2, 3, 5, 7), VECTORS(7)}},
    {.name = "relu", .params = &with_relu, .in = {OP_IN(NORMAL, 0, 1, 2, 5, 3, 17), VECTORS(17)}},
    {.name = "no_eps_small_variance",
     .params = &no_eps,
     .in = {OP_IN(NORMAL, 0, 0.05, 1, 4, 4, 8), OP_IN(NORMAL, 1, 0.5, 8), OP_IN(NORMAL, 0, 1, 8),
            OP_IN(NORMAL, 0, 0.05, 8), OP_IN(UNIFORM, 1e-4, 2e-4, 8)}},
    {.name = "many_tiles", .params = &with_relu, .in = {OP_IN(NORMAL, 0, 1, 2, 33, 17, 64), VECTORS(64)}},
    {.name = "rows",
     .params = &with_relu,
     .in = {OP_IN(NORMAL, 0, 1, 4, 3, 3, 9), VECTORS(9)},
     .valid_rows = 2},
    {.name = "no_valid_rows",
     .params = &plain,
     .in = {OP_IN(NORMAL, 0, 1, 4, 3, 3, 9), VECTORS(9)},
     .valid_rows = -1},
    {.name = "no_images", .params = &plain, .in = {OP_IN(NORMAL, 0, 1, 0, 3, 3, 4), VECTORS(4)}},
    {.name = "one_element", .params = &plain, .in = {OP_IN(NORMAL, 0, 1, 1, 1, 1, 1), VECTORS(1)}},
    {.name = "mean_of_100_deviations",
     .params = &plain,
     .in = {OP_IN(NORMAL, 100, 1, 1, 4, 4, 8), OP_IN(NORMAL, 1, 0.5, 8), OP_IN(NORMAL, 0, 1, 8),
            OP_IN(NORMAL, 100, 1, 8), OP_IN(UNIFORM, 0.5, 2, 8)}},
};

static void frozen_batch_norm_cost(op_cost *cost, const op_call *call, bool backward) {
    cost->flops = (backward ? 1 : 2) * op_cost_elements(call->out[0]);
}

static const op_case frozen_batch_norm_bench[] = {
    {.name = "res2", .params = &with_relu, .in = {OP_IN(NORMAL, 0, 1, 1, 200, 336, 256), VECTORS(256)}},
    {.name = "res4", .params = &with_relu, .in = {OP_IN(NORMAL, 0, 1, 1, 50, 84, 1024), VECTORS(1024)}},
};

const op_def frozen_batch_norm_op = {
    .name = "frozen_batch_norm",
    .n_inputs = 5,
    .n_outputs = 1,
    .input_names = {"x", "weight", "bias", "running_mean", "running_var"},
    .output_names = {"y"},
    .input_types = {DTYPE_F32, DTYPE_F32, DTYPE_F32, DTYPE_F32, DTYPE_F32},
    .half_inputs = 1u << FROZEN_BATCH_NORM_X,
    .differentiable = 1u << FROZEN_BATCH_NORM_X,
    .backward_reads_inputs = 1u << FROZEN_BATCH_NORM_WEIGHT | 1u << FROZEN_BATCH_NORM_VAR,
    .backward_reads_outputs = 1u, /* the ReLU mask */
    .backward_ignores_outputs = has_no_relu,
    .shares_gradient = -1,
    .params_size = sizeof(frozen_batch_norm_params),
    .attrs = frozen_batch_norm_attrs,
    .infer = frozen_batch_norm_infer,
    .cost = frozen_batch_norm_cost,
    .reference_f32 = &frozen_batch_norm_reference_f32,
    .reference_f64 = &frozen_batch_norm_reference_f64,
    .cpu = &frozen_batch_norm_tiled,
    .atol = 2e-6,
    .rtol = 2e-6,
    .cases = frozen_batch_norm_cases,
    .n_cases = sizeof frozen_batch_norm_cases / sizeof frozen_batch_norm_cases[0],
    .bench_cases = frozen_batch_norm_bench,
    .n_bench_cases = sizeof frozen_batch_norm_bench / sizeof frozen_batch_norm_bench[0],
};

tensor *frozen_batch_norm(struct tape *t, tensor *const in[5], const frozen_batch_norm_params *params) {
    tensor *y;
    tape_apply(t, &frozen_batch_norm_op, params, in, &y);
    return y;
}
