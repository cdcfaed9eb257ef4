#include "box_encode/box_encode.h"

#include "autograd/op_cost.h"
#include "autograd/tape.h"

static status box_encode_infer(op_call *call) {
    const box_encode_params *p = call->params;
    for (int i = 0; i < 4; i++)
        if (!(p->weights[i] > 0)) return op_bad_attr(call, "weights", "four positive numbers");
    RETURN_IF_ERROR(op_expect_rank(call, BOX_ENCODE_BOXES, 2));
    RETURN_IF_ERROR(op_expect_dim(call, BOX_ENCODE_BOXES, 1, 4, "x1 y1 x2 y2"));
    RETURN_IF_ERROR(op_expect_same_shape(call, BOX_ENCODE_REFERENCE, BOX_ENCODE_BOXES));
    const tensor *boxes = call->in[BOX_ENCODE_BOXES];
    op_describe_output(call, 0, boxes->type, 2, boxes->shape, boxes->rows);
    return STATUS_OK;
}

static const op_attr box_encode_attrs[] = {
    {.name = "weights",
     .type = ATTR_FLOAT_LIST,
     .offset = offsetof(box_encode_params, weights),
     .count = 4,
     .required = true},
    {.name = NULL},
};

static const box_encode_params unit = {.weights = {1, 1, 1, 1}}, usual = {.weights = {10, 10, 5, 5}};

/* Right of and below the random corner, 1 to 100 pixels. */
static void make_boxes(const op_call *call) {
    for (int i = 0; i < 2; i++) {
        tensor *t = call->in[i];
        for (int64_t n = 0; n < t->shape[0]; n++) {
            for (int k = 0; k < 2; k++)
                tensor_set(t, 4 * n + 2 + k,
                           (float)(tensor_get(t, 4 * n + k) + 1 + tensor_get(t, 4 * n + 2 + k) / 5));
        }
    }
}

static const op_case box_encode_cases[] = {
    {.name = "anchors",
     .params = &unit,
     .in = {OP_IN(UNIFORM, 0, 500, 37, 4), OP_IN(UNIFORM, 0, 500, 37, 4)},
     .prepare = make_boxes},
    {.name = "proposals",
     .params = &usual,
     .in = {OP_IN(UNIFORM, 0, 500, 5, 4), OP_IN(UNIFORM, 0, 500, 5, 4)},
     .prepare = make_boxes},
    {.name = "counted",
     .params = &unit,
     .in = {OP_IN(UNIFORM, 0, 500, 9, 4), OP_IN(UNIFORM, 0, 500, 9, 4)},
     .prepare = make_boxes,
     .valid_rows = 6,
     .rows_inputs = 3},
    {.name = "one_box",
     .params = &usual,
     .in = {OP_IN(UNIFORM, 0, 500, 1, 4), OP_IN(UNIFORM, 0, 500, 1, 4)},
     .prepare = make_boxes},
    {.name = "no_boxes",
     .params = &usual,
     .in = {OP_IN(UNIFORM, 0, 500, 0, 4), OP_IN(UNIFORM, 0, 500, 0, 4)}},
};

static void box_encode_cost(op_cost *cost, const op_call *call, bool backward) {
    (void)backward;
    cost->flops = 20 * (double)call->out[0]->shape[0];
}

static const op_case box_encode_bench[] = {
    {.name = "proposals_2000",
     .params = &usual,
     .in = {OP_IN(UNIFORM, 0, 500, 2000, 4), OP_IN(UNIFORM, 0, 500, 2000, 4)},
     .prepare = make_boxes},
    {.name = "anchors_268569",
     .params = &unit,
     .in = {OP_IN(UNIFORM, 0, 500, 268569, 4), OP_IN(UNIFORM, 0, 500, 268569, 4)},
     .prepare = make_boxes},
};

const op_def box_encode_op = {
    .name = "box_encode",
    .n_inputs = 2,
    .n_outputs = 1,
    .input_names = {"boxes", "reference"},
    .output_names = {"y"},
    .input_types = {DTYPE_F32, DTYPE_F32},
    .shares_gradient = -1,
    .params_size = sizeof(box_encode_params),
    .attrs = box_encode_attrs,
    .infer = box_encode_infer,
    .cost = box_encode_cost,
    .reference_f32 = &box_encode_reference_f32,
    .reference_f64 = &box_encode_reference_f64,
    .cpu = &box_encode_reference_f32,
    .atol = 1e-3, /* log of a quotient of differences of coordinates around 500 */
    .rtol = 1e-4,
    .cases = box_encode_cases,
    .n_cases = sizeof box_encode_cases / sizeof box_encode_cases[0],
    .bench_cases = box_encode_bench,
    .n_bench_cases = sizeof box_encode_bench / sizeof box_encode_bench[0],
};

tensor *box_encode(struct tape *t, tensor *boxes, tensor *reference, const box_encode_params *params) {
    tensor *y;
    tape_apply(t, &box_encode_op, params, (tensor *[]){boxes, reference}, &y);
    return y;
}
