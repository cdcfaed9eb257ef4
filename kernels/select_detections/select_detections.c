#include "select_detections/select_detections.h"

#include "autograd/op_cost.h"
#include "autograd/tape.h"
#include "case_boxes.h"
#include "image_info.h"
#include "roi_check.h"

#include <math.h>

static status check_params(const op_call *call) {
    const select_detections_params *p = call->params;
    if (!(p->score_threshold >= 0 && p->score_threshold <= 1))
        return op_bad_attr(call, "score_threshold", "from 0 to 1");
    if (!(p->nms_threshold >= 0 && p->nms_threshold <= 1))
        return op_bad_attr(call, "nms_threshold", "from 0 to 1");
    if (p->max_detections < 1 || p->max_detections > 1 << 20)
        return op_bad_attr(call, "max_detections", "from 1 to 1048576");
    if (!(p->min_box_size >= 0)) return op_bad_attr(call, "min_box_size", "at least 0");
    for (int i = 0; i < 4; i++)
        if (!(p->box_weights[i] > 0)) return op_bad_attr(call, "box_weights", "four positive numbers");
    return STATUS_OK;
}

static status check_capacity(const op_call *call, int64_t classes) {
    const select_detections_params *p = call->params;
    int64_t rows = call->in[SELECT_DETECTIONS_ROIS]->shape[0],
            images = call->in[SELECT_DETECTIONS_INFO]->shape[0];
    if (rows > INT32_MAX / (classes + 1) || images > INT32_MAX / p->max_detections / (classes + 1))
        return error_set(STATUS_DATA, "select from fewer regions at a time",
                         "select_detections: tensor rois has %lld rows for %lld classes of %lld images: more "
                         "candidates than 32 bits count",
                         (long long)rows, (long long)classes, (long long)images);
    return STATUS_OK;
}

static status select_detections_infer(op_call *call) {
    const select_detections_params *p = call->params;
    RETURN_IF_ERROR(check_params(call));
    RETURN_IF_ERROR(roi_check_shape(call, SELECT_DETECTIONS_ROIS));
    for (int i = SELECT_DETECTIONS_LOGITS; i <= SELECT_DETECTIONS_DELTAS; i++) {
        RETURN_IF_ERROR(op_expect_rank(call, i, 2));
        RETURN_IF_ERROR(op_expect_dims_equal(call, i, 0, SELECT_DETECTIONS_ROIS, 0));
    }
    int64_t channels = call->in[SELECT_DETECTIONS_LOGITS]->shape[1];
    if (channels < 2) return op_expect_dim(call, SELECT_DETECTIONS_LOGITS, 1, 2, "background and classes");
    RETURN_IF_ERROR(op_expect_dim(call, SELECT_DETECTIONS_DELTAS, 1, 4 * channels, "4 for each logit"));
    RETURN_IF_ERROR(op_expect_rank(call, SELECT_DETECTIONS_INFO, 2));
    RETURN_IF_ERROR(op_expect_dim(call, SELECT_DETECTIONS_INFO, 1, IMAGE_INFO_INTS, "image_info"));
    RETURN_IF_ERROR(check_capacity(call, channels - 1));
    int64_t images = call->in[SELECT_DETECTIONS_INFO]->shape[0], rows = images * p->max_detections;
    dtype real = op_real_type(call);
    op_describe_output(call, SELECT_DETECTIONS_COUNT, DTYPE_I32, 1, (int64_t[]){1}, NULL);
    const tensor *count = call->out[SELECT_DETECTIONS_COUNT];
    op_describe_output(call, SELECT_DETECTIONS_COUNTS, DTYPE_I32, 1, (int64_t[]){images}, NULL);
    op_describe_output(call, SELECT_DETECTIONS_BOXES, real, 2, (int64_t[]){rows, 4}, count);
    op_describe_output(call, SELECT_DETECTIONS_DET_ROIS, real, 2, (int64_t[]){rows, 5}, count);
    op_describe_output(call, SELECT_DETECTIONS_SCORES, real, 1, (int64_t[]){rows}, count);
    op_describe_output(call, SELECT_DETECTIONS_LABELS, DTYPE_I32, 1, (int64_t[]){rows}, count);
    return STATUS_OK;
}

