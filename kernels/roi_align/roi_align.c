#include "roi_align/roi_align.h"

#include "autograd/op_cost.h"
#include "autograd/tape.h"
#include "case_boxes.h"
#include "roi_check.h"
#include "roi_grid.h"
#include "roi_cost.h"

#include <math.h>

static status roi_align_infer(op_call *call) {
    const roi_align_params *p = call->params;
    RETURN_IF_ERROR(roi_check_params(call, p->output_size, p->sampling_ratio));
    if (!(p->spatial_scale > 0 && isfinite(p->spatial_scale)))
        return op_bad_attr(call, "spatial_scale", "positive");
    RETURN_IF_ERROR(op_expect_rank(call, ROI_ALIGN_X, 4));
    RETURN_IF_ERROR(roi_check_shape(call, ROI_ALIGN_ROIS));
    const tensor *x = call->in[ROI_ALIGN_X], *rois = call->in[ROI_ALIGN_ROIS];
    op_describe_output(call, 0, x->type, 4,
                       (int64_t[]){rois->shape[0], p->output_size, p->output_size, x->shape[3]}, rois->rows);
    return STATUS_OK;
}

static status roi_align_validate(const op_call *call) {
    return roi_check_values(call, ROI_ALIGN_ROIS, call->in[ROI_ALIGN_X]->shape[0]);
}

static const op_attr roi_align_attrs[] = {
    {.name = "output_size",
     .type = ATTR_INT,
     .offset = offsetof(roi_align_params, output_size),
     .required = true},
    {.name = "spatial_scale",
     .type = ATTR_FLOAT,
     .offset = offsetof(roi_align_params, spatial_scale),
     .required = true},
    {.name = "sampling_ratio", .type = ATTR_INT, .offset = offsetof(roi_align_params, sampling_ratio)},
    {.name = "aligned", .type = ATTR_BOOL, .offset = offsetof(roi_align_params, aligned)},
    {.name = NULL},
};

static const roi_align_params
    fixed = {.output_size = 7, .spatial_scale = 0.25, .sampling_ratio = 2},
    fixed_aligned = {.output_size = 3, .spatial_scale = 0.25, .sampling_ratio = 3, .aligned = true},
    adaptive = {.output_size = 5, .spatial_scale = 0.25},
    adaptive_aligned = {.output_size = 7, .spatial_scale = 0.25, .aligned = true},
    many_bins = {.output_size = 33, .spatial_scale = 0.5, .sampling_ratio = 1},
    whole_pixels = {.output_size = 2, .spatial_scale = 1},
    one_bin = {.output_size = 1, .spatial_scale = 0.5, .sampling_ratio = 1, .aligned = true};

/* Images by turns; corners as filled, x2 = x1 + 3..43, y2 = y1 + 3..83. */
static void regions(const op_call *call) {
    tensor *rois = call->in[ROI_ALIGN_ROIS];
    int64_t images = call->in[ROI_ALIGN_X]->shape[0];
    for (int64_t r = 0; r < rois->shape[0]; r++) {
        tensor_set(rois, 5 * r, (double)((r * 5 + 1) % 7 % images));
        for (int k = 1; k < 3; k++) {
            double low = tensor_get(rois, 5 * r + k),
                   size = 3 + fabs(tensor_get(rois, 5 * r + k + 2)) / (k == 1 ? 2 : 1);
            tensor_set(rois, 5 * r + k + 2, low + size);
        }
    }
}

/* Only every 40th lies on the map. */
static void few_on_the_map(const op_call *call) {
    tensor *rois = call->in[ROI_ALIGN_ROIS];
    regions(call);
    for (int64_t i = 0; i < tensor_count(rois); i++)
        if (i / 5 % 40 != 7 && i % 5 != 0) tensor_set(rois, i, tensor_get(rois, i) + 500);
}

/* No area, reversed corners, off the map on each side, far larger than the map, on its border. */
static void odd_regions(const op_call *call) {
    static const double odd[][4] = {
        {8, 8, 8, 8},      {20, 5, 20, 30},    {5, 20, 30, 20},        {30, 30, 10, 12},
        {40, 6, 12, 30},   {-90, 4, -50, 30},  {300, 4, 350, 30},      {4, -90, 30, -60},
        {4, 200, 30, 260}, {-40, -30, 90, 80}, {-900, -700, 950, 800}, {0, 0, 47.5, 35.5},
        {-4, -4, 0, 0},    {-3.9, 5, 3, 36},   {46, 34, 60, 50},       {0.25, 0.25, 0.5, 0.5}};
    tensor *rois = call->in[ROI_ALIGN_ROIS];
    for (int64_t r = 0; r < rois->shape[0]; r++) {
        tensor_set(rois, 5 * r, (double)(r % call->in[ROI_ALIGN_X]->shape[0]));
        for (int k = 0; k < 4; k++) tensor_set(rois, 5 * r + 1 + k, odd[r % 16][k]);
    }
}

#define MAPS(n, h, w, c) OP_IN(NORMAL, 0, 1, n, h, w, c)
#define REGIONS(r) OP_IN(UNIFORM, -5, 40, r, 5)

