#include "upsample_add/upsample_add.h"

#include "autograd/op_cost.h"
#include "autograd/tape.h"

static status upsample_add_infer(op_call *call) {
    RETURN_IF_ERROR(op_expect_rank(call, UPSAMPLE_ADD_TOP, 4));
    RETURN_IF_ERROR(op_expect_rank(call, UPSAMPLE_ADD_LATERAL, 4));
    const tensor *top = call->in[UPSAMPLE_ADD_TOP], *lateral = call->in[UPSAMPLE_ADD_LATERAL];
    RETURN_IF_ERROR(op_expect_dims_equal(call, UPSAMPLE_ADD_LATERAL, 0, UPSAMPLE_ADD_TOP, 0));
    RETURN_IF_ERROR(op_expect_dims_equal(call, UPSAMPLE_ADD_LATERAL, 3, UPSAMPLE_ADD_TOP, 3));
    for (int axis = 1; axis <= 2; axis++)
        if (lateral->shape[axis] != 2 * top->shape[axis])
            return op_expect_mismatch(call, UPSAMPLE_ADD_LATERAL, UPSAMPLE_ADD_TOP);
    op_describe_output(call, 0, lateral->type, 4, lateral->shape, top->rows);
    return STATUS_OK;
}

static const op_case upsample_add_cases[] = {
    {.name = "odd", .in = {OP_IN(NORMAL, 0, 1, 2, 3, 5, 7), OP_IN(NORMAL, 0, 1, 2, 6, 10, 7)}},
    {.name = "many_tiles", .in = {OP_IN(NORMAL, 0, 1, 2, 25, 17, 32), OP_IN(NORMAL, 0, 1, 2, 50, 34, 32)}},
    {.name = "rows",
     .in = {OP_IN(NORMAL, 0, 1, 3, 2, 3, 4), OP_IN(NORMAL, 0, 1, 3, 4, 6, 4)},
     .valid_rows = 2,
     .rows_inputs = 1u << UPSAMPLE_ADD_TOP | 1u << UPSAMPLE_ADD_LATERAL},
    {.name = "no_images", .in = {OP_IN(NORMAL, 0, 1, 0, 2, 3, 4), OP_IN(NORMAL, 0, 1, 0, 4, 6, 4)}},
    {.name = "no_pixels", .in = {OP_IN(NORMAL, 0, 1, 1, 0, 3, 4), OP_IN(NORMAL, 0, 1, 1, 0, 6, 4)}},
    {.name = "one_pixel", .in = {OP_IN(NORMAL, 0, 1, 1, 1, 1, 1), OP_IN(NORMAL, 0, 1, 1, 2, 2, 1)}},
};

static void upsample_add_cost(op_cost *cost, const op_call *call, bool backward) {
    const tensor *top = call->in[UPSAMPLE_ADD_TOP];
    if (!backward)
        cost->flops = op_cost_elements(call->out[0]);
    else if (call->d_in[UPSAMPLE_ADD_TOP])
        cost->flops = 3 * op_cost_elements(top);
}

static const op_case upsample_add_bench[] = {
    {.name = "fpn_p2", .in = {OP_IN(NORMAL, 0, 1, 1, 100, 168, 256), OP_IN(NORMAL, 0, 1, 1, 200, 336, 256)}},
    {.name = "fpn_p4", .in = {OP_IN(NORMAL, 0, 1, 1, 25, 42, 256), OP_IN(NORMAL, 0, 1, 1, 50, 84, 256)}},
};

const op_def upsample_add_op = {
    .name = "upsample_add",
    .n_inputs = 2,
    .n_outputs = 1,
    .input_names = {"top", "lateral"},
    .output_names = {"y"},
    .input_types = {DTYPE_F32, DTYPE_F32},
    .half_inputs = 1u << UPSAMPLE_ADD_TOP | 1u << UPSAMPLE_ADD_LATERAL,
    .differentiable = 1u << UPSAMPLE_ADD_TOP | 1u << UPSAMPLE_ADD_LATERAL,
    .shares_gradient = UPSAMPLE_ADD_LATERAL,
    .infer = upsample_add_infer,
    .cost = upsample_add_cost,
    .reference_f32 = &upsample_add_reference_f32,
    .reference_f64 = &upsample_add_reference_f64,
    .cpu = &upsample_add_tiled,
    .atol = 1e-6,
    .rtol = 1e-6,
    .cases = upsample_add_cases,
    .n_cases = sizeof upsample_add_cases / sizeof upsample_add_cases[0],
    .bench_cases = upsample_add_bench,
    .n_bench_cases = sizeof upsample_add_bench / sizeof upsample_add_bench[0],
};

tensor *upsample_add(struct tape *t, tensor *top, tensor *lateral) {
    tensor *y;
    tape_apply(t, &upsample_add_op, NULL, (tensor *[]){top, lateral}, &y);
    return y;
}
