#include "spatial_mean/spatial_mean.h"

#include "autograd/op_cost.h"
#include "autograd/tape.h"

static status spatial_mean_infer(op_call *call) {
    RETURN_IF_ERROR(op_expect_rank(call, 0, 4));
    const tensor *x = call->in[0];
    for (int axis = 1; axis <= 2; axis++)
        if (x->shape[axis] < 1)
            return error_set(STATUS_DATA, "give maps of at least one place",
                             "%s: tensor x has size 0 in dimension %d", call->op->name, axis);
    op_describe_output(call, 0, x->type, 2, (int64_t[]){x->shape[0], x->shape[3]}, x->rows);
    return STATUS_OK;
}

#define X(...) OP_IN(NORMAL, 0, 1, __VA_ARGS__)

static const op_case spatial_mean_cases[] = {
    {.name = "odd_tails", .in = {X(5, 7, 7, 19)}},
    {.name = "whole_vectors", .in = {X(3, 4, 6, 64)}},
    {.name = "many_channels", .in = {X(2, 2, 3, 1030)}},
    {.name = "many_places", .in = {X(2, 31, 17, 8)}},
    {.name = "one_place", .in = {X(4, 1, 1, 16)}},
    {.name = "one_element", .in = {X(1, 1, 1, 1)}},
    {.name = "rows", .in = {X(6, 3, 4, 9)}, .valid_rows = 4},
    {.name = "no_valid_rows", .in = {X(6, 3, 4, 8)}, .valid_rows = -1},
    {.name = "no_rows", .in = {X(0, 3, 4, 8)}},
    {.name = "no_channels", .in = {X(3, 3, 4, 0)}},
};

static void spatial_mean_cost(op_cost *cost, const op_call *call, bool backward) {
    cost->flops = op_cost_elements(backward ? call->out[0] : call->in[0]);
}

static const op_case spatial_mean_bench[] = {
    {.name = "c4_512_rois", .in = {X(512, 7, 7, 2048)}},
};

const op_def spatial_mean_op = {
    .name = "spatial_mean",
    .n_inputs = 1,
    .n_outputs = 1,
    .input_names = {"x"},
    .output_names = {"y"},
    .input_types = {DTYPE_F32},
    .half_inputs = 1,
    .differentiable = 1,
    .shares_gradient = -1,
    .infer = spatial_mean_infer,
    .cost = spatial_mean_cost,
    .reference_f32 = &spatial_mean_reference_f32,
    .reference_f64 = &spatial_mean_reference_f64,
    .cpu = &spatial_mean_threaded,
    .atol = 2e-6,
    .rtol = 2e-6,
    .cases = spatial_mean_cases,
    .n_cases = sizeof spatial_mean_cases / sizeof spatial_mean_cases[0],
    .bench_cases = spatial_mean_bench,
    .n_bench_cases = sizeof spatial_mean_bench / sizeof spatial_mean_bench[0],
};

tensor *spatial_mean(struct tape *t, tensor *x) {
    tensor *y;
    tape_apply(t, &spatial_mean_op, NULL, &x, &y);
    return y;
}
