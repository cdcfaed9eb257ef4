#include "softmax_cross_entropy/softmax_cross_entropy.h"

#include "autograd/op_cost.h"
#include "autograd/tape.h"
#include "loss_rows.h"

static status softmax_cross_entropy_infer(op_call *call) {
    const softmax_cross_entropy_params *p = call->params;
    RETURN_IF_ERROR(op_expect_rank(call, SOFTMAX_CROSS_ENTROPY_LOGITS, 2));
    RETURN_IF_ERROR(op_expect_rank(call, SOFTMAX_CROSS_ENTROPY_LABELS, 1));
    RETURN_IF_ERROR(
        op_expect_dims_equal(call, SOFTMAX_CROSS_ENTROPY_LABELS, 0, SOFTMAX_CROSS_ENTROPY_LOGITS, 0));
    return loss_rows_infer(call, p->normalizer, SOFTMAX_CROSS_ENTROPY_COUNT);
}

static status softmax_cross_entropy_validate(const op_call *call) {
    const tensor *logits = call->in[SOFTMAX_CROSS_ENTROPY_LOGITS];
    const int32_t *labels = tensor_i32(call->in[SOFTMAX_CROSS_ENTROPY_LABELS]);
    int64_t rows = tensor_valid_rows(logits);
    for (int64_t i = 0; i < rows; i++)
        if (labels[i] < -1 || labels[i] >= logits->shape[1])
            return error_set(STATUS_DATA, "use labels from -1 (ignored) to the number of classes less one",
                             "%s: tensor labels holds %d at index %lld, but logits has %lld classes",
                             call->op->name, (int)labels[i], (long long)i, (long long)logits->shape[1]);
    return STATUS_OK;
}

static const op_attr softmax_cross_entropy_attrs[] = {
    {.name = "normalizer",
     .type = ATTR_FLOAT,
     .offset = offsetof(softmax_cross_entropy_params, normalizer),
     .required = true},
    {.name = NULL},
};

static const softmax_cross_entropy_params one = {1}, seven = {7};

static void ignore_all(const op_call *call) {
    tensor *labels = call->in[SOFTMAX_CROSS_ENTROPY_LABELS];
    for (int64_t i = 0; i < tensor_count(labels); i++) tensor_set(labels, i, -1);
}

/* +-1e4 in turns: the loss is 0 where the label has the largest logit, else 1e4 or 2e4. */
static void huge_logits(const op_call *call) {
    tensor *logits = call->in[SOFTMAX_CROSS_ENTROPY_LOGITS];
    for (int64_t i = 0; i < tensor_count(logits); i++)
        tensor_set(logits, i, i % 3 ? (i % 2 ? 1e4 : -1e4) : 0);
}

