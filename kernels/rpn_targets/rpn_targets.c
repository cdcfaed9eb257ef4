#include "rpn_targets/rpn_targets.h"

#include "autograd/op_cost.h"
#include "autograd/tape.h"
#include "case_boxes.h"
#include "rpn_targets/rpn_label.h"

static status check_params(const op_call *call) {
    const rpn_targets_params *p = call->params;
    if (!anchor_spec_valid(&p->anchors, p->canvas_height, p->canvas_width))
        return op_bad_attr(call, "anchors", "a valid list of anchors and a canvas");
    if (!(p->iou_background > 0 && p->iou_background <= p->iou_foreground))
        return op_bad_attr(call, "iou_background", "positive, at most iou_foreground");
    if (p->batch_size_per_image < 1) return op_bad_attr(call, "batch_size_per_image", "positive");
    if (!(p->positive_fraction >= 0 && p->positive_fraction <= 1))
        return op_bad_attr(call, "positive_fraction", "from 0 to 1");
    for (int i = 0; i < 4; i++)
        if (!(p->box_weights[i] > 0)) return op_bad_attr(call, "box_weights", "four positive numbers");
    return STATUS_OK;
}

static status rpn_targets_infer(op_call *call) {
    const rpn_targets_params *p = call->params;
    RETURN_IF_ERROR(check_params(call));
    RETURN_IF_ERROR(op_expect_rank(call, RPN_TARGETS_GT_BOXES, 3));
    RETURN_IF_ERROR(op_expect_dim(call, RPN_TARGETS_GT_BOXES, 2, 4, "x1 y1 x2 y2"));
    RETURN_IF_ERROR(op_expect_rank(call, RPN_TARGETS_GT_COUNT, 1));
    RETURN_IF_ERROR(op_expect_dims_equal(call, RPN_TARGETS_GT_COUNT, 0, RPN_TARGETS_GT_BOXES, 0));
    RETURN_IF_ERROR(op_expect_rank(call, RPN_TARGETS_INFO, 2));
    RETURN_IF_ERROR(op_expect_dims_equal(call, RPN_TARGETS_INFO, 0, RPN_TARGETS_GT_BOXES, 0));
    RETURN_IF_ERROR(op_expect_dim(call, RPN_TARGETS_INFO, 1, IMAGE_INFO_INTS, "image_info"));
    RETURN_IF_ERROR(op_expect_rank(call, RPN_TARGETS_STEP, 1));
    RETURN_IF_ERROR(op_expect_dim(call, RPN_TARGETS_STEP, 0, 1, "the iteration"));
    anchor_grid grid = anchor_grid_make(&p->anchors, p->canvas_height, p->canvas_width);
    int64_t images = call->in[RPN_TARGETS_INFO]->shape[0], rows = images * rpn_batch(p, &grid);
    if (images * grid.count > INT32_MAX) return op_bad_attr(call, "anchors", "at most 2^31 - 1 in a batch");
    dtype real = op_real_type(call);
    op_describe_output(call, RPN_TARGETS_COUNT, DTYPE_I32, 1, (int64_t[]){1}, NULL);
    op_describe_output(call, RPN_TARGETS_SAMPLED, real, 1, (int64_t[]){2}, NULL);
    const tensor *count = call->out[RPN_TARGETS_COUNT];
    op_describe_output(call, RPN_TARGETS_INDEX, DTYPE_I32, 1, (int64_t[]){rows}, count);
    op_describe_output(call, RPN_TARGETS_LABELS, real, 1, (int64_t[]){rows}, count);
    op_describe_output(call, RPN_TARGETS_BOX_WEIGHTS, real, 1, (int64_t[]){rows}, count);
    op_describe_output(call, RPN_TARGETS_BOX_TARGETS, real, 2, (int64_t[]){rows, 4}, count);
    return STATUS_OK;
}

#define ANCHORS3(height, width)                                                                              \
    .anchors = {.levels = 3,                                                                                 \
                .n_sizes = {1, 1, 1},                                                                        \
                .n_ratios = {3, 3, 3},                                                                       \
                .sizes = {{16}, {32}, {64}},                                                                 \
                .ratios = {{0.5, 1, 2}, {0.5, 1, 2}, {0.5, 1, 2}},                                           \
                .strides = {8, 16, 32},                                                                      \
                .rounding = ANCHOR_ROUND_CORNERS},                                                           \
    .canvas_height = (height), .canvas_width = (width), .box_weights = {1, 1, 1, 1}, .iou_background = 0.3,  \
    .iou_foreground = 0.7

#define SMALL ANCHORS3(80, 112)