static status select_detections_validate(const op_call *call) {
    const tensor *info = call->in[SELECT_DETECTIONS_INFO];
    for (int64_t n = 0; n < info->shape[0]; n++) {
        const image_info *i = (const image_info *)info->data + n;
        if (i->height < 1 || i->width < 1 || i->original_height < 1 || i->original_width < 1)
            return error_set(STATUS_DATA, "give sizes of at least 1",
                             "select_detections: tensor info: a size of image %lld is not positive",
                             (long long)n);
    }
    return roi_check_values(call, SELECT_DETECTIONS_ROIS, info->shape[0]);
}

static const op_attr select_detections_attrs[] = {
    {.name = "score_threshold",
     .type = ATTR_FLOAT,
     .offset = offsetof(select_detections_params, score_threshold),
     .required = true},
    {.name = "nms_threshold",
     .type = ATTR_FLOAT,
     .offset = offsetof(select_detections_params, nms_threshold),
     .required = true},
    {.name = "max_detections",
     .type = ATTR_INT,
     .offset = offsetof(select_detections_params, max_detections),
     .required = true},
    {.name = "min_box_size", .type = ATTR_FLOAT, .offset = offsetof(select_detections_params, min_box_size)},
    {.name = "box_weights",
     .type = ATTR_FLOAT_LIST,
     .offset = offsetof(select_detections_params, box_weights),
     .count = 4,
     .required = true},
    {.name = NULL},
};

#define WEIGHTS .box_weights = {10, 10, 5, 5}

static const select_detections_params
    usual = {.score_threshold = 0.05, .nms_threshold = 0.5, .max_detections = 100, WEIGHTS},
    small_dropped = {.score_threshold = 0.05,
                     .nms_threshold = 0.5,
                     .max_detections = 100,
                     .min_box_size = 12,
                     WEIGHTS},
    few = {.nms_threshold = 0.3, .max_detections = 7, WEIGHTS},
    all = {.nms_threshold = 1, .max_detections = 500, .box_weights = {1, 1, 1, 1}},
    crowd = {.nms_threshold = 0.3, .max_detections = 300, WEIGHTS},
    crowd_all = {.nms_threshold = 1, .max_detections = 700, .box_weights = {1, 1, 1, 1}},
    none = {.score_threshold = 1, .nms_threshold = 0.5, .max_detections = 3, WEIGHTS};

/* Images enlarged, shrunk and of another shape; RoIs turn by turn, half of them on top of one another. */
static void place(const op_call *call) {
    image_info *info = call->in[SELECT_DETECTIONS_INFO]->data;
    tensor *rois = call->in[SELECT_DETECTIONS_ROIS];
    int64_t images = call->in[SELECT_DETECTIONS_INFO]->shape[0];
    for (int64_t n = 0; n < images; n++)
        info[n] = (image_info){.original_height = 150 - 60 * (int32_t)(n % 3),
                               .original_width = 101 + 100 * (int32_t)(n % 3),
                               .height = 100,
                               .width = 140 - 31 * (int32_t)n};
    for (int64_t r = 0; r < rois->shape[0]; r++) {
        int64_t image = r * 7 % images;
        tensor_set(rois, 5 * r, (double)image);
        for (int k = 0; k < 2; k++) {
            double corner = floor(tensor_get(rois, 5 * r + 1 + k) * (r % 2 ? 4 : 90));
            tensor_set(rois, 5 * r + 1 + k, corner);
            tensor_set(rois, 5 * r + 3 + k, corner + 5 + floor(40 * tensor_get(rois, 5 * r + 3 + k)));
        }
    }
}

