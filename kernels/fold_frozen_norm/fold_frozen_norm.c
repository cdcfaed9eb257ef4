#include "fold_frozen_norm/fold_frozen_norm.h"

#include "autograd/op_cost.h"
#include "autograd/tape.h"

static status fold_frozen_norm_infer(op_call *call) {
    const fold_frozen_norm_params *p = call->params;
    if (!(p->eps >= 0)) return op_bad_attr(call, "eps", "0 or more");
    RETURN_IF_ERROR(op_expect_rank(call, FOLD_WEIGHT, 4));
    for (int input = FOLD_NORM_WEIGHT; input <= FOLD_RUNNING_VAR; input++) {
        RETURN_IF_ERROR(op_expect_rank(call, input, 1));
        RETURN_IF_ERROR(op_expect_dims_equal(call, input, 0, FOLD_WEIGHT, 0));
    }
    const tensor *weight = call->in[FOLD_WEIGHT];
    op_describe_output(call, 0, weight->type == DTYPE_F64 ? DTYPE_F64 : call->storage, 4, weight->shape,
                       NULL);
    op_describe_output(call, 1, weight->type, 1, weight->shape, NULL);
    return STATUS_OK;
}

static const op_attr fold_frozen_norm_attrs[] = {
    {.name = "eps", .type = ATTR_FLOAT, .offset = offsetof(fold_frozen_norm_params, eps), .fallback = 1e-5},
    {.name = NULL},
};

static const fold_frozen_norm_params usual = {.eps = 1e-5}, no_eps = {.eps = 0};

#define X(...) OP_IN(NORMAL, 0, 1, __VA_ARGS__)
#define VARIANCE(low, ...) OP_IN(UNIFORM, low, 2, __VA_ARGS__)

static const op_case fold_frozen_norm_cases[] = {
    {.name = "odd_sizes", .params = &usual, .in = {X(5, 3, 2, 7), X(5), X(5), X(5), VARIANCE(0.1, 5)}},
    {.name = "no_eps",
     .params = &no_eps,
     .in = {X(9, 1, 1, 4), X(9), X(9), X(9), OP_IN(UNIFORM, 1e-4, 1e-3, 9)}},
    {.name = "one_element", .params = &usual, .in = {X(1, 1, 1, 1), X(1), X(1), X(1), VARIANCE(0.1, 1)}},
    {.name = "no_channels", .params = &usual, .in = {X(0, 3, 3, 4), X(0), X(0), X(0), VARIANCE(0.1, 0)}},
    {.name = "many_channels",
     .params = &usual,
     .in = {X(300, 1, 1, 5), X(300), X(300), X(300), VARIANCE(0.1, 300)}},
};

static void fold_frozen_norm_cost(op_cost *cost, const op_call *call, bool backward) {
    (void)backward;
    cost->flops = op_cost_elements(call->in[FOLD_WEIGHT]);
}

static const op_case fold_frozen_norm_bench[] = {
    {.name = "res3_3x3_128",
     .params = &usual,
     .in = {X(128, 3, 3, 128), X(128), X(128), X(128), VARIANCE(0.1, 128)}},
    {.name = "res5_1x1_512_2048",
     .params = &usual,
     .in = {X(2048, 1, 1, 512), X(2048), X(2048), X(2048), VARIANCE(0.1, 2048)}},
};

const op_def fold_frozen_norm_op = {
    .name = "fold_frozen_norm",
    .n_inputs = 5,
    .n_outputs = 2,
    .input_names = {"weight", "norm_weight", "norm_bias", "running_mean", "running_var"},
    .output_names = {"folded_weight", "folded_bias"},
    .input_types = {DTYPE_F32, DTYPE_F32, DTYPE_F32, DTYPE_F32, DTYPE_F32},
    .makes_half = true,
    .differentiable = 1u << FOLD_WEIGHT,
    .backward_reads_inputs = 1u << FOLD_NORM_WEIGHT | 1u << FOLD_RUNNING_VAR,
    .shares_gradient = -1,
    .params_size = sizeof(fold_frozen_norm_params),
    .attrs = fold_frozen_norm_attrs,
    .infer = fold_frozen_norm_infer,
    .cost = fold_frozen_norm_cost,
    .reference_f32 = &fold_frozen_norm_reference_f32,
    .reference_f64 = &fold_frozen_norm_reference_f64,
    .cpu = &fold_frozen_norm_reference_f32,
    .atol = 1e-6,
    .rtol = 1e-5,
    .cases = fold_frozen_norm_cases,
    .n_cases = sizeof fold_frozen_norm_cases / sizeof fold_frozen_norm_cases[0],
    .bench_cases = fold_frozen_norm_bench,
    .n_bench_cases = sizeof fold_frozen_norm_bench / sizeof fold_frozen_norm_bench[0],
};

folded_conv fold_frozen_norm(struct tape *t, tensor *const inputs[5], const fold_frozen_norm_params *params) {
    tensor *out[2];
    tape_apply(t, &fold_frozen_norm_op, params, inputs, out);
    return (folded_conv){.weight = out[0], .bias = out[1]};
}