static const rpn_targets_params
    usual = {SMALL, .batch_size_per_image = 32, .positive_fraction = 0.5, .straddle = -1, .seed = 7},
    few_objects = {SMALL, .batch_size_per_image = 9, .positive_fraction = 0.25, .straddle = -1, .seed = 7},
    all = {SMALL, .batch_size_per_image = 100000, .positive_fraction = 1, .straddle = -1, .seed = 7},
    inside = {SMALL, .batch_size_per_image = 64, .positive_fraction = 0.5, .straddle = 0, .seed = 8},
    no_objects = {SMALL, .batch_size_per_image = 16, .positive_fraction = 0, .straddle = -1, .seed = 9},
    wide = {ANCHORS3(240, 320), .batch_size_per_image = 100, .positive_fraction = 0.25, .straddle = -1,
            .seed = 10};

static void set_images(const op_call *call, int64_t objects) {
    image_info *info = call->in[RPN_TARGETS_INFO]->data;
    for (int64_t n = 0; n < call->in[RPN_TARGETS_INFO]->shape[0]; n++) {
        info[n] = (image_info){.original_height = 100,
                               .original_width = 100,
                               .height = 80 - 9 * (int32_t)n,
                               .width = 101 + 11 * (int32_t)n,
                               .id_low = 5 + (int32_t)n,
                               .id_high = 1};
        tensor_i32(call->in[RPN_TARGETS_GT_COUNT])[n] = (int32_t)(objects - n > 0 ? objects - n : 0);
    }
    *tensor_i32(call->in[RPN_TARGETS_STEP]) = 12;
}

/* Whole-pixel boxes inside 100 x 80, sides 3..43: with whole-pixel anchors, equal overlaps are equal in float
 * and double. */
static void whole_boxes(const op_call *call) {
    tensor *gt = call->in[RPN_TARGETS_GT_BOXES];
    set_images(call, gt->shape[1]);
    for (int64_t i = 0; i < tensor_count(gt); i += 4) {
        for (int k = 0; k < 2; k++) {
            double low = floor(tensor_get(gt, i + k) * (k ? 0.5 : 0.7)),
                   size = 3 + floor(tensor_get(gt, i + k + 2) * 0.4);
            tensor_set(gt, i + k, low);
            tensor_set(gt, i + k + 2, low + size < (k ? 80 : 100) ? low + size : (k ? 80 : 100));
        }
    }
}

/* Twice the same object, on an anchor exactly, in the middle of four anchors (ties), with no area, and far
 * off. */
static void special_boxes(const op_call *call) {
    static const double boxes[7][4] = {{20, 10, 60, 50}, {20, 10, 60, 50}, {40, 24, 56, 40},
                                       {36, 28, 52, 44}, {30, 30, 30, 50}, {500, 500, 540, 540},
                                       {0, 0, 100, 71}};
    tensor *gt = call->in[RPN_TARGETS_GT_BOXES];
    set_images(call, gt->shape[1]);
    for (int64_t i = 0; i < tensor_count(gt); i++) tensor_set(gt, i, boxes[i / 4 % 7][i % 4]);
}

static void no_object(const op_call *call) {
    set_images(call, 0);
}

#define IMAGES(n, g)                                                                                         \
    {                                                                                                        \
        OP_IN(UNIFORM, 0, 100, n, g, 4), OP_IN(CONSTANT, 0, 0, n),                                           \
            OP_IN(CONSTANT, 0, 0, n, IMAGE_INFO_INTS), OP_IN(CONSTANT, 0, 0, 1)                              \
    }

static const op_case rpn_targets_cases[] = {
    {.name = "three_images", .params = &usual, .in = IMAGES(3, 6), .prepare = whole_boxes},
    {.name = "too_many_objects", .params = &few_objects, .in = IMAGES(2, 30), .prepare = whole_boxes},
    {.name = "all_fit", .params = &all, .in = IMAGES(2, 5), .prepare = whole_boxes},
    {.name = "inside_only", .params = &inside, .in = IMAGES(2, 9), .prepare = whole_boxes},
    {.name = "special_boxes", .params = &all, .in = IMAGES(1, 7), .prepare = special_boxes},
    {.name = "special_boxes_sampled", .params = &usual, .in = IMAGES(2, 7), .prepare = special_boxes},
    {.name = "no_positive_wanted", .params = &no_objects, .in = IMAGES(1, 3), .prepare = whole_boxes},
    {.name = "several_tiles", .params = &wide, .in = IMAGES(2, 40), .prepare = whole_boxes},
    {.name = "no_object", .params = &usual, .in = IMAGES(2, 4), .prepare = no_object},
    {.name = "no_room_for_objects", .params = &usual, .in = IMAGES(2, 0), .prepare = no_object},
    {.name = "no_images", .params = &usual, .in = IMAGES(0, 4)},
};