static void equal_scores(const op_call *call) {
    place(call);
    tensor *logits = call->in[SELECT_DETECTIONS_LOGITS];
    for (int64_t i = 0; i < tensor_count(logits); i++)
        tensor_set(logits, i, (double)(i % logits->shape[1] % 3));
}

static void not_finite(const op_call *call) {
    static const double odd[] = {(double)INFINITY, (double)-INFINITY, (double)NAN, 2e6, -2e6};
    tensor *logits = call->in[SELECT_DETECTIONS_LOGITS], *deltas = call->in[SELECT_DETECTIONS_DELTAS];
    place(call);
    for (int64_t r = 0; r < logits->shape[0]; r++) {
        if (r % 3 == 1) tensor_set(logits, r * logits->shape[1] + r % logits->shape[1], odd[r % 5]);
        if (r % 3 == 2) tensor_set(deltas, r * deltas->shape[1] + r % deltas->shape[1], odd[r % 5]);
    }
}

/* Every other box is off the image, so clipped to a line or a point: they suppress nothing. */
static void outside(const op_call *call) {
    place(call);
    tensor *rois = call->in[SELECT_DETECTIONS_ROIS];
    for (int64_t r = 0; r < rois->shape[0]; r += 2)
        for (int k = 1; k < 5; k++)
            tensor_set(rois, 5 * r + k, tensor_get(rois, 5 * r + k) + (r % 4 ? 500 : -500));
}

#define HEADS(r, k, n, deviation)                                                                            \
    {                                                                                                        \
        OP_IN(NORMAL, 0, 2, r, (k) + 1), OP_IN(NORMAL, 0, deviation, r, 4 * ((k) + 1)),                      \
            OP_IN(UNIFORM, 0, 1, r, 5), OP_IN(CONSTANT, 0, 0, n, IMAGE_INFO_INTS)                            \
    }
#define ROWS_INPUTS                                                                                          \
    (1u << SELECT_DETECTIONS_LOGITS | 1u << SELECT_DETECTIONS_DELTAS | 1u << SELECT_DETECTIONS_ROIS)

static const op_case select_detections_cases[] = {
    {.name = "two_images", .params = &usual, .in = HEADS(70, 5, 2, 1), .prepare = place},
    {.name = "many_classes", .params = &usual, .in = HEADS(40, 90, 1, 1), .prepare = place},
    {.name = "one_class", .params = &few, .in = HEADS(33, 1, 3, 2), .prepare = place},
    {.name = "few_of_many", .params = &few, .in = HEADS(65, 6, 2, 1), .prepare = place},
    {.name = "more_room_than_boxes", .params = &all, .in = HEADS(21, 3, 2, 0.1), .prepare = place},
    {.name = "small_dropped", .params = &small_dropped, .in = HEADS(50, 4, 2, 6), .prepare = place},
    {.name = "equal_scores", .params = &few, .in = HEADS(40, 4, 1, 0.1), .prepare = equal_scores},
    {.name = "equal_scores_all_kept", .params = &usual, .in = HEADS(40, 4, 1, 0.1), .prepare = equal_scores},
    {.name = "not_finite", .params = &usual, .in = HEADS(63, 4, 2, 1), .prepare = not_finite},
    {.name = "boxes_off_the_image", .params = &few, .in = HEADS(24, 3, 1, 0.1), .prepare = outside},
    {.name = "nothing_above_threshold", .params = &none, .in = HEADS(20, 3, 2, 1), .prepare = place},
    {.name = "thousands", .params = &crowd, .in = HEADS(400, 6, 1, 1), .prepare = place},
    {.name = "hundreds_kept", .params = &crowd_all, .in = HEADS(400, 2, 1, 0.1), .prepare = outside},
    {.name = "counted",
     .params = &usual,
     .in = HEADS(30, 3, 2, 1),
     .prepare = place,
     .valid_rows = 17,
     .rows_inputs = ROWS_INPUTS},
    {.name = "no_valid_rows",
     .params = &usual,
     .in = HEADS(9, 3, 2, 1),
     .prepare = place,
     .valid_rows = -1,
     .rows_inputs = ROWS_INPUTS},
    {.name = "one_roi", .params = &few, .in = HEADS(1, 2, 1, 1), .prepare = place},
    {.name = "an_image_without_rois", .params = &few, .in = HEADS(2, 2, 3, 1), .prepare = place},
    {.name = "no_rois", .params = &few, .in = HEADS(0, 2, 2, 1), .prepare = place},
    {.name = "no_images", .params = &few, .in = HEADS(0, 2, 0, 1)},
};

