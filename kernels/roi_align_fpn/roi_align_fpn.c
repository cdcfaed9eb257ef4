#include "roi_align_fpn/roi_align_fpn.h"

#include "autograd/op_cost.h"
#include "autograd/tape.h"
#include "case_boxes.h"
#include "roi_bins.h"
#include "roi_check.h"
#include "roi_cost.h"

#include <math.h>

static status roi_align_fpn_infer(op_call *call) {
    const roi_align_fpn_params *p = call->params;
    RETURN_IF_ERROR(roi_check_params(call, p->output_size, p->sampling_ratio));
    if (!(p->level_eps >= 0 && p->level_eps < 1)) return op_bad_attr(call, "level_eps", "from 0 to 1");
    for (int i = 0; i < ROI_LEVELS; i++) {
        RETURN_IF_ERROR(op_expect_rank(call, i, 4));
        RETURN_IF_ERROR(op_expect_dims_equal(call, i, 0, ROI_ALIGN_FPN_P2, 0));
        RETURN_IF_ERROR(op_expect_dims_equal(call, i, 3, ROI_ALIGN_FPN_P2, 3));
    }
    RETURN_IF_ERROR(roi_check_shape(call, ROI_ALIGN_FPN_ROIS));
    const tensor *p2 = call->in[ROI_ALIGN_FPN_P2], *rois = call->in[ROI_ALIGN_FPN_ROIS];
    op_describe_output(call, 0, p2->type, 4,
                       (int64_t[]){rois->shape[0], p->output_size, p->output_size, p2->shape[3]}, rois->rows);
    return STATUS_OK;
}

static status roi_align_fpn_validate(const op_call *call) {
    return roi_check_values(call, ROI_ALIGN_FPN_ROIS, call->in[ROI_ALIGN_FPN_P2]->shape[0]);
}

static const op_attr roi_align_fpn_attrs[] = {
    {.name = "output_size",
     .type = ATTR_INT,
     .offset = offsetof(roi_align_fpn_params, output_size),
     .required = true},
    {.name = "sampling_ratio", .type = ATTR_INT, .offset = offsetof(roi_align_fpn_params, sampling_ratio)},
    {.name = "aligned", .type = ATTR_BOOL, .offset = offsetof(roi_align_fpn_params, aligned)},
    {.name = "level_eps",
     .type = ATTR_FLOAT,
     .offset = offsetof(roi_align_fpn_params, level_eps),
     .fallback = 1e-6},
    {.name = NULL},
};

static const roi_align_fpn_params fixed = {.output_size = 7, .sampling_ratio = 2, .level_eps = 1e-6},
                                  adaptive = {.output_size = 4, .aligned = true, .level_eps = 1e-8};

/* Sizes of 8 to 900 pixels around the map, so that every level is used and some regions leave the image. */
static void all_levels(const op_call *call) {
    tensor *rois = call->in[ROI_ALIGN_FPN_ROIS];
    for (int64_t r = 0; r < rois->shape[0]; r++) {
        double size = 8 * pow(2, (double)(r % 8)) * (1 + tensor_get(rois, 5 * r) / 200);
        tensor_set(rois, 5 * r, (double)(r * 3 % 5 % call->in[0]->shape[0]));
        tensor_set(rois, 5 * r + 3, tensor_get(rois, 5 * r + 1) + size);
        tensor_set(rois, 5 * r + 4, tensor_get(rois, 5 * r + 2) + size * (r % 3 == 0 ? 1.5 : 0.75));
    }
}

/* Areas on the borders between levels, none, and with one or both sides reversed. */
static void level_borders(const op_call *call) {
    static const double sizes[][2] = {{112, 112},   {224, 224},   {448, 448}, {111.5, 112},
                                      {223.5, 224}, {447.5, 448}, {56, 224},  {0, 50},
                                      {50, 0},      {0, 0},       {-40, 30},  {-230, -230}};
    tensor *rois = call->in[ROI_ALIGN_FPN_ROIS];
    for (int64_t r = 0; r < rois->shape[0]; r++) {
        tensor_set(rois, 5 * r, 0);
        for (int k = 0; k < 2; k++)
            tensor_set(rois, 5 * r + 3 + k, tensor_get(rois, 5 * r + 1 + k) + sizes[r % 12][k]);
    }
}

#define PYRAMID(n, c)                                                                                        \
    OP_IN(NORMAL, 0, 1, n, 33, 26, c), OP_IN(NORMAL, 0, 1, n, 17, 13, c), OP_IN(NORMAL, 0, 1, n, 9, 7, c),   \
        OP_IN(NORMAL, 0, 1, n, 5, 4, c)

