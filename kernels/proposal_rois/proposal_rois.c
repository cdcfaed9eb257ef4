#include "proposal_rois/proposal_rois.h"

#include "autograd/tape.h"

static status proposal_rois_infer(op_call *call) {
    RETURN_IF_ERROR(op_expect_rank(call, PROPOSAL_ROIS_PROPOSALS, 3));
    RETURN_IF_ERROR(op_expect_dim(call, PROPOSAL_ROIS_PROPOSALS, 2, 4, "x1 y1 x2 y2"));
    RETURN_IF_ERROR(op_expect_rank(call, PROPOSAL_ROIS_COUNTS, 1));
    RETURN_IF_ERROR(op_expect_dims_equal(call, PROPOSAL_ROIS_COUNTS, 0, PROPOSAL_ROIS_PROPOSALS, 0));
    const tensor *proposals = call->in[PROPOSAL_ROIS_PROPOSALS];
    int64_t rows = proposals->shape[0] * proposals->shape[1];
    op_describe_output(call, PROPOSAL_ROIS_COUNT, DTYPE_I32, 1, (int64_t[]){1}, NULL);
    op_describe_output(call, PROPOSAL_ROIS_ROIS, op_real_type(call), 2, (int64_t[]){rows, 5},
                       call->out[PROPOSAL_ROIS_COUNT]);
    return STATUS_OK;
}

static status proposal_rois_validate(const op_call *call) {
    const tensor *counts = call->in[PROPOSAL_ROIS_COUNTS];
    int64_t capacity = call->in[PROPOSAL_ROIS_PROPOSALS]->shape[1];
    for (int64_t n = 0; n < counts->shape[0]; n++)
        if (tensor_i32(counts)[n] < 0 || tensor_i32(counts)[n] > capacity)
            return error_set(STATUS_DATA, "count the proposals of each image",
                             "proposal_rois: tensor counts: value %d at %lld, but tensor proposals has room "
                             "for %lld",
                             tensor_i32(counts)[n], (long long)n, (long long)capacity);
    return STATUS_OK;
}

static void some(const op_call *call) {
    const tensor *counts = call->in[PROPOSAL_ROIS_COUNTS];
    for (int64_t n = 0; n < counts->shape[0]; n++) tensor_i32(counts)[n] = (int32_t)(n * 3 % 8);
}

static const op_case proposal_rois_cases[] = {
    {.name = "uneven", .in = {OP_IN(UNIFORM, 0, 90, 5, 7, 4), OP_IN(CONSTANT, 0, 0, 5)}, .prepare = some},
    {.name = "full", .in = {OP_IN(UNIFORM, 0, 90, 2, 3, 4), OP_IN(CONSTANT, 3, 0, 2)}},
    {.name = "none", .in = {OP_IN(UNIFORM, 0, 90, 2, 3, 4), OP_IN(CONSTANT, 0, 0, 2)}},
    {.name = "one", .in = {OP_IN(UNIFORM, 0, 90, 1, 1, 4), OP_IN(CONSTANT, 1, 0, 1)}},
    {.name = "no_room", .in = {OP_IN(UNIFORM, 0, 90, 2, 0, 4), OP_IN(CONSTANT, 0, 0, 2)}},
    {.name = "no_images", .in = {OP_IN(UNIFORM, 0, 90, 0, 3, 4), OP_IN(CONSTANT, 0, 0, 0)}},
};

static const op_case proposal_rois_bench[] = {
    {.name = "2_images_of_1000", .in = {OP_IN(UNIFORM, 0, 800, 2, 1000, 4), OP_IN(CONSTANT, 1000, 0, 2)}},
};

const op_def proposal_rois_op = {
    .name = "proposal_rois",
    .n_inputs = PROPOSAL_ROIS_INPUTS,
    .n_outputs = PROPOSAL_ROIS_OUTPUTS,
    .input_names = {"proposals", "counts"},
    .output_names = {"rois", "count"},
    .input_types = {DTYPE_F32, DTYPE_I32},
    .shares_gradient = -1,
    .infer = proposal_rois_infer,
    .validate = proposal_rois_validate,
    .reference_f32 = &proposal_rois_reference_f32,
    .reference_f64 = &proposal_rois_reference_f64,
    .cpu = &proposal_rois_reference_f32,
    .cases = proposal_rois_cases,
    .n_cases = sizeof proposal_rois_cases / sizeof proposal_rois_cases[0],
    .bench_cases = proposal_rois_bench,
    .n_bench_cases = sizeof proposal_rois_bench / sizeof proposal_rois_bench[0],
};

proposal_rois_result proposal_rois(struct tape *t, tensor *proposals, tensor *counts) {
    tensor *out[PROPOSAL_ROIS_OUTPUTS];
    tape_apply(t, &proposal_rois_op, NULL, (tensor *[]){proposals, counts}, out);
    return (proposal_rois_result){.rois = out[PROPOSAL_ROIS_ROIS], .count = out[PROPOSAL_ROIS_COUNT]};
}