static void select_detections_cost(op_cost *cost, const op_call *call, bool backward) {
    (void)backward;
    const tensor *deltas = call->in[SELECT_DETECTIONS_DELTAS];
    cost->flops = 4 * op_cost_elements(call->in[SELECT_DETECTIONS_LOGITS]) + 5 * op_cost_elements(deltas);
}

static void place_on_800x1333(const op_call *call) {
    image_info *info = call->in[SELECT_DETECTIONS_INFO]->data;
    int64_t images = call->in[SELECT_DETECTIONS_INFO]->shape[0];
    for (int64_t n = 0; n < images; n++)
        info[n] = (image_info){.original_height = 480, .original_width = 800, .height = 800, .width = 1333};
    case_boxes_regions(call->in[SELECT_DETECTIONS_ROIS], images, 1333, 800);
}

static const op_case select_detections_bench[] = {
    {.name = "1000_rois_80_classes",
     .params = &usual,
     .in = HEADS(1000, 80, 1, 1),
     .prepare = place_on_800x1333},
    {.name = "2000_rois_90_classes_2_images",
     .params = &usual,
     .in = HEADS(2000, 90, 2, 1),
     .prepare = place_on_800x1333},
};

const op_def select_detections_op = {
    .name = "select_detections",
    .n_inputs = SELECT_DETECTIONS_INPUTS,
    .n_outputs = SELECT_DETECTIONS_OUTPUTS,
    .input_names = {"logits", "deltas", "rois", "info"},
    .output_names = {"boxes", "det_rois", "scores", "labels", "count", "counts"},
    .parts = {"scores", "nms", "best"},
    .input_types = {DTYPE_F32, DTYPE_F32, DTYPE_F32, DTYPE_I32},
    .shares_gradient = -1,
    .params_size = sizeof(select_detections_params),
    .attrs = select_detections_attrs,
    .infer = select_detections_infer,
    .validate = select_detections_validate,
    .cost = select_detections_cost,
    .reference_f32 = &select_detections_reference_f32,
    .reference_f64 = &select_detections_reference_f64,
    .cpu = &select_detections_by_class,
    .atol = 1e-4, /* pixels */
    .rtol = 1e-5,
    .cases = select_detections_cases,
    .n_cases = sizeof select_detections_cases / sizeof select_detections_cases[0],
    .bench_cases = select_detections_bench,
    .n_bench_cases = sizeof select_detections_bench / sizeof select_detections_bench[0],
};

select_detections_result select_detections(struct tape *t, tensor *const in[SELECT_DETECTIONS_INPUTS],
                                           const select_detections_params *params) {
    tensor *out[SELECT_DETECTIONS_OUTPUTS];
    tape_apply(t, &select_detections_op, params, in, out);
    return (select_detections_result){.boxes = out[SELECT_DETECTIONS_BOXES],
                                      .det_rois = out[SELECT_DETECTIONS_DET_ROIS],
                                      .scores = out[SELECT_DETECTIONS_SCORES],
                                      .labels = out[SELECT_DETECTIONS_LABELS],
                                      .count = out[SELECT_DETECTIONS_COUNT],
                                      .counts = out[SELECT_DETECTIONS_COUNTS]};
}
