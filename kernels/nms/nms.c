#include "nms/nms.h"

#include "autograd/op_cost.h"
#include "autograd/tape.h"
#include "case_boxes.h"

#include <math.h>

static status nms_infer(op_call *call) {
    const nms_params *p = call->params;
    if (!(p->iou_threshold >= 0 && p->iou_threshold <= 1))
        return op_bad_attr(call, "iou_threshold", "from 0 to 1");
    RETURN_IF_ERROR(op_expect_rank(call, NMS_BOXES, 2));
    RETURN_IF_ERROR(op_expect_dim(call, NMS_BOXES, 1, 4, "x1 y1 x2 y2"));
    for (int i = NMS_SCORES; i <= NMS_GROUPS; i++) {
        if (!call->in[i]) continue;
        RETURN_IF_ERROR(op_expect_rank(call, i, 1));
        RETURN_IF_ERROR(op_expect_dims_equal(call, i, 0, NMS_BOXES, 0));
    }
    int64_t n = call->in[NMS_BOXES]->shape[0];
    if (n > INT32_MAX / 16)
        return error_set(STATUS_DATA, "suppress in parts",
                         "nms: tensor boxes has %lld rows, at most %d are supported", (long long)n,
                         INT32_MAX / 16);
    op_describe_output(call, 1, DTYPE_I32, 1, (int64_t[]){1}, NULL);
    op_describe_output(call, 0, DTYPE_I32, 1, (int64_t[]){n}, call->out[1]);
    return STATUS_OK;
}

static const op_attr nms_attrs[] = {
    {.name = "iou_threshold",
     .type = ATTR_FLOAT,
     .offset = offsetof(nms_params, iou_threshold),
     .required = true},
    {.name = NULL},
};

static const nms_params half = {.iou_threshold = 0.5}, some = {.iou_threshold = 0.3},
                        rpn = {.iou_threshold = 0.7}, none = {.iou_threshold = 0}, all = {.iou_threshold = 1};

/* Corner and size: x2 = x1 + 5..25, y2 = y1 + 5..25, so that many boxes of a hundred pixels overlap. */
static void crowded(const op_call *call) {
    tensor *boxes = call->in[NMS_BOXES];
    for (int64_t n = 0; n < boxes->shape[0]; n++)
        for (int k = 0; k < 2; k++)
            tensor_set(boxes, 4 * n + 2 + k,
                       (float)(tensor_get(boxes, 4 * n + k) + 5 + tensor_get(boxes, 4 * n + 2 + k) / 5));
}

/* The same, with boxes of integer corners that occur again and again, and three different scores. */
static void crowded_ties(const op_call *call) {
    crowded(call);
    tensor *boxes = call->in[NMS_BOXES], *scores = call->in[NMS_SCORES];
    for (int64_t i = 0; i < tensor_count(boxes); i++)
        tensor_set(boxes, i, floor(tensor_get(boxes, i) / 16) * 16);
    for (int64_t i = 0; i < tensor_count(scores); i++) tensor_set(scores, i, (double)(i * 7 % 3) - 1);
}

/* Lines and points, twice each; half of them inside a big box. */
static void no_area(const op_call *call) {
    tensor *boxes = call->in[NMS_BOXES];
    for (int64_t n = 0; n < boxes->shape[0]; n++) {
        double at = (double)(n / 2 * 10);
        double box[4] = {at, 5, at + (n % 4 < 2 ? 8 : 0), 5};
        for (int k = 0; k < 4; k++)
            tensor_set(boxes, 4 * n + k, n == 3 ? (double[]){0, 0, 50, 50}[k] : box[k]);
    }
}

static void nan_scores(const op_call *call) {
    crowded(call);
    for (int64_t i = 0; i < call->in[NMS_SCORES]->shape[0]; i += 3)
        tensor_set(call->in[NMS_SCORES], i, (double)NAN);
}

/* Stairs: a box covers the next one and no other, and it has the better score, so that each decision hangs on the one before.
 * Every 50 boxes a new flight begins. */
static void stairs(const op_call *call) {
    for (int64_t n = 0; n < call->in[NMS_BOXES]->shape[0]; n++) {
        double x = (double)(n / 50 * 1000 + n % 50 * 4);
        for (int k = 0; k < 4; k++)
            tensor_set(call->in[NMS_BOXES], 4 * n + k, (double[]){x, 0, x + 10, 10}[k]);
        tensor_set(call->in[NMS_SCORES], n, (double)-n);
    }
}

/* One box again and again. */
static void one_stays(const op_call *call) {
    for (int64_t i = 0; i < tensor_count(call->in[NMS_BOXES]); i++)
        tensor_set(call->in[NMS_BOXES], i, (double)(i % 4 * 10));
}

