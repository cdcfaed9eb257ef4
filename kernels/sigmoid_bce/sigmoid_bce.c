#include "sigmoid_bce/sigmoid_bce.h"

#include "autograd/op_cost.h"
#include "autograd/tape.h"
#include "loss_rows.h"

#include <math.h>

static int64_t size_of(const tensor *t, int axis) {
    return axis < t->rank ? t->shape[axis] : 1;
}

static status sigmoid_bce_infer(op_call *call) {
    const sigmoid_bce_params *p = call->params;
    const tensor *logits = call->in[SIGMOID_BCE_LOGITS], *targets = call->in[SIGMOID_BCE_TARGETS];
    if (logits->rank < 1) return op_expect_rank(call, SIGMOID_BCE_LOGITS, 1);
    if (targets->rank < 1) return op_expect_rank(call, SIGMOID_BCE_TARGETS, 1);
    for (int axis = 0; axis < TENSOR_MAX_RANK; axis++)
        if (size_of(logits, axis) != size_of(targets, axis))
            return op_expect_mismatch(call, SIGMOID_BCE_TARGETS, SIGMOID_BCE_LOGITS);
    if (call->in[SIGMOID_BCE_WEIGHTS])
        RETURN_IF_ERROR(loss_rows_expect_weights(call, SIGMOID_BCE_WEIGHTS));
    else if (!p->unweighted)
        return error_set(STATUS_DATA, "add the tensor", "sigmoid_bce: tensor weights is missing");
    return loss_rows_infer(call, p->normalizer, SIGMOID_BCE_COUNT);
}

static const op_attr sigmoid_bce_attrs[] = {
    {.name = "normalizer",
     .type = ATTR_FLOAT,
     .offset = offsetof(sigmoid_bce_params, normalizer),
     .required = true},
    {.name = NULL},
};

static const sigmoid_bce_params one = {1, false}, seven = {7, false}, unweighted = {7, true},
                                nothing = {(double)INFINITY, false};

static void huge_logits(const op_call *call) {
    tensor *logits = call->in[SIGMOID_BCE_LOGITS];
    for (int64_t i = 0; i < tensor_count(logits); i++) tensor_set(logits, i, i % 2 ? 1e4 : -1e4);
}

/* Every third row weighs nothing and holds what a free slot may hold. */
static void free_slots(const op_call *call) {
    for (int64_t i = 0; i < tensor_count(call->in[SIGMOID_BCE_WEIGHTS]); i += 3) {
        tensor_set(call->in[SIGMOID_BCE_WEIGHTS], i, 0);
        tensor_set(call->in[SIGMOID_BCE_LOGITS], i, 1e38);
        tensor_set(call->in[SIGMOID_BCE_TARGETS], i, -1e38);
    }
}

#define ROWS(n) OP_IN(NORMAL, 0, 3, n), OP_IN(UNIFORM, 0, 1, n), OP_IN(UNIFORM, 0, 2, n)

