#include "all_reduce_counts/all_reduce_counts.h"

#include "autograd/tape.h"

static status all_reduce_counts_infer(op_call *call) {
    for (int input = 0; input < 2; input++) {
        RETURN_IF_ERROR(op_expect_rank(call, input, 1));
        RETURN_IF_ERROR(op_expect_dim(call, input, 0, 2, "a pair of counts"));
    }
    for (int i = 0; i < ALL_REDUCE_COUNTS; i++)
        op_describe_output(call, i, call->in[ALL_REDUCE_A]->type, 0, NULL, NULL);
    return STATUS_OK;
}

static const op_case all_reduce_counts_cases[] = {
    {.name = "counts", .in = {OP_IN(INTEGER, 0, 500, 2), OP_IN(INTEGER, 0, 500, 2)}},
    {.name = "zeros", .in = {OP_IN(CONSTANT, 0, 0, 2), OP_IN(CONSTANT, 0, 0, 2)}},
};

static const op_case all_reduce_counts_bench[] = {
    {.name = "one_rank", .in = {OP_IN(INTEGER, 0, 500, 2), OP_IN(INTEGER, 0, 500, 2)}},
};

const op_def all_reduce_counts_op = {
    .name = "all_reduce_counts",
    .n_inputs = 2,
    .n_outputs = ALL_REDUCE_COUNTS,
    .input_names = {"a", "b"},
    .output_names = {"a0", "a1", "b0", "b1"},
    .input_types = {DTYPE_F32, DTYPE_F32},
    .shares_gradient = -1,
    .infer = all_reduce_counts_infer,
    .reference_f32 = &all_reduce_counts_reference_f32,
    .reference_f64 = &all_reduce_counts_reference_f64,
    .cpu = &all_reduce_counts_reference_f32,
    .cases = all_reduce_counts_cases,
    .n_cases = sizeof all_reduce_counts_cases / sizeof all_reduce_counts_cases[0],
    .bench_cases = all_reduce_counts_bench,
    .n_bench_cases = sizeof all_reduce_counts_bench / sizeof all_reduce_counts_bench[0],
};

void all_reduce_counts(struct tape *t, tensor *a, tensor *b, tensor *sums[ALL_REDUCE_COUNTS]) {
    tape_apply(t, &all_reduce_counts_op, NULL, (tensor *[]){a, b}, sums);
}
