#include "sigmoid/sigmoid.h"

#include "autograd/op_cost.h"
#include "autograd/tape.h"

static status sigmoid_infer(op_call *call) {
    const tensor *x = call->in[0];
    op_describe_output(call, 0, op_real_type(call), x->rank, x->shape, x->rows);
    return STATUS_OK;
}

static void huge(const op_call *call) {
    static const double odd[] = {1e4, -1e4, 88.7, -88.7, 0, -0.0, 3e38, -3e38};
    for (int64_t i = 0; i < tensor_count(call->in[0]); i++) tensor_set(call->in[0], i, odd[i % 8]);
}

static const op_case sigmoid_cases[] = {
    {.name = "masks", .in = {OP_IN(NORMAL, 0, 4, 5, 7, 7)}},
    {.name = "many_tiles", .in = {OP_IN(NORMAL, 0, 2, 9001)}},
    {.name = "huge", .in = {OP_IN(CONSTANT, 0, 0, 16)}, .prepare = huge, .kinks = true},
    {.name = "scalar", .in = {OP_IN_SCALAR(NORMAL, 0, 1)}},
    {.name = "rows", .in = {OP_IN(NORMAL, 0, 1, 6, 3, 3)}, .valid_rows = 4},
    {.name = "no_valid_rows", .in = {OP_IN(NORMAL, 0, 1, 6, 3)}, .valid_rows = -1},
    {.name = "no_rows", .in = {OP_IN(NORMAL, 0, 1, 0, 4)}},
};

static void sigmoid_cost(op_cost *cost, const op_call *call, bool backward) {
    (void)backward;
    cost->flops = 3 * op_cost_elements(call->out[0]);
}

static const op_case sigmoid_bench[] = {
    {.name = "masks_100_detections", .in = {OP_IN(NORMAL, 0, 4, 100, 28, 28)}},
};

const op_def sigmoid_op = {
    .name = "sigmoid",
    .n_inputs = 1,
    .n_outputs = 1,
    .input_names = {"x"},
    .output_names = {"y"},
    .input_types = {DTYPE_F32},
    .half_inputs = 1u,
    .differentiable = 1u,
    .backward_reads_outputs = 1u,
    .shares_gradient = -1,
    .infer = sigmoid_infer,
    .cost = sigmoid_cost,
    .reference_f32 = &sigmoid_reference_f32,
    .reference_f64 = &sigmoid_reference_f64,
    .cpu = &sigmoid_tiled,
    .atol = 1e-6, /* backward: 1 - y, rounded */
    .rtol = 1e-6,
    .cases = sigmoid_cases,
    .n_cases = sizeof sigmoid_cases / sizeof sigmoid_cases[0],
    .bench_cases = sigmoid_bench,
    .n_bench_cases = sizeof sigmoid_bench / sizeof sigmoid_bench[0],
};

tensor *sigmoid(struct tape *t, tensor *x) {
    tensor *y;
    tape_apply(t, &sigmoid_op, NULL, (tensor *[]){x}, &y);
    return y;
}
