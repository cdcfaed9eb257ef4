#include "all_reduce_counts/all_reduce_counts.h"

#include "autograd/tape.h"

static status all_reduce_counts_infer(op_call *call) {
    RETURN_IF_ERROR(op_expect_rank(call, ALL_REDUCE_A, 1));
    RETURN_IF_ERROR(op_expect_rank(call, ALL_REDUCE_B, 1));
    const tensor *a = call->in[ALL_REDUCE_A];
    op_describe_output(call, 0, a->type, 1, (int64_t[]){a->shape[0] + call->in[ALL_REDUCE_B]->shape[0]},
                       NULL);
    return STATUS_OK;
}

static const op_case all_reduce_counts_cases[] = {
    {.name = "two_and_two", .in = {OP_IN(INTEGER, 0, 500, 2), OP_IN(INTEGER, 0, 500, 2)}},
    {.name = "one_and_three", .in = {OP_IN(INTEGER, 0, 500, 1), OP_IN(INTEGER, 0, 500, 3)}},
    {.name = "empty", .in = {OP_IN(INTEGER, 0, 500, 0), OP_IN(INTEGER, 0, 500, 1)}},
};

const op_def all_reduce_counts_op = {
    .name = "all_reduce_counts",
    .n_inputs = 2,
    .n_outputs = 1,
    .input_names = {"a", "b"},
    .output_names = {"y"},
    .input_types = {DTYPE_F32, DTYPE_F32},
    .shares_gradient = -1,
    .infer = all_reduce_counts_infer,
    .reference_f32 = &all_reduce_counts_reference_f32,
    .reference_f64 = &all_reduce_counts_reference_f64,
    .cpu = &all_reduce_counts_reference_f32,
    .cases = all_reduce_counts_cases,
    .n_cases = sizeof all_reduce_counts_cases / sizeof all_reduce_counts_cases[0],
};

tensor *all_reduce_counts(struct tape *t, tensor *a, tensor *b) {
    tensor *y;
    tape_apply(t, &all_reduce_counts_op, NULL, (tensor *[]){a, b}, &y);
    return y;
}
