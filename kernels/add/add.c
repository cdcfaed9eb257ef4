#include "add/add.h"

#include "autograd/op_cost.h"
#include "autograd/tape.h"

static status add_infer(op_call *call) {
    RETURN_IF_ERROR(op_expect_same_shape(call, ADD_B, ADD_A));
    const tensor *a = call->in[ADD_A];
    op_describe_output(call, 0, a->type, a->rank, a->shape, a->rows);
    return STATUS_OK;
}

static const op_attr add_attrs[] = {
    {.name = "relu", .type = ATTR_BOOL, .offset = offsetof(add_params, relu)},
    {.name = NULL},
};

static const add_params plain = {.relu = false}, with_relu = {.relu = true};

static const op_case add_cases[] = {
    {.name = "plain", .params = &plain, .in = {OP_IN(NORMAL, 0, 1, 3, 5, 7), OP_IN(NORMAL, 0, 1, 3, 5, 7)}},
    {.name = "relu",
     .params = &with_relu,
     .in = {OP_IN(NORMAL, 0, 1, 2, 9, 9, 64), OP_IN(NORMAL, 0, 1, 2, 9, 9, 64)}},
    {.name = "one_element", .params = &with_relu, .in = {OP_IN(NORMAL, 1, 0, 1), OP_IN(NORMAL, 1, 0, 1)}},
    {.name = "empty", .params = &with_relu, .in = {OP_IN(NORMAL, 0, 1, 0, 4), OP_IN(NORMAL, 0, 1, 0, 4)}},
};

static void add_cost(op_cost *cost, const op_call *call, bool backward) {
    cost->flops = backward ? 0 : op_cost_elements(call->out[0]);
}

static const op_case add_bench[] = {
    {.name = "res2",
     .params = &with_relu,
     .in = {OP_IN(NORMAL, 0, 1, 1, 200, 336, 256), OP_IN(NORMAL, 0, 1, 1, 200, 336, 256)}},
    {.name = "res4",
     .params = &with_relu,
     .in = {OP_IN(NORMAL, 0, 1, 1, 50, 84, 1024), OP_IN(NORMAL, 0, 1, 1, 50, 84, 1024)}},
};

const op_def add_op = {
    .name = "add",
    .n_inputs = 2,
    .n_outputs = 1,
    .input_names = {"a", "b"},
    .output_names = {"y"},
    .input_types = {DTYPE_F32, DTYPE_F32},
    .half_inputs = 1u << ADD_A | 1u << ADD_B,
    .differentiable = 1u << ADD_A | 1u << ADD_B,
    .backward_reads_outputs = 1u, /* the ReLU mask */
    .shares_gradient = ADD_B,
    .params_size = sizeof(add_params),
    .attrs = add_attrs,
    .infer = add_infer,
    .cost = add_cost,
    .reference_f32 = &add_reference_f32,
    .reference_f64 = &add_reference_f64,
    .cpu = &add_tiled,
    .atol = 1e-6,
    .rtol = 1e-6,
    .cases = add_cases,
    .n_cases = sizeof add_cases / sizeof add_cases[0],
    .bench_cases = add_bench,
    .n_bench_cases = sizeof add_bench / sizeof add_bench[0],
};

tensor *add(struct tape *t, tensor *a, tensor *b, const add_params *params) {
    tensor *y;
    tape_apply(t, &add_op, params, (tensor *[]){a, b}, &y);
    return y;
}