static const op_case softmax_cross_entropy_cases[] = {
    {.name = "plain", .params = &seven, .in = {OP_IN(NORMAL, 0, 2, 9, 5), OP_IN(INTEGER, -1, 5, 9)}},
    {.name = "many_rows", .params = &seven, .in = {OP_IN(NORMAL, 0, 2, 601, 7), OP_IN(INTEGER, -1, 7, 601)}},
    {.name = "many_classes", .params = &one, .in = {OP_IN(NORMAL, 0, 3, 3, 91), OP_IN(INTEGER, 0, 91, 3)}},
    {.name = "huge",
     .params = &seven,
     .in = {OP_IN(NORMAL, 0, 1, 11, 5), OP_IN(INTEGER, 0, 5, 11)},
     .prepare = huge_logits},
    {.name = "all_ignored",
     .params = &one,
     .in = {OP_IN(NORMAL, 0, 1, 4, 5), OP_IN(INTEGER, 0, 5, 4)},
     .prepare = ignore_all},
    {.name = "count",
     .params = &seven,
     .in = {OP_IN(NORMAL, 0, 1, 4, 5), OP_IN(INTEGER, 0, 5, 4), OP_IN(CONSTANT, 12, 0, 1)}},
    {.name = "count_of_none",
     .params = &seven,
     .in = {OP_IN(NORMAL, 0, 1, 4, 5), OP_IN(INTEGER, -1, 0, 4), OP_IN_SCALAR(CONSTANT, 0, 0)}},
    {.name = "rows",
     .params = &one,
     .in = {OP_IN(NORMAL, 0, 1, 6, 5), OP_IN(INTEGER, 0, 5, 6)},
     .valid_rows = 4},
    {.name = "rows_of_labels_too",
     .params = &one,
     .in = {OP_IN(NORMAL, 0, 1, 6, 5), OP_IN(INTEGER, 0, 5, 6)},
     .valid_rows = 4,
     .rows_inputs = 1u << SOFTMAX_CROSS_ENTROPY_LOGITS | 1u << SOFTMAX_CROSS_ENTROPY_LABELS},
    {.name = "no_valid_rows",
     .params = &one,
     .in = {OP_IN(NORMAL, 0, 1, 6, 5), OP_IN(INTEGER, 0, 5, 6)},
     .valid_rows = -1},
    {.name = "no_rows", .params = &one, .in = {OP_IN(NORMAL, 0, 1, 0, 5), OP_IN(INTEGER, 0, 5, 0)}},
    {.name = "one_class", .params = &one, .in = {OP_IN(NORMAL, 0, 1, 1, 1), OP_IN(INTEGER, 0, 1, 1)}},
};

static void softmax_cross_entropy_cost(op_cost *cost, const op_call *call, bool backward) {
    cost->flops = (backward ? 6 : 4) * op_cost_elements(call->in[SOFTMAX_CROSS_ENTROPY_LOGITS]);
}

static const op_case softmax_cross_entropy_bench[] = {
    {.name = "box_head_512_rois",
     .params = &one,
     .in = {OP_IN(NORMAL, 0, 2, 512, 81), OP_IN(INTEGER, 0, 81, 512)}},
};

const op_def softmax_cross_entropy_op = {
    .name = "softmax_cross_entropy",
    .n_inputs = 3,
    .n_outputs = 1,
    .input_names = {"logits", "labels", "count"},
    .output_names = {"loss"},
    .input_types = {DTYPE_F32, DTYPE_I32, DTYPE_F32},
    .half_inputs = 1u << SOFTMAX_CROSS_ENTROPY_LOGITS,
    .optional_inputs = 1u << SOFTMAX_CROSS_ENTROPY_COUNT,
    .differentiable = 1u << SOFTMAX_CROSS_ENTROPY_LOGITS,
    .backward_reads_inputs = 1u << SOFTMAX_CROSS_ENTROPY_LOGITS | 1u << SOFTMAX_CROSS_ENTROPY_LABELS |
                             1u << SOFTMAX_CROSS_ENTROPY_COUNT,
    .shares_gradient = -1,
    .params_size = sizeof(softmax_cross_entropy_params),
    .attrs = softmax_cross_entropy_attrs,
    .infer = softmax_cross_entropy_infer,
    .validate = softmax_cross_entropy_validate,
    .cost = softmax_cross_entropy_cost,
    .reference_f32 = &softmax_cross_entropy_reference_f32,
    .reference_f64 = &softmax_cross_entropy_reference_f64,
    .cpu = &softmax_cross_entropy_reference_f32,
    .atol = 1e-6,
    .rtol = 1e-6,
    .cases = softmax_cross_entropy_cases,
    .n_cases = sizeof softmax_cross_entropy_cases / sizeof softmax_cross_entropy_cases[0],
    .bench_cases = softmax_cross_entropy_bench,
    .n_bench_cases = sizeof softmax_cross_entropy_bench / sizeof softmax_cross_entropy_bench[0],
};

tensor *softmax_cross_entropy(struct tape *t, tensor *logits, tensor *labels, tensor *count,
                              const softmax_cross_entropy_params *params) {
    tensor *loss;
    tape_apply(t, &softmax_cross_entropy_op, params, (tensor *[]){logits, labels, count}, &loss);
    return loss;
}