static void rpn_targets_cost(op_cost *cost, const op_call *call, bool backward) {
    (void)backward;
    const rpn_targets_params *p = call->params;
    double images = (double)call->in[RPN_TARGETS_INFO]->shape[0];
    anchor_grid grid = anchor_grid_make(&p->anchors, p->canvas_height, p->canvas_width);
    cost->flops =
        images * (double)grid.count * (double)call->in[RPN_TARGETS_GT_BOXES]->shape[1] * OP_COST_IOU;
}

static const rpn_targets_params training = {
    .anchors = {.levels = 5,
                .n_sizes = {1, 1, 1, 1, 1},
                .n_ratios = {3, 3, 3, 3, 3},
                .sizes = {{32}, {64}, {128}, {256}, {512}},
                .ratios = {{0.5, 1, 2}, {0.5, 1, 2}, {0.5, 1, 2}, {0.5, 1, 2}, {0.5, 1, 2}},
                .strides = {4, 8, 16, 32, 64}},
    .canvas_height = 800,
    .canvas_width = 1344,
    .box_weights = {1, 1, 1, 1},
    .iou_background = 0.3,
    .iou_foreground = 0.7,
    .batch_size_per_image = 256,
    .positive_fraction = 0.5,
    .straddle = -1,
    .seed = 7};

static void spread(const op_call *call) {
    tensor *gt = call->in[RPN_TARGETS_GT_BOXES];
    set_images(call, gt->shape[1] + gt->shape[0]);
    for (int64_t n = 0; n < gt->shape[0]; n++) {
        image_info *info = (image_info *)call->in[RPN_TARGETS_INFO]->data + n;
        info->height = 800;
        info->width = 1333;
        tensor_i32(call->in[RPN_TARGETS_GT_COUNT])[n] = (int32_t)gt->shape[1];
    }
    case_boxes_spread(gt, 0, 1333, 800);
}

#define UNIT_IMAGES(n, g)                                                                                    \
    {                                                                                                        \
        OP_IN(UNIFORM, 0, 1, n, g, 4), OP_IN(CONSTANT, 0, 0, n), OP_IN(CONSTANT, 0, 0, n, IMAGE_INFO_INTS),  \
            OP_IN(CONSTANT, 0, 0, 1)                                                                         \
    }

static const op_case rpn_targets_bench[] = {
    {.name = "2_images_of_8_objects", .params = &training, .in = UNIT_IMAGES(2, 8), .prepare = spread},
    {.name = "2_images_of_50_objects", .params = &training, .in = UNIT_IMAGES(2, 50), .prepare = spread},
};

const op_def rpn_targets_op = {
    .name = "rpn_targets",
    .n_inputs = RPN_TARGETS_INPUTS,
    .n_outputs = RPN_TARGETS_OUTPUTS,
    .input_names = {"gt_boxes", "gt_count", "info", "step"},
    .output_names = {"index", "labels", "box_weights", "box_targets", "count", "sampled"},
    .input_types = {DTYPE_F32, DTYPE_I32, DTYPE_I32, DTYPE_I32},
    .shares_gradient = -1,
    .params_size = sizeof(rpn_targets_params),
    .infer = rpn_targets_infer,
    .cost = rpn_targets_cost,
    .reference_f32 = &rpn_targets_reference_f32,
    .reference_f64 = &rpn_targets_reference_f64,
    .cpu = &rpn_targets_bands,
    .atol = 1e-5,
    .rtol = 1e-5,
    .cases = rpn_targets_cases,
    .n_cases = sizeof rpn_targets_cases / sizeof rpn_targets_cases[0],
    .bench_cases = rpn_targets_bench,
    .n_bench_cases = sizeof rpn_targets_bench / sizeof rpn_targets_bench[0],
};

rpn_targets_result rpn_targets(struct tape *t, tensor *const in[RPN_TARGETS_INPUTS],
                               const rpn_targets_params *params) {
    tensor *out[RPN_TARGETS_OUTPUTS];
    tape_apply(t, &rpn_targets_op, params, in, out);
    return (rpn_targets_result){.index = out[RPN_TARGETS_INDEX],
                                .labels = out[RPN_TARGETS_LABELS],
                                .box_weights = out[RPN_TARGETS_BOX_WEIGHTS],
                                .box_targets = out[RPN_TARGETS_BOX_TARGETS],
                                .count = out[RPN_TARGETS_COUNT],
                                .sampled = out[RPN_TARGETS_SAMPLED]};
}
