#include "roi_targets/roi_targets.h"

#include "autograd/op_cost.h"
#include "autograd/tape.h"
#include "image_info.h"

#include <math.h>

static status check_params(const op_call *call) {
    const roi_targets_params *p = call->params;
    if (!(p->iou_foreground > 0 && p->iou_foreground <= 1))
        return op_bad_attr(call, "iou_foreground", "positive, at most 1");
    if (p->batch_size_per_image < 1) return op_bad_attr(call, "batch_size_per_image", "positive");
    if (!(p->positive_fraction >= 0 && p->positive_fraction <= 1))
        return op_bad_attr(call, "positive_fraction", "from 0 to 1");
    for (int i = 0; i < 4; i++)
        if (!(p->box_weights[i] > 0)) return op_bad_attr(call, "box_weights", "four positive numbers");
    return STATUS_OK;
}

static status check_inputs(const op_call *call) {
    static const int ranks[ROI_TARGETS_INPUTS] = {3, 1, 3, 2, 1, 2, 1, 2};
    for (int i = 0; i < ROI_TARGETS_INPUTS; i++) {
        if (!call->in[i]) continue;
        RETURN_IF_ERROR(op_expect_rank(call, i, ranks[i]));
        if (i != ROI_TARGETS_STEP)
            RETURN_IF_ERROR(op_expect_dims_equal(call, i, 0, ROI_TARGETS_PROPOSALS, 0));
    }
    RETURN_IF_ERROR(op_expect_dim(call, ROI_TARGETS_PROPOSALS, 2, 4, "x1 y1 x2 y2"));
    RETURN_IF_ERROR(op_expect_dim(call, ROI_TARGETS_GT_BOXES, 2, 4, "x1 y1 x2 y2"));
    RETURN_IF_ERROR(op_expect_dims_equal(call, ROI_TARGETS_GT_LABELS, 1, ROI_TARGETS_GT_BOXES, 1));
    if (call->in[ROI_TARGETS_IDS])
        RETURN_IF_ERROR(op_expect_dims_equal(call, ROI_TARGETS_IDS, 1, ROI_TARGETS_PROPOSALS, 1));
    RETURN_IF_ERROR(op_expect_dim(call, ROI_TARGETS_INFO, 1, IMAGE_INFO_INTS, "image_info"));
    return op_expect_dim(call, ROI_TARGETS_STEP, 0, 1, "the iteration");
}

