#include "class_logits/class_logits.h"

#include "autograd/op_cost.h"
#include "autograd/tape.h"

static status class_logits_infer(op_call *call) {
    static const int ranks[] = {4, 4, 1, 1};
    for (int i = 0; i < 4; i++) RETURN_IF_ERROR(op_expect_rank(call, i, ranks[i]));
    for (int axis = 1; axis <= 2; axis++)
        RETURN_IF_ERROR(op_expect_dim(call, CLASS_LOGITS_WEIGHT, axis, 1, "one tap"));
    RETURN_IF_ERROR(op_expect_dims_equal(call, CLASS_LOGITS_WEIGHT, 3, CLASS_LOGITS_X, 3));
    RETURN_IF_ERROR(op_expect_dims_equal(call, CLASS_LOGITS_BIAS, 0, CLASS_LOGITS_WEIGHT, 0));
    RETURN_IF_ERROR(op_expect_dims_equal(call, CLASS_LOGITS_LABELS, 0, CLASS_LOGITS_X, 0));
    const tensor *x = call->in[CLASS_LOGITS_X];
    op_describe_output(call, 0, op_real_type(call), 3, x->shape, x->rows);
    return STATUS_OK;
}

static status class_logits_validate(const op_call *call) {
    const tensor *labels = call->in[CLASS_LOGITS_LABELS];
    int64_t classes = call->in[CLASS_LOGITS_WEIGHT]->shape[0];
    for (int64_t i = 0; i < tensor_valid_rows(call->in[CLASS_LOGITS_X]); i++)
        if (tensor_i32(labels)[i] < 0 || tensor_i32(labels)[i] >= classes)
            return error_set(
                STATUS_DATA, "number classes from 0",
                "class_logits: tensor labels: value %d at %lld, but tensor weight has %lld classes",
                tensor_i32(labels)[i], (long long)i, (long long)classes);
    return STATUS_OK;
}

#define X(...) OP_IN(NORMAL, 0, 1, __VA_ARGS__)
#define LABELS(classes, rows) OP_IN(INTEGER, 0, classes, rows)

static const op_case class_logits_cases[] = {
    {.name = "odd_tails", .in = {X(7, 5, 3, 19), X(4, 1, 1, 19), X(4), LABELS(4, 7)}},
    {.name = "whole_vectors", .in = {X(5, 6, 6, 32), X(6, 1, 1, 32), X(6), LABELS(6, 5)}},
    {.name = "many_channels", .in = {X(2, 2, 2, 520), X(3, 1, 1, 520), X(3), LABELS(3, 2)}},
    {.name = "many_places", .in = {X(3, 17, 13, 8), X(3, 1, 1, 8), X(3), LABELS(2, 3)}},
    {.name = "classes_without_rows", .in = {X(3, 2, 2, 5), X(40, 1, 1, 5), X(40), LABELS(40, 3)}},
    {.name = "many_rows", .in = {X(300, 1, 1, 4), X(2, 1, 1, 4), X(2), LABELS(2, 300)}},
    {.name = "one_element", .in = {X(1, 1, 1, 1), X(1, 1, 1, 1), X(1), LABELS(1, 1)}},
    {.name = "rows", .in = {X(6, 3, 4, 9), X(4, 1, 1, 9), X(4), LABELS(4, 6)}, .valid_rows = 4},
    {.name = "no_valid_rows", .in = {X(6, 3, 4, 9), X(4, 1, 1, 9), X(4), LABELS(4, 6)}, .valid_rows = -1},
    {.name = "no_rows", .in = {X(0, 3, 4, 8), X(4, 1, 1, 8), X(4), LABELS(4, 0)}},
};

static void class_logits_cost(op_cost *cost, const op_call *call, bool backward) {
    cost->flops = op_cost_of_product(call, backward, 2 * op_cost_elements(call->in[CLASS_LOGITS_X]));
}

static const op_case class_logits_bench[] = {
    {.name = "mask_head_128_rois", .in = {X(128, 28, 28, 256), X(80, 1, 1, 256), X(80), LABELS(80, 128)}},
};

const op_def class_logits_op = {
    .name = "class_logits",
    .n_inputs = 4,
    .n_outputs = 1,
    .input_names = {"x", "weight", "bias", "labels"},
    .output_names = {"y"},
    .input_types = {DTYPE_F32, DTYPE_F32, DTYPE_F32, DTYPE_I32},
    .half_inputs = 1u << CLASS_LOGITS_X | 1u << CLASS_LOGITS_WEIGHT,
    .differentiable = 1u << CLASS_LOGITS_X | 1u << CLASS_LOGITS_WEIGHT | 1u << CLASS_LOGITS_BIAS,
    .backward_reads_inputs = 1u << CLASS_LOGITS_X | 1u << CLASS_LOGITS_WEIGHT | 1u << CLASS_LOGITS_LABELS,
    .shares_gradient = -1,
    .infer = class_logits_infer,
    .validate = class_logits_validate,
    .cost = class_logits_cost,
    .reference_f32 = &class_logits_reference_f32,
    .reference_f64 = &class_logits_reference_f64,
    .cpu = &class_logits_threaded,
    .atol = 2e-5,
    .rtol = 2e-5,
    .cases = class_logits_cases,
    .n_cases = sizeof class_logits_cases / sizeof class_logits_cases[0],
    .bench_cases = class_logits_bench,
    .n_bench_cases = sizeof class_logits_bench / sizeof class_logits_bench[0],
};

tensor *class_logits(struct tape *t, tensor *const inputs[4]) {
    tensor *y;
    tape_apply(t, &class_logits_op, NULL, inputs, &y);
    return y;
}
