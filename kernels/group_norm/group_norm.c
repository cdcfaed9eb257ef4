#include "group_norm/group_norm.h"

#include "autograd/op_cost.h"
#include "autograd/tape.h"

static status group_norm_infer(op_call *call) {
    const group_norm_params *p = call->params;
    if (!(p->eps >= 0)) return op_bad_attr(call, "eps", "0 or more");
    if (p->groups < 1) return op_bad_attr(call, "groups", "1 or more");
    RETURN_IF_ERROR(op_expect_rank(call, GROUP_NORM_X, 4));
    const tensor *x = call->in[GROUP_NORM_X];
    if (x->shape[3] % p->groups != 0)
        return error_set(STATUS_DATA, "choose a number of groups that divides the channels",
                         "%s: tensor x has %lld channels, which %d groups do not divide", call->op->name,
                         (long long)x->shape[3], p->groups);
    for (int i = GROUP_NORM_WEIGHT; i <= GROUP_NORM_BIAS; i++) {
        RETURN_IF_ERROR(op_expect_rank(call, i, 1));
        RETURN_IF_ERROR(op_expect_dims_equal(call, i, 0, GROUP_NORM_X, 3));
    }
    op_describe_output(call, GROUP_NORM_Y, x->type, 4, x->shape, x->rows);
    op_describe_output(call, GROUP_NORM_SAVED, op_real_type(call), 3, (int64_t[]){x->shape[0], 3, p->groups},
                       x->rows);
    return STATUS_OK;
}

static const op_attr group_norm_attrs[] = {
    {.name = "groups", .type = ATTR_INT, .offset = offsetof(group_norm_params, groups), .fallback = 32},
    {.name = "eps", .type = ATTR_FLOAT, .offset = offsetof(group_norm_params, eps), .fallback = 1e-5},
    {.name = "relu", .type = ATTR_BOOL, .offset = offsetof(group_norm_params, relu)},
    {.name = NULL},
};

static const group_norm_params two = {.groups = 2, .eps = 1e-5},
                               three_relu = {.groups = 3, .eps = 1e-3, .relu = true},
                               one = {.groups = 1, .eps = 1e-5},
                               sixteen_relu = {.groups = 16, .eps = 1e-5, .relu = true},
                               each = {.groups = 8, .eps = 1e-5};

#define VECTORS(c) OP_IN(NORMAL, 1, 0.5, c), OP_IN(NORMAL, 0, 1, c)

static const op_case group_norm_cases[] = {
    {.name = "two_groups", .params = &two, .in = {OP_IN(NORMAL, 0.5, 1, 2, 3, 5, 6), VECTORS(6)}},
    {.name = "relu", .params = &three_relu, .in = {OP_IN(NORMAL, -1, 2, 3, 5, 3, 21), VECTORS(21)}},
    {.name = "one_group", .params = &one, .in = {OP_IN(NORMAL, 0, 1, 2, 4, 3, 5), VECTORS(5)}},
    {.name = "group_for_each_channel", .params = &each, .in = {OP_IN(NORMAL, 0, 1, 2, 4, 4, 8), VECTORS(8)}},
    {.name = "many_tiles", .params = &sixteen_relu, .in = {OP_IN(NORMAL, 0, 1, 2, 33, 17, 64), VECTORS(64)}},
    {.name = "many_channels", .params = &two, .in = {OP_IN(NORMAL, 0, 1, 2, 3, 2, 264), VECTORS(264)}},
    {.name = "mean_of_100_deviations", .params = &two, .in = {OP_IN(NORMAL, 100, 1, 2, 6, 6, 8), VECTORS(8)}},
    {.name = "constant",
     .params = &two,
     .in = {OP_IN(CONSTANT, 3, 0, 2, 3, 3, 4), VECTORS(4)},
     .kinks = true},
    {.name = "rows",
     .params = &three_relu,
     .in = {OP_IN(NORMAL, 0, 1, 4, 3, 3, 9), VECTORS(9)},
     .valid_rows = 3},
    {.name = "no_valid_rows",
     .params = &two,
     .in = {OP_IN(NORMAL, 0, 1, 4, 3, 3, 8), VECTORS(8)},
     .valid_rows = -1},
    {.name = "no_images", .params = &two, .in = {OP_IN(NORMAL, 0, 1, 0, 3, 3, 4), VECTORS(4)}},
    {.name = "no_pixels", .params = &two, .in = {OP_IN(NORMAL, 0, 1, 2, 0, 3, 4), VECTORS(4)}},
    {.name = "one_element", .params = &one, .in = {OP_IN(NORMAL, 0, 1, 1, 1, 1, 1), VECTORS(1)}},
};

static void group_norm_cost(op_cost *cost, const op_call *call, bool backward) {
    /* Forward: two passes for the statistics, one to use them. Backward: four sums, then d_x. */
    double elements = op_cost_elements(call->out[GROUP_NORM_Y]);
    cost->flops = !backward ? 6 * elements : (call->d_in[GROUP_NORM_X] ? 11 : 6) * elements;
}

static const group_norm_params usual = {.groups = 32, .eps = 1e-5, .relu = true};

static const op_case group_norm_bench[] = {
    {.name = "res2", .params = &usual, .in = {OP_IN(NORMAL, 0, 1, 1, 200, 336, 256), VECTORS(256)}},
    {.name = "res4", .params = &usual, .in = {OP_IN(NORMAL, 0, 1, 1, 50, 84, 1024), VECTORS(1024)}},
};

const op_def group_norm_op = {
    .name = "group_norm",
    .n_inputs = 3,
    .n_outputs = 2,
    .input_names = {"x", "weight", "bias"},
    .output_names = {"y", "saved_statistics"},
    .input_types = {DTYPE_F32, DTYPE_F32, DTYPE_F32},
    .half_inputs = 1u << GROUP_NORM_X,
    .differentiable = 1u << GROUP_NORM_X | 1u << GROUP_NORM_WEIGHT | 1u << GROUP_NORM_BIAS,
    .backward_reads_inputs = 1u << GROUP_NORM_X | 1u << GROUP_NORM_WEIGHT,
    .backward_reads_outputs = 1u << GROUP_NORM_Y | 1u << GROUP_NORM_SAVED,
    .constant_outputs = 1u << GROUP_NORM_SAVED,
    .shares_gradient = -1,
    .params_size = sizeof(group_norm_params),
    .attrs = group_norm_attrs,
    .infer = group_norm_infer,
    .cost = group_norm_cost,
    .reference_f32 = &group_norm_reference_f32,
    .reference_f64 = &group_norm_reference_f64,
    .cpu = &group_norm_tiled,
    .atol = 1e-5,
    .rtol = 1e-5,
    .cases = group_norm_cases,
    .n_cases = sizeof group_norm_cases / sizeof group_norm_cases[0],
    .bench_cases = group_norm_bench,
    .n_bench_cases = sizeof group_norm_bench / sizeof group_norm_bench[0],
};

tensor *group_norm(struct tape *t, tensor *x, tensor *weight, tensor *bias, const group_norm_params *params) {
    tensor *out[2];
    tape_apply(t, &group_norm_op, params, (tensor *[]){x, weight, bias}, out);
    return out[GROUP_NORM_Y];
}
