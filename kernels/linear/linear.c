#include "linear/linear.h"

#include "autograd/op_cost.h"
#include "autograd/tape.h"

static status linear_infer(op_call *call) {
    const linear_params *p = call->params;
    const tensor *x = call->in[LINEAR_X];
    if (!p->flatten) RETURN_IF_ERROR(op_expect_rank(call, LINEAR_X, 2));
    RETURN_IF_ERROR(op_expect_rank(call, LINEAR_WEIGHT, 2));
    if (call->in[LINEAR_WEIGHT]->shape[1] != tensor_row_size(x))
        RETURN_IF_ERROR(op_expect_mismatch(call, LINEAR_WEIGHT, LINEAR_X));
    if (call->in[LINEAR_BIAS]) {
        RETURN_IF_ERROR(op_expect_rank(call, LINEAR_BIAS, 1));
        RETURN_IF_ERROR(op_expect_dims_equal(call, LINEAR_BIAS, 0, LINEAR_WEIGHT, 0));
    }
    op_describe_output(call, 0, p->f32_output ? op_real_type(call) : x->type, 2,
                       (int64_t[]){x->shape[0], call->in[LINEAR_WEIGHT]->shape[0]}, x->rows);
    return STATUS_OK;
}

static bool has_no_relu(const op_call *call) {
    return !((const linear_params *)call->params)->relu;
}

static const op_attr linear_attrs[] = {
    {.name = "relu", .type = ATTR_BOOL, .offset = offsetof(linear_params, relu)},
    {.name = NULL},
};

static const linear_params plain = {.relu = false}, with_relu = {.relu = true},
                           flattening = {.flatten = true}, scores = {.f32_output = true};

static const op_case linear_cases[] = {
    {.name = "f32_scores",
     .params = &scores,
     .in = {OP_IN(NORMAL, 0, 1, 6, 16), OP_IN(NORMAL, 0, 1, 5, 16), OP_IN(NORMAL, 0, 1, 5)}},
    {.name = "odd_sizes",
     .params = &plain,
     .in = {OP_IN(NORMAL, 0, 1, 5, 7), OP_IN(NORMAL, 0, 1, 3, 7), OP_IN(NORMAL, 0, 1, 3)}},
    {.name = "relu",
     .params = &with_relu,
     .in = {OP_IN(NORMAL, 0, 1, 9, 17), OP_IN(NORMAL, 0, 1, 33, 17), OP_IN(NORMAL, 0, 1, 33)}},
    {.name = "no_bias", .params = &plain, .in = {OP_IN(NORMAL, 0, 1, 4, 6), OP_IN(NORMAL, 0, 1, 2, 6)}},
    {.name = "no_rows",
     .params = &with_relu,
     .in = {OP_IN(NORMAL, 0, 1, 0, 6), OP_IN(NORMAL, 0, 1, 2, 6), OP_IN(NORMAL, 0, 1, 2)}},
    {.name = "one_element",
     .params = &plain,
     .in = {OP_IN(NORMAL, 0, 1, 1, 1), OP_IN(NORMAL, 0, 1, 1, 1), OP_IN(NORMAL, 0, 1, 1)}},
    {.name = "flattened_maps",
     .params = &flattening,
     .in = {OP_IN(NORMAL, 0, 1, 5, 2, 3, 7), OP_IN(NORMAL, 0, 1, 4, 42), OP_IN(NORMAL, 0, 1, 4)}},
    {.name = "some_rows",
     .params = &with_relu,
     .in = {OP_IN(NORMAL, 0, 1, 11, 6), OP_IN(NORMAL, 0, 1, 5, 6), OP_IN(NORMAL, 0, 1, 5)},
     .valid_rows = 7},
    {.name = "no_valid_rows",
     .params = &plain,
     .in = {OP_IN(NORMAL, 0, 1, 3, 6), OP_IN(NORMAL, 0, 1, 5, 6), OP_IN(NORMAL, 0, 1, 5)},
     .valid_rows = -1},
    {.name = "many_rows",
     .params = &with_relu,
     .in = {OP_IN(NORMAL, 0, 1, 300, 24), OP_IN(NORMAL, 0, 1, 40, 24), OP_IN(NORMAL, 0, 1, 40)}},
};

static void linear_cost(op_cost *cost, const op_call *call, bool backward) {
    double outputs = (double)call->in[LINEAR_WEIGHT]->shape[0];
    cost->flops = op_cost_of_product(call, backward, 2 * outputs * op_cost_elements(call->in[LINEAR_X]));
}

static const linear_params fc6_params = {.relu = true, .flatten = true};

static const op_case linear_bench[] = {
    {.name = "fc6_512_rois",
     .params = &fc6_params,
     .in = {OP_IN(NORMAL, 0, 1, 512, 7, 7, 256), OP_IN(NORMAL, 0, 0.01, 1024, 12544),
            OP_IN(NORMAL, 0, 1, 1024)}},
    {.name = "fc7_512_rois",
     .params = &with_relu,
     .in = {OP_IN(NORMAL, 0, 1, 512, 1024), OP_IN(NORMAL, 0, 0.01, 1024, 1024), OP_IN(NORMAL, 0, 1, 1024)}},
    {.name = "box_deltas_512_rois",
     .params = &plain,
     .in = {OP_IN(NORMAL, 0, 1, 512, 1024), OP_IN(NORMAL, 0, 0.01, 320, 1024), OP_IN(NORMAL, 0, 1, 320)}},
};

const op_def linear_op = {
    .name = "linear",
    .n_inputs = 3,
    .n_outputs = 1,
    .input_names = {"x", "weight", "bias"},
    .output_names = {"y"},
    .input_types = {DTYPE_F32, DTYPE_F32, DTYPE_F32},
    .half_inputs = 1u << LINEAR_X | 1u << LINEAR_WEIGHT,
    .optional_inputs = 1u << LINEAR_BIAS,
    .differentiable = 1u << LINEAR_X | 1u << LINEAR_WEIGHT | 1u << LINEAR_BIAS,
    .backward_reads_inputs = 1u << LINEAR_X | 1u << LINEAR_WEIGHT,
    .backward_reads_outputs = 1u, /* the ReLU mask */
    .backward_ignores_outputs = has_no_relu,
    .shares_gradient = -1,
    .params_size = sizeof(linear_params),
    .attrs = linear_attrs,
    .infer = linear_infer,
    .cost = linear_cost,
    .reference_f32 = &linear_reference_f32,
    .reference_f64 = &linear_reference_f64,
    .cpu = &linear_direct,
    .variants = {&linear_blas},
    .atol = 1e-5,
    .rtol = 1e-5,
    .cases = linear_cases,
    .n_cases = sizeof linear_cases / sizeof linear_cases[0],
    .bench_cases = linear_bench,
    .n_bench_cases = sizeof linear_bench / sizeof linear_bench[0],
};

tensor *linear(struct tape *t, tensor *x, tensor *weight, tensor *bias, const linear_params *params) {
    tensor *y;
    tape_apply(t, &linear_op, params, (tensor *[]){x, weight, bias}, &y);
    return y;
}