static int64_t at_most(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static status roi_targets_infer(op_call *call) {
    const roi_targets_params *p = call->params;
    RETURN_IF_ERROR(check_params(call));
    RETURN_IF_ERROR(check_inputs(call));
    const int64_t *proposals = call->in[ROI_TARGETS_PROPOSALS]->shape;
    int64_t candidates = proposals[1] + call->in[ROI_TARGETS_GT_BOXES]->shape[1];
    int64_t rows = proposals[0] * at_most(p->batch_size_per_image, candidates);
    int64_t masks =
        proposals[0] * at_most((int64_t)((double)p->batch_size_per_image * p->positive_fraction), candidates);
    if (proposals[0] * candidates > INT32_MAX)
        return op_bad_attr(call, "proposals", "at most 2^31 - 1 in a batch");
    dtype real = op_real_type(call);
    const tensor *count = call->out[ROI_TARGETS_COUNT], *mask_count = call->out[ROI_TARGETS_MASK_COUNT];
    op_describe_output(call, ROI_TARGETS_COUNT, DTYPE_I32, 1, (int64_t[]){1}, NULL);
    op_describe_output(call, ROI_TARGETS_MASK_COUNT, DTYPE_I32, 1, (int64_t[]){1}, NULL);
    op_describe_output(call, ROI_TARGETS_SAMPLED, real, 1, (int64_t[]){2}, NULL);
    op_describe_output(call, ROI_TARGETS_ROIS, real, 2, (int64_t[]){rows, 5}, count);
    op_describe_output(call, ROI_TARGETS_LABELS, DTYPE_I32, 1, (int64_t[]){rows}, count);
    op_describe_output(call, ROI_TARGETS_BOX_TARGETS, real, 2, (int64_t[]){rows, 4}, count);
    op_describe_output(call, ROI_TARGETS_BOX_WEIGHTS, real, 1, (int64_t[]){rows}, count);
    op_describe_output(call, ROI_TARGETS_MASK_ROIS, real, 2, (int64_t[]){masks, 5}, mask_count);
    op_describe_output(call, ROI_TARGETS_MASK_LABELS, DTYPE_I32, 1, (int64_t[]){masks}, mask_count);
    op_describe_output(call, ROI_TARGETS_MASK_GT, DTYPE_I32, 1, (int64_t[]){masks}, mask_count);
    return STATUS_OK;
}

#define HEADS .iou_foreground = 0.5, .box_weights = {10, 10, 5, 5}, .seed = 3

static const roi_targets_params usual = {HEADS, .append_gt = true, .batch_size_per_image = 16,
                                         .positive_fraction = 0.25},
                                all = {HEADS, .append_gt = true, .batch_size_per_image = 1000,
                                       .positive_fraction = 1},
                                not_appended = {HEADS, .batch_size_per_image = 16, .positive_fraction = 0.25},
                                many = {HEADS, .append_gt = true, .batch_size_per_image = 300,
                                        .positive_fraction = 0.25},
                                no_masks = {HEADS, .append_gt = true, .batch_size_per_image = 8,
                                            .positive_fraction = 0};

static void set_counts(const op_call *call, int64_t proposals, int64_t objects) {
    image_info *info = call->in[ROI_TARGETS_INFO]->data;
    for (int64_t n = 0; n < call->in[ROI_TARGETS_INFO]->shape[0]; n++) {
        info[n] = (image_info){.height = 100, .width = 100, .id_low = -7 + (int32_t)n, .id_high = 2};
        tensor_i32(call->in[ROI_TARGETS_COUNTS])[n] = (int32_t)(proposals > n ? proposals - n : 0);
        tensor_i32(call->in[ROI_TARGETS_GT_COUNT])[n] = (int32_t)(objects > n ? objects - n : 0);
    }
    *tensor_i32(call->in[ROI_TARGETS_STEP]) = 4000;
}

/* Whole pixels, sides 5..45; every third proposal lies about an object. */
static void whole_boxes(const op_call *call) {
    tensor *boxes[2] = {call->in[ROI_TARGETS_GT_BOXES], call->in[ROI_TARGETS_PROPOSALS]};
    int64_t objects = boxes[0]->shape[1];
    set_counts(call, boxes[1]->shape[1], objects);
    for (int b = 0; b < 2; b++) {
        for (int64_t i = 0; i < tensor_count(boxes[b]); i += 4) {
            for (int k = 0; k < 2; k++) {
                double low = floor(tensor_get(boxes[b], i + k) / 2),
                       size = 5 + floor(tensor_get(boxes[b], i + k + 2) * 0.4);
                tensor_set(boxes[b], i + k, low);
                tensor_set(boxes[b], i + k + 2, low + size);
            }
            if (b == 0 || objects == 0 || i % 3) continue;
            int64_t image = i / 4 / boxes[1]->shape[1], g = i / 12 % objects;
            for (int k = 0; k < 4; k++)
                tensor_set(boxes[1], i + k,
                           tensor_get(boxes[0], 4 * (image * objects + g) + k) + (double)((i / 4 + k) % 5));
        }
    }
}

static void no_objects(const op_call *call) {
    whole_boxes(call);
    set_counts(call, call->in[ROI_TARGETS_PROPOSALS]->shape[1], 0);
}

static void no_proposals(const op_call *call) {
    whole_boxes(call);
    set_counts(call, 0, call->in[ROI_TARGETS_GT_BOXES]->shape[1]);
}

/* No area, twice the same, and off every proposal. */
static void special_boxes(const op_call *call) {
    static const double boxes[5][4] = {
        {10, 10, 10, 40}, {20, 20, 60, 60}, {20, 20, 60, 60}, {900, 900, 950, 990}, {50, 70, 40, 60}};
    whole_boxes(call);
    for (int64_t i = 0; i < tensor_count(call->in[ROI_TARGETS_GT_BOXES]); i++)
        tensor_set(call->in[ROI_TARGETS_GT_BOXES], i, boxes[i / 4 % 5][i % 4]);
}

#define IMAGES(n, p, g)                                                                                      \
    {                                                                                                        \
        OP_IN(UNIFORM, 0, 100, n, p, 4), OP_IN(CONSTANT, 0, 0, n), OP_IN(UNIFORM, 0, 100, n, g, 4),          \
            OP_IN(INTEGER, 0, 80, n, g), OP_IN(CONSTANT, 0, 0, n),                                           \
            OP_IN(CONSTANT, 0, 0, n, IMAGE_INFO_INTS), OP_IN(CONSTANT, 0, 0, 1)                              \
    }

static const op_case roi_targets_cases[] = {
    {.name = "three_images", .params = &usual, .in = IMAGES(3, 70, 6), .prepare = whole_boxes},
    {.name = "all_fit", .params = &all, .in = IMAGES(2, 40, 7), .prepare = whole_boxes},
    {.name = "gt_not_appended", .params = &not_appended, .in = IMAGES(2, 40, 3), .prepare = whole_boxes},
    {.name = "no_positive_wanted", .params = &no_masks, .in = IMAGES(2, 20, 3), .prepare = whole_boxes},
    {.name = "special_boxes", .params = &all, .in = IMAGES(1, 30, 5), .prepare = special_boxes},
    {.name = "no_objects", .params = &usual, .in = IMAGES(2, 30, 5), .prepare = no_objects},
    {.name = "no_proposals", .params = &usual, .in = IMAGES(2, 30, 5), .prepare = no_proposals},
    {.name = "no_room_for_objects", .params = &usual, .in = IMAGES(2, 30, 0), .prepare = whole_boxes},
    {.name = "fewer_than_wanted", .params = &usual, .in = IMAGES(1, 3, 2), .prepare = whole_boxes},
    {.name = "named_proposals",
     .params = &usual,
     .in = {OP_IN(UNIFORM, 0, 100, 2, 70, 4), OP_IN(CONSTANT, 0, 0, 2), OP_IN(UNIFORM, 0, 100, 2, 6, 4),
            OP_IN(INTEGER, 0, 80, 2, 6), OP_IN(CONSTANT, 0, 0, 2), OP_IN(CONSTANT, 0, 0, 2, IMAGE_INFO_INTS),
            OP_IN(CONSTANT, 0, 0, 1), OP_IN(INTEGER, 0, 100000, 2, 70)},
     .prepare = whole_boxes},
    {.name = "many_proposals", .params = &many, .in = IMAGES(2, 1300, 40), .prepare = whole_boxes},
    {.name = "no_images", .params = &usual, .in = IMAGES(0, 30, 5)},
};

static void roi_targets_cost(op_cost *cost, const op_call *call, bool backward) {
    (void)backward;
    const tensor *proposals = call->in[ROI_TARGETS_PROPOSALS], *objects = call->in[ROI_TARGETS_GT_BOXES];
    double images = (double)proposals->shape[0], most = (double)objects->shape[1];
    double candidates = (double)proposals->shape[1];
    if (((const roi_targets_params *)call->params)->append_gt) candidates += most;
    cost->flops = images * candidates * most * OP_COST_IOU;
}

static const roi_targets_params training = {HEADS, .append_gt = true, .batch_size_per_image = 512,
                                            .positive_fraction = 0.25};

static const op_case roi_targets_bench[] = {
    {.name = "2_images_of_8_objects", .params = &training, .in = IMAGES(2, 1000, 8), .prepare = whole_boxes},
    {.name = "2_images_of_50_objects",
     .params = &training,
     .in = IMAGES(2, 1000, 50),
     .prepare = whole_boxes},
};

const op_def roi_targets_op = {
    .name = "roi_targets",
    .n_inputs = ROI_TARGETS_INPUTS,
    .n_outputs = ROI_TARGETS_OUTPUTS,
    .input_names = {"proposals", "counts", "gt_boxes", "gt_labels", "gt_count", "info", "step", "ids"},
    .output_names = {"rois", "labels", "box_targets", "box_weights", "count", "mask_rois", "mask_labels",
                     "mask_gt", "mask_count", "sampled"},
    .input_types = {DTYPE_F32, DTYPE_I32, DTYPE_F32, DTYPE_I32, DTYPE_I32, DTYPE_I32, DTYPE_I32, DTYPE_I32},
    .optional_inputs = 1u << ROI_TARGETS_IDS,
    .shares_gradient = -1,
    .params_size = sizeof(roi_targets_params),
    .infer = roi_targets_infer,
    .cost = roi_targets_cost,
    .reference_f32 = &roi_targets_reference_f32,
    .reference_f64 = &roi_targets_reference_f64,
    .cpu = &roi_targets_reference_f32,
    .atol = 1e-4,
    .rtol = 1e-5,
    .cases = roi_targets_cases,
    .n_cases = sizeof roi_targets_cases / sizeof roi_targets_cases[0],
    .bench_cases = roi_targets_bench,
    .n_bench_cases = sizeof roi_targets_bench / sizeof roi_targets_bench[0],
};

roi_targets_result roi_targets(struct tape *t, tensor *const in[ROI_TARGETS_INPUTS],
                               const roi_targets_params *params) {
    tensor *out[ROI_TARGETS_OUTPUTS];
    tape_apply(t, &roi_targets_op, params, in, out);
    return (roi_targets_result){.rois = out[ROI_TARGETS_ROIS],
                                .labels = out[ROI_TARGETS_LABELS],
                                .box_targets = out[ROI_TARGETS_BOX_TARGETS],
                                .box_weights = out[ROI_TARGETS_BOX_WEIGHTS],
                                .count = out[ROI_TARGETS_COUNT],
                                .mask_rois = out[ROI_TARGETS_MASK_ROIS],
                                .mask_labels = out[ROI_TARGETS_MASK_LABELS],
                                .mask_gt = out[ROI_TARGETS_MASK_GT],
                                .mask_count = out[ROI_TARGETS_MASK_COUNT],
                                .sampled = out[ROI_TARGETS_SAMPLED]};
}