static const op_case roi_align_fpn_cases[] = {
    {.name = "all_levels",
     .params = &fixed,
     .in = {PYRAMID(2, 5), OP_IN(UNIFORM, -20, 100, 16, 5)},
     .prepare = all_levels},
    {.name = "all_levels_adaptive",
     .params = &adaptive,
     .in = {PYRAMID(1, 8), OP_IN(UNIFORM, -20, 100, 9, 5)},
     .prepare = all_levels},
    {.name = "channel_blocks",
     .params = &fixed,
     .in = {PYRAMID(1, 131), OP_IN(UNIFORM, -20, 100, 8, 5)},
     .prepare = all_levels},
    {.name = "level_borders",
     .params = &fixed,
     .in = {PYRAMID(1, 2), OP_IN(INTEGER, -20, 60, 12, 5)},
     .prepare = level_borders},
    {.name = "one_level_used",
     .params = &fixed,
     .in = {PYRAMID(3, 2), OP_IN(UNIFORM, 0, 50, 1, 5)},
     .prepare = all_levels},
    {.name = "counted",
     .params = &fixed,
     .in = {PYRAMID(1, 2), OP_IN(UNIFORM, 0, 50, 6, 5)},
     .prepare = all_levels,
     .valid_rows = 5,
     .rows_inputs = 1u << ROI_ALIGN_FPN_ROIS},
    {.name = "no_regions", .params = &fixed, .in = {PYRAMID(1, 2), OP_IN(UNIFORM, 0, 50, 0, 5)}},
};

static void roi_align_fpn_cost(op_cost *cost, const op_call *call, bool backward) {
    const roi_align_fpn_params *p = call->params;
    roi_cost_of_align(cost, call, backward, ROI_ALIGN_FPN_ROIS, p->sampling_ratio);
}

static const roi_align_fpn_params mask_head = {.output_size = 14, .sampling_ratio = 2, .level_eps = 1e-6};

static void spread(const op_call *call) {
    const tensor *p2 = call->in[ROI_ALIGN_FPN_P2];
    case_boxes_regions(call->in[ROI_ALIGN_FPN_ROIS], p2->shape[0], 4.0 * (double)p2->shape[2],
                       4.0 * (double)p2->shape[1]);
}

#define TRAINING_PYRAMID                                                                                     \
    OP_IN(NORMAL, 0, 1, 1, 200, 336, 256), OP_IN(NORMAL, 0, 1, 1, 100, 168, 256),                            \
        OP_IN(NORMAL, 0, 1, 1, 50, 84, 256), OP_IN(NORMAL, 0, 1, 1, 25, 42, 256)

static const op_case roi_align_fpn_bench[] = {
    {.name = "box_head_512_rois",
     .params = &fixed,
     .in = {TRAINING_PYRAMID, OP_IN(UNIFORM, 0, 1, 512, 5)},
     .prepare = spread},
    {.name = "mask_head_128_rois",
     .params = &mask_head,
     .in = {TRAINING_PYRAMID, OP_IN(UNIFORM, 0, 1, 128, 5)},
     .prepare = spread},
    {.name = "box_head_1000_rois",
     .params = &fixed,
     .in = {TRAINING_PYRAMID, OP_IN(UNIFORM, 0, 1, 1000, 5)},
     .prepare = spread},
};

const op_def roi_align_fpn_op = {
    .name = "roi_align_fpn",
    .n_inputs = 5,
    .n_outputs = 1,
    .input_names = {"p2", "p3", "p4", "p5", "rois"},
    .output_names = {"y"},
    .input_types = {DTYPE_F32, DTYPE_F32, DTYPE_F32, DTYPE_F32, DTYPE_F32},
    .half_inputs =
        1u << ROI_ALIGN_FPN_P2 | 1u << ROI_ALIGN_FPN_P3 | 1u << ROI_ALIGN_FPN_P4 | 1u << ROI_ALIGN_FPN_P5,
    .differentiable = (1u << ROI_LEVELS) - 1,
    .backward_reads_inputs = 1u << ROI_ALIGN_FPN_ROIS,
    .shares_gradient = -1,
    .params_size = sizeof(roi_align_fpn_params),
    .attrs = roi_align_fpn_attrs,
    .infer = roi_align_fpn_infer,
    .validate = roi_align_fpn_validate,
    .cost = roi_align_fpn_cost,
    .reference_f32 = &roi_align_fpn_reference_f32,
    .reference_f64 = &roi_align_fpn_reference_f64,
    .cpu = &roi_align_fpn_bands,
    .atol = 1e-4, /* places of samples are rounded to 1e-5 of a pixel */
    .rtol = 1e-5,
    .cases = roi_align_fpn_cases,
    .n_cases = sizeof roi_align_fpn_cases / sizeof roi_align_fpn_cases[0],
    .bench_cases = roi_align_fpn_bench,
    .n_bench_cases = sizeof roi_align_fpn_bench / sizeof roi_align_fpn_bench[0],
};

tensor *roi_align_fpn(struct tape *t, tensor *const in[5], const roi_align_fpn_params *params) {
    tensor *y;
    tape_apply(t, &roi_align_fpn_op, params, in, &y);
    return y;
}
