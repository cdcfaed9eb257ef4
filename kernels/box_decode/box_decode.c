#include "box_decode/box_decode.h"

#include "autograd/op_cost.h"
#include "autograd/tape.h"

static status box_decode_infer(op_call *call) {
    const box_decode_params *p = call->params;
    for (int i = 0; i < 4; i++)
        if (!(p->weights[i] > 0)) return op_bad_attr(call, "weights", "four positive numbers");
    RETURN_IF_ERROR(op_expect_rank(call, BOX_DECODE_DELTAS, 2));
    RETURN_IF_ERROR(op_expect_dim(call, BOX_DECODE_DELTAS, 1, 4, "dx dy dw dh"));
    RETURN_IF_ERROR(op_expect_same_shape(call, BOX_DECODE_REFERENCE, BOX_DECODE_DELTAS));
    const tensor *deltas = call->in[BOX_DECODE_DELTAS];
    op_describe_output(call, 0, deltas->type, 2, deltas->shape, deltas->rows);
    return STATUS_OK;
}

static const op_attr box_decode_attrs[] = {
    {.name = "weights",
     .type = ATTR_FLOAT_LIST,
     .offset = offsetof(box_decode_params, weights),
     .count = 4,
     .required = true},
    {.name = "clip",
     .type = ATTR_FLOAT,
     .offset = offsetof(box_decode_params, clip),
     .fallback = BOX_DECODE_DEFAULT_CLIP},
    {.name = NULL},
};

static const box_decode_params unit = {.weights = {1, 1, 1, 1}, .clip = BOX_DECODE_DEFAULT_CLIP},
                               usual = {.weights = {10, 10, 5, 5}, .clip = BOX_DECODE_DEFAULT_CLIP},
                               tight = {.weights = {1, 1, 1, 1}, .clip = 0.25};

static const op_case box_decode_cases[] = {
    {.name = "anchors", .params = &unit, .in = {OP_IN(NORMAL, 0, 0.5, 37, 4), OP_IN(UNIFORM, 0, 500, 37, 4)}},
    {.name = "proposals", .params = &usual, .in = {OP_IN(NORMAL, 0, 3, 5, 4), OP_IN(UNIFORM, 0, 500, 5, 4)}},
    {.name = "clipped", .params = &tight, .in = {OP_IN(NORMAL, 0, 1, 20, 4), OP_IN(UNIFORM, 0, 500, 20, 4)}},
    {.name = "zero_size", .params = &unit, .in = {OP_IN(NORMAL, 0, 1, 3, 4), OP_IN(CONSTANT, 17, 0, 3, 4)}},
    {.name = "counted",
     .params = &unit,
     .in = {OP_IN(NORMAL, 0, 1, 9, 4), OP_IN(UNIFORM, 0, 500, 9, 4)},
     .valid_rows = 6,
     .rows_inputs = 3},
    {.name = "one_box", .params = &unit, .in = {OP_IN(NORMAL, 0, 1, 1, 4), OP_IN(UNIFORM, 0, 500, 1, 4)}},
    {.name = "no_boxes", .params = &unit, .in = {OP_IN(NORMAL, 0, 1, 0, 4), OP_IN(UNIFORM, 0, 500, 0, 4)}},
};

static void box_decode_cost(op_cost *cost, const op_call *call, bool backward) {
    (void)backward;
    cost->flops = 20 * (double)call->out[0]->shape[0];
}

static const op_case box_decode_bench[] = {
    {.name = "proposals_2000",
     .params = &usual,
     .in = {OP_IN(NORMAL, 0, 1, 2000, 4), OP_IN(UNIFORM, 0, 500, 2000, 4)}},
    {.name = "anchors_268569",
     .params = &unit,
     .in = {OP_IN(NORMAL, 0, 0.5, 268569, 4), OP_IN(UNIFORM, 0, 500, 268569, 4)}},
};

const op_def box_decode_op = {
    .name = "box_decode",
    .n_inputs = 2,
    .n_outputs = 1,
    .input_names = {"deltas", "reference"},
    .output_names = {"y"},
    .input_types = {DTYPE_F32, DTYPE_F32},
    .shares_gradient = -1,
    .params_size = sizeof(box_decode_params),
    .attrs = box_decode_attrs,
    .infer = box_decode_infer,
    .cost = box_decode_cost,
    .reference_f32 = &box_decode_reference_f32,
    .reference_f64 = &box_decode_reference_f64,
    .cpu = &box_decode_reference_f32,
    .atol = 1e-3, /* pixels */
    .rtol = 1e-5,
    .cases = box_decode_cases,
    .n_cases = sizeof box_decode_cases / sizeof box_decode_cases[0],
    .bench_cases = box_decode_bench,
    .n_bench_cases = sizeof box_decode_bench / sizeof box_decode_bench[0],
};

tensor *box_decode(struct tape *t, tensor *deltas, tensor *reference, const box_decode_params *params) {
    tensor *y;
    tape_apply(t, &box_decode_op, params, (tensor *[]){deltas, reference}, &y);
    return y;
}