static const op_case roi_align_cases[] = {
    {.name = "fixed", .params = &fixed, .in = {MAPS(2, 13, 11, 5), REGIONS(9)}, .prepare = regions},
    {.name = "fixed_aligned",
     .params = &fixed_aligned,
     .in = {MAPS(3, 9, 14, 3), REGIONS(6)},
     .prepare = regions},
    {.name = "adaptive", .params = &adaptive, .in = {MAPS(1, 20, 16, 4), REGIONS(7)}, .prepare = regions},
    {.name = "adaptive_aligned",
     .params = &adaptive_aligned,
     .in = {MAPS(2, 40, 19, 2), REGIONS(7)},
     .prepare = regions},
    {.name = "channel_tail", .params = &fixed, .in = {MAPS(1, 12, 12, 83), REGIONS(4)}, .prepare = regions},
    {.name = "channel_blocks",
     .params = &adaptive,
     .in = {MAPS(1, 37, 9, 264), REGIONS(5)},
     .prepare = regions},
    {.name = "long_bins", .params = &whole_pixels, .in = {MAPS(1, 88, 6, 3), REGIONS(3)}, .prepare = regions},
    {.name = "many_bins", .params = &many_bins, .in = {MAPS(1, 14, 9, 1), REGIONS(2)}, .prepare = regions},
    {.name = "many_regions",
     .params = &one_bin,
     .in = {MAPS(1, 3, 5, 1), REGIONS(1100)},
     .prepare = few_on_the_map},
    {.name = "odd_regions", .params = &fixed, .in = {MAPS(2, 9, 12, 3), REGIONS(16)}, .prepare = odd_regions},
    {.name = "odd_regions_aligned",
     .params = &fixed_aligned,
     .in = {MAPS(1, 9, 12, 3), REGIONS(16)},
     .prepare = odd_regions},
    {.name = "odd_regions_adaptive",
     .params = &adaptive,
     .in = {MAPS(1, 9, 12, 3), REGIONS(16)},
     .prepare = odd_regions},
    {.name = "odd_regions_adaptive_aligned",
     .params = &adaptive_aligned,
     .in = {MAPS(1, 9, 12, 3), REGIONS(16)},
     .prepare = odd_regions},
    {.name = "counted",
     .params = &fixed,
     .in = {MAPS(1, 9, 8, 4), REGIONS(6)},
     .prepare = regions,
     .valid_rows = 4,
     .rows_inputs = 1u << ROI_ALIGN_ROIS},
    {.name = "none_valid",
     .params = &fixed,
     .in = {MAPS(1, 9, 8, 4), REGIONS(3)},
     .prepare = regions,
     .valid_rows = -1,
     .rows_inputs = 1u << ROI_ALIGN_ROIS},
    {.name = "no_regions", .params = &fixed, .in = {MAPS(1, 4, 5, 3), REGIONS(0)}},
    {.name = "no_images", .params = &fixed, .in = {MAPS(0, 4, 5, 3), REGIONS(0)}},
    {.name = "one_pixel", .params = &one_bin, .in = {MAPS(1, 1, 1, 1), REGIONS(3)}, .prepare = regions},
};

static void roi_align_cost(op_cost *cost, const op_call *call, bool backward) {
    const roi_align_params *p = call->params;
    roi_cost_of_align(cost, call, backward, ROI_ALIGN_ROIS, p->sampling_ratio);
}

static const roi_align_params grid = {.output_size = 7, .spatial_scale = 1, .sampling_ratio = 2},
                              mask_head = {.output_size = 14, .spatial_scale = 0.25, .sampling_ratio = 2};

static void spread_regions(const op_call *call) {
    const tensor *x = call->in[ROI_ALIGN_X];
    case_boxes_regions(call->in[ROI_ALIGN_ROIS], x->shape[0], 4.0 * (double)x->shape[2],
                       4.0 * (double)x->shape[1]);
}

static const op_case roi_align_bench[] = {
    {.name = "box_head_512_on_p2",
     .params = &fixed,
     .in = {MAPS(1, 200, 336, 256), OP_IN(UNIFORM, 0, 1, 512, 5)},
     .prepare = spread_regions},
    {.name = "mask_head_128_on_p2",
     .params = &mask_head,
     .in = {MAPS(1, 200, 336, 256), OP_IN(UNIFORM, 0, 1, 128, 5)},
     .prepare = spread_regions},
    ROI_GRID(&grid),
};

const op_def roi_align_op = {
    .name = "roi_align",
    .n_inputs = 2,
    .n_outputs = 1,
    .input_names = {"x", "rois"},
    .output_names = {"y"},
    .input_types = {DTYPE_F32, DTYPE_F32},
    .half_inputs = 1u << ROI_ALIGN_X,
    .differentiable = 1u << ROI_ALIGN_X,
    .backward_reads_inputs = 1u << ROI_ALIGN_ROIS,
    .shares_gradient = -1,
    .params_size = sizeof(roi_align_params),
    .attrs = roi_align_attrs,
    .infer = roi_align_infer,
    .validate = roi_align_validate,
    .cost = roi_align_cost,
    .reference_f32 = &roi_align_reference_f32,
    .reference_f64 = &roi_align_reference_f64,
    .cpu = &roi_align_bands,
    .atol = 1e-4, /* places of samples are rounded to 1e-5 of a pixel */
    .rtol = 1e-5,
    .cases = roi_align_cases,
    .n_cases = sizeof roi_align_cases / sizeof roi_align_cases[0],
    .bench_cases = roi_align_bench,
    .n_bench_cases = sizeof roi_align_bench / sizeof roi_align_bench[0],
};

tensor *roi_align(struct tape *t, tensor *x, tensor *rois, const roi_align_params *params) {
    tensor *y;
    tape_apply(t, &roi_align_op, params, (tensor *[]){x, rois}, &y);
    return y;
}
