#include "smooth_l1/smooth_l1.h"

#include "autograd/op_cost.h"
#include "autograd/tape.h"
#include "loss_rows.h"

#include <math.h>

/* Shapes without their axes of size 1 (but the rows) are equal: [N,1,D] from select_class fits a target
 * [N,D]. */
static bool same_rows(const tensor *a, const tensor *b) {
    if (a->rank < 2 || b->rank < 2 || a->shape[0] != b->shape[0]) return false;
    int i = 1, k = 1;
    for (;;) {
        while (i < a->rank && a->shape[i] == 1) i++;
        while (k < b->rank && b->shape[k] == 1) k++;
        if (i == a->rank || k == b->rank) return i == a->rank && k == b->rank;
        if (a->shape[i++] != b->shape[k++]) return false;
    }
}

static status smooth_l1_infer(op_call *call) {
    const smooth_l1_params *p = call->params;
    if (!(p->beta >= 0 && isfinite(p->beta))) return op_bad_attr(call, "beta", "0 or more");
    if (call->in[SMOOTH_L1_PRED]->rank < 2) return op_expect_rank(call, SMOOTH_L1_PRED, 2);
    if (call->in[SMOOTH_L1_TARGET]->rank < 2) return op_expect_rank(call, SMOOTH_L1_TARGET, 2);
    if (!same_rows(call->in[SMOOTH_L1_PRED], call->in[SMOOTH_L1_TARGET]))
        return op_expect_mismatch(call, SMOOTH_L1_TARGET, SMOOTH_L1_PRED);
    RETURN_IF_ERROR(loss_rows_expect_weights(call, SMOOTH_L1_WEIGHTS));
    return loss_rows_infer(call, p->normalizer, SMOOTH_L1_COUNT);
}

static const op_attr smooth_l1_attrs[] = {
    {.name = "beta", .type = ATTR_FLOAT, .offset = offsetof(smooth_l1_params, beta), .required = true},
    {.name = "normalizer",
     .type = ATTR_FLOAT,
     .offset = offsetof(smooth_l1_params, normalizer),
     .required = true},
    {.name = NULL},
};

static const smooth_l1_params l1 = {0, 7}, ninth = {1.0 / 9, 1}, whole = {1, 3},
                              nothing = {1, (double)INFINITY};

static void equal_boxes(const op_call *call) {
    for (int64_t i = 0; i < tensor_count(call->in[SMOOTH_L1_PRED]); i += 2)
        tensor_set(call->in[SMOOTH_L1_TARGET], i, tensor_get(call->in[SMOOTH_L1_PRED], i));
}

static void at_the_bend(const op_call *call) {
    for (int64_t i = 0; i < tensor_count(call->in[SMOOTH_L1_PRED]); i++)
        tensor_set(call->in[SMOOTH_L1_TARGET], i, tensor_get(call->in[SMOOTH_L1_PRED], i) + (i % 2 ? 1 : -1));
}

static void free_slots(const op_call *call) {
    for (int64_t i = 0; i < call->in[SMOOTH_L1_WEIGHTS]->shape[0]; i += 3) {
        tensor_set(call->in[SMOOTH_L1_WEIGHTS], i, 0);
        tensor_set(call->in[SMOOTH_L1_TARGET], i * tensor_row_size(call->in[SMOOTH_L1_TARGET]), 1e38);
    }
}

#define ROWS(n, d) OP_IN(NORMAL, 0, 1, n, d), OP_IN(NORMAL, 0, 1, n, d), OP_IN(UNIFORM, 0, 2, n)

static const op_case smooth_l1_cases[] = {
    {.name = "l1", .params = &l1, .in = {ROWS(9, 4)}},
    {.name = "beta_ninth", .params = &ninth, .in = {ROWS(9, 4)}},
    {.name = "beta_one", .params = &whole, .in = {ROWS(7, 3)}},
    {.name = "many_tiles", .params = &ninth, .in = {ROWS(600, 16)}},
    {.name = "l1_equal", .params = &l1, .in = {ROWS(5, 4)}, .prepare = equal_boxes, .kinks = true},
    {.name = "smooth_equal", .params = &whole, .in = {ROWS(5, 4)}, .prepare = equal_boxes},
    {.name = "at_the_bend", .params = &whole, .in = {ROWS(5, 4)}, .prepare = at_the_bend, .kinks = true},
    {.name = "free_slots", .params = &whole, .in = {ROWS(8, 4)}, .prepare = free_slots},
    {.name = "selected",
     .params = &whole,
     .in = {OP_IN(NORMAL, 0, 1, 5, 1, 4), OP_IN(NORMAL, 0, 1, 5, 4), OP_IN(CONSTANT, 1, 0, 5)}},
    {.name = "count", .params = &ninth, .in = {ROWS(5, 4), OP_IN(CONSTANT, 12, 0, 1)}},
    {.name = "rows", .params = &whole, .in = {ROWS(6, 4)}, .valid_rows = 4},
    {.name = "no_valid_rows", .params = &whole, .in = {ROWS(6, 4)}, .valid_rows = -1},
    {.name = "loss_of_weight_0", .params = &nothing, .in = {ROWS(5, 4)}},
    {.name = "no_rows", .params = &l1, .in = {ROWS(0, 4)}},
    {.name = "one_element", .params = &l1, .in = {ROWS(1, 1)}},
};

static void smooth_l1_cost(op_cost *cost, const op_call *call, bool backward) {
    cost->flops = (backward ? 4 : 5) * op_cost_elements(call->in[SMOOTH_L1_PRED]);
}

static const op_case smooth_l1_bench[] = {
    {.name = "rpn_512_anchors", .params = &ninth, .in = {ROWS(512, 4)}},
};

const op_def smooth_l1_op = {
    .name = "smooth_l1",
    .n_inputs = 4,
    .n_outputs = 1,
    .input_names = {"pred", "target", "weights", "count"},
    .output_names = {"loss"},
    .input_types = {DTYPE_F32, DTYPE_F32, DTYPE_F32, DTYPE_F32},
    .half_inputs = 1u << SMOOTH_L1_PRED,
    .optional_inputs = 1u << SMOOTH_L1_COUNT,
    .differentiable = 1u << SMOOTH_L1_PRED,
    .backward_reads_inputs =
        1u << SMOOTH_L1_PRED | 1u << SMOOTH_L1_TARGET | 1u << SMOOTH_L1_WEIGHTS | 1u << SMOOTH_L1_COUNT,
    .shares_gradient = -1,
    .params_size = sizeof(smooth_l1_params),
    .attrs = smooth_l1_attrs,
    .infer = smooth_l1_infer,
    .cost = smooth_l1_cost,
    .reference_f32 = &smooth_l1_reference_f32,
    .reference_f64 = &smooth_l1_reference_f64,
    .cpu = &smooth_l1_reference_f32,
    .atol = 1e-6,
    .rtol = 1e-6,
    .cases = smooth_l1_cases,
    .n_cases = sizeof smooth_l1_cases / sizeof smooth_l1_cases[0],
    .bench_cases = smooth_l1_bench,
    .n_bench_cases = sizeof smooth_l1_bench / sizeof smooth_l1_bench[0],
};

tensor *smooth_l1(struct tape *t, tensor *const in[4], const smooth_l1_params *params) {
    tensor *loss;
    tape_apply(t, &smooth_l1_op, params, in, &loss);
    return loss;
}