static const op_case nms_cases[] = {
    {.name = "one_group",
     .params = &half,
     .in = {OP_IN(UNIFORM, 0, 100, 117, 4), OP_IN(NORMAL, 0, 1, 117)},
     .prepare = crowded},
    {.name = "groups",
     .params = &half,
     .in = {OP_IN(UNIFORM, 0, 100, 230, 4), OP_IN(NORMAL, 0, 1, 230), OP_IN(INTEGER, 0, 5, 230)},
     .prepare = crowded},
    {.name = "far_groups",
     .params = &half,
     .in = {OP_IN(UNIFORM, 0, 100, 90, 4), OP_IN(NORMAL, 0, 1, 90), OP_IN(INTEGER, -100000, 100000, 90)},
     .prepare = crowded},
    {.name = "equal_scores",
     .params = &rpn,
     .in = {OP_IN(UNIFORM, 0, 100, 150, 4), OP_IN(NORMAL, 0, 1, 150), OP_IN(INTEGER, 0, 2, 150)},
     .prepare = crowded_ties},
    {.name = "equal_boxes_at_one",
     .params = &all,
     .in = {OP_IN(UNIFORM, 0, 100, 60, 4), OP_IN(NORMAL, 0, 1, 60)},
     .prepare = crowded_ties},
    {.name = "touching_at_zero",
     .params = &none,
     .in = {OP_IN(UNIFORM, 0, 100, 60, 4), OP_IN(NORMAL, 0, 1, 60)},
     .prepare = crowded_ties},
    {.name = "no_area",
     .params = &none,
     .in = {OP_IN(CONSTANT, 0, 0, 20, 4), OP_IN(NORMAL, 0, 1, 20)},
     .prepare = no_area},
    {.name = "stairs",
     .params = &some,
     .in = {OP_IN(CONSTANT, 0, 0, 180, 4), OP_IN(CONSTANT, 0, 0, 180)},
     .prepare = stairs},
    {.name = "one_stays",
     .params = &half,
     .in = {OP_IN(CONSTANT, 0, 0, 200, 4), OP_IN(NORMAL, 0, 1, 200)},
     .prepare = one_stays},
    {.name = "thousands",
     .params = &half,
     .in = {OP_IN(UNIFORM, 0, 600, 2200, 4), OP_IN(NORMAL, 0, 1, 2200), OP_IN(INTEGER, 0, 2, 2200)},
     .prepare = crowded},
    {.name = "nan_scores",
     .params = &half,
     .in = {OP_IN(UNIFORM, 0, 100, 40, 4), OP_IN(NORMAL, 0, 1, 40)},
     .prepare = nan_scores},
    {.name = "counted",
     .params = &half,
     .in = {OP_IN(UNIFORM, 0, 100, 50, 4), OP_IN(NORMAL, 0, 1, 50), OP_IN(INTEGER, 0, 2, 50)},
     .prepare = crowded,
     .valid_rows = 33,
     .rows_inputs = 7},
    {.name = "one_box",
     .params = &half,
     .in = {OP_IN(UNIFORM, 0, 100, 1, 4), OP_IN(NORMAL, 0, 1, 1), OP_IN(INTEGER, 3, 4, 1)},
     .prepare = crowded},
    {.name = "no_boxes",
     .params = &half,
     .in = {OP_IN(UNIFORM, 0, 100, 0, 4), OP_IN(NORMAL, 0, 1, 0), OP_IN(INTEGER, 0, 5, 0)}},
};

static void nms_cost(op_cost *cost, const op_call *call, bool backward) {
    (void)backward;
    double n = op_cost_elements(call->in[NMS_SCORES]);
    cost->flops = n * (n - 1) / 2 * OP_COST_IOU;
}

static void spread(const op_call *call) {
    case_boxes_spread(call->in[NMS_BOXES], 0, 1344, 800);
}

static const op_case nms_bench[] = {
    {.name = "boxes_2000",
     .params = &rpn,
     .in = {OP_IN(UNIFORM, 0, 1, 2000, 4), OP_IN(NORMAL, 0, 1, 2000)},
     .prepare = spread},
    {.name = "boxes_12000",
     .params = &rpn,
     .in = {OP_IN(UNIFORM, 0, 1, 12000, 4), OP_IN(NORMAL, 0, 1, 12000)},
     .prepare = spread},
    {.name = "levels_8819",
     .params = &rpn,
     .in = {OP_IN(UNIFORM, 0, 1, 8819, 4), OP_IN(NORMAL, 0, 1, 8819), OP_IN(INTEGER, 0, 5, 8819)},
     .prepare = spread},
};

const op_def nms_op = {
    .name = "nms",
    .n_inputs = 3,
    .n_outputs = 2,
    .input_names = {"boxes", "scores", "groups"},
    .output_names = {"keep", "count"},
    .input_types = {DTYPE_F32, DTYPE_F32, DTYPE_I32},
    .optional_inputs = 1u << NMS_GROUPS,
    .shares_gradient = -1,
    .params_size = sizeof(nms_params),
    .attrs = nms_attrs,
    .infer = nms_infer,
    .cost = nms_cost,
    .reference_f32 = &nms_reference_f32,
    .reference_f64 = &nms_reference_f64,
    .cpu = &nms_sorted,
    .cases = nms_cases,
    .n_cases = sizeof nms_cases / sizeof nms_cases[0],
    .bench_cases = nms_bench,
    .n_bench_cases = sizeof nms_bench / sizeof nms_bench[0],
};

tensor *nms(struct tape *t, tensor *boxes, tensor *scores, tensor *groups, const nms_params *params) {
    tensor *out[2];
    tape_apply(t, &nms_op, params, (tensor *[]){boxes, scores, groups}, out);
    return out[0];
}