static const op_case sigmoid_bce_cases[] = {
    {.name = "plain", .params = &seven, .in = {ROWS(33)}},
    {.name = "loss_of_weight_0", .params = &nothing, .in = {ROWS(5)}},
    {.name = "many_tiles",
     .params = &seven,
     .in = {OP_IN(NORMAL, 0, 3, 600, 16), OP_IN(UNIFORM, 0, 1, 600, 16), OP_IN(UNIFORM, 0, 2, 600)}},
    {.name = "masks",
     .params = &seven,
     .in = {OP_IN(NORMAL, 0, 3, 3, 5, 5, 1), OP_IN(INTEGER, 0, 2, 3, 5, 5), OP_IN(UNIFORM, 0, 2, 3)}},
    {.name = "huge",
     .params = &one,
     .in = {OP_IN(NORMAL, 0, 1, 10), OP_IN(INTEGER, 0, 2, 10), OP_IN(CONSTANT, 1, 0, 10)},
     .prepare = huge_logits},
    {.name = "free_slots", .params = &one, .in = {ROWS(10)}, .prepare = free_slots, .kinks = true},
    {.name = "count", .params = &seven, .in = {ROWS(5), OP_IN_SCALAR(CONSTANT, 12, 0)}},
    {.name = "unweighted",
     .params = &unweighted,
     .in = {OP_IN(NORMAL, 0, 3, 5, 3), OP_IN(UNIFORM, 0, 1, 5, 3)}},
    {.name = "rows", .params = &one, .in = {ROWS(6)}, .valid_rows = 4},
    {.name = "rows_of_all",
     .params = &one,
     .in = {OP_IN(NORMAL, 0, 3, 4, 3, 3), OP_IN(UNIFORM, 0, 1, 4, 3, 3), OP_IN(UNIFORM, 0, 2, 4)},
     .valid_rows = 2,
     .rows_inputs = 1u << SIGMOID_BCE_LOGITS | 1u << SIGMOID_BCE_TARGETS | 1u << SIGMOID_BCE_WEIGHTS},
    {.name = "no_valid_rows", .params = &one, .in = {ROWS(6)}, .valid_rows = -1},
    {.name = "no_rows", .params = &one, .in = {ROWS(0)}},
    {.name = "one_element", .params = &one, .in = {ROWS(1)}},
};

static void sigmoid_bce_cost(op_cost *cost, const op_call *call, bool backward) {
    cost->flops = (backward ? 5 : 8) * op_cost_elements(call->in[SIGMOID_BCE_LOGITS]);
}

static const op_case sigmoid_bce_bench[] = {
    {.name = "rpn_512_anchors", .params = &one, .in = {ROWS(512)}},
    {.name = "masks_128_rois",
     .params = &unweighted,
     .in = {OP_IN(NORMAL, 0, 3, 128, 28, 28), OP_IN(INTEGER, 0, 2, 128, 28, 28)}},
};

const op_def sigmoid_bce_op = {
    .name = "sigmoid_bce",
    .n_inputs = 4,
    .n_outputs = 1,
    .input_names = {"logits", "targets", "weights", "count"},
    .output_names = {"loss"},
    .input_types = {DTYPE_F32, DTYPE_F32, DTYPE_F32, DTYPE_F32},
    .half_inputs = 1u << SIGMOID_BCE_LOGITS,
    .optional_inputs = 1u << SIGMOID_BCE_WEIGHTS | 1u << SIGMOID_BCE_COUNT,
    .differentiable = 1u << SIGMOID_BCE_LOGITS,
    .backward_reads_inputs = 1u << SIGMOID_BCE_LOGITS | 1u << SIGMOID_BCE_TARGETS |
                             1u << SIGMOID_BCE_WEIGHTS | 1u << SIGMOID_BCE_COUNT,
    .shares_gradient = -1,
    .params_size = sizeof(sigmoid_bce_params),
    .attrs = sigmoid_bce_attrs,
    .infer = sigmoid_bce_infer,
    .cost = sigmoid_bce_cost,
    .reference_f32 = &sigmoid_bce_reference_f32,
    .reference_f64 = &sigmoid_bce_reference_f64,
    .cpu = &sigmoid_bce_reference_f32,
    .atol = 1e-6,
    .rtol = 1e-6,
    .cases = sigmoid_bce_cases,
    .n_cases = sizeof sigmoid_bce_cases / sizeof sigmoid_bce_cases[0],
    .bench_cases = sigmoid_bce_bench,
    .n_bench_cases = sizeof sigmoid_bce_bench / sizeof sigmoid_bce_bench[0],
};

tensor *sigmoid_bce(struct tape *t, tensor *const in[4], const sigmoid_bce_params *params) {
    tensor *loss;
    tape_apply(t, &sigmoid_bce_op, params, in, &loss);
    return loss;
}
