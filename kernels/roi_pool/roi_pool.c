#include "roi_pool/roi_pool.h"

#include "autograd/op_cost.h"
#include "autograd/tape.h"
#include "roi_check.h"
#include "roi_grid.h"

#include <math.h>

static status roi_pool_infer(op_call *call) {
    const roi_pool_params *p = call->params;
    RETURN_IF_ERROR(roi_check_params(call, p->output_size, 0));
    if (!(p->spatial_scale > 0 && isfinite(p->spatial_scale)))
        return op_bad_attr(call, "spatial_scale", "positive");
    RETURN_IF_ERROR(op_expect_rank(call, ROI_POOL_X, 4));
    RETURN_IF_ERROR(roi_check_shape(call, ROI_POOL_ROIS));
    const tensor *x = call->in[ROI_POOL_X], *rois = call->in[ROI_POOL_ROIS];
    op_describe_output(call, 0, x->type, 4,
                       (int64_t[]){rois->shape[0], p->output_size, p->output_size, x->shape[3]}, rois->rows);
    return STATUS_OK;
}

static status roi_pool_validate(const op_call *call) {
    return roi_check_values(call, ROI_POOL_ROIS, call->in[ROI_POOL_X]->shape[0]);
}

static const op_attr roi_pool_attrs[] = {
    {.name = "output_size",
     .type = ATTR_INT,
     .offset = offsetof(roi_pool_params, output_size),
     .required = true},
    {.name = "spatial_scale",
     .type = ATTR_FLOAT,
     .offset = offsetof(roi_pool_params, spatial_scale),
     .required = true},
    {.name = NULL},
};

static const roi_pool_params seven = {.output_size = 7, .spatial_scale = 0.25},
                             two = {.output_size = 2, .spatial_scale = 0.5},
                             many = {.output_size = 33, .spatial_scale = 1},
                             one = {.output_size = 1, .spatial_scale = 1};

/* Images by turns, quarter pixels (so that halves are rounded), also reversed and off the map. */
static void regions(const op_call *call) {
    tensor *rois = call->in[ROI_POOL_ROIS];
    for (int64_t r = 0; r < rois->shape[0]; r++) {
        tensor_set(rois, 5 * r, (double)((r * 5 + 1) % 7 % call->in[ROI_POOL_X]->shape[0]));
        for (int k = 1; k < 5; k++)
            tensor_set(rois, 5 * r + k,
                       round(4 * tensor_get(rois, 5 * r + k)) / 4 + (k > 2 && r % 4 ? 20 : 0));
        if (r % 5 == 4) tensor_set(rois, 5 * r + 1, 500);
    }
}

/* All pixels equal: the first of a bin takes the gradient. */
static void flat(const op_call *call) {
    regions(call);
    for (int64_t i = 0; i < tensor_count(call->in[ROI_POOL_X]); i++) tensor_set(call->in[ROI_POOL_X], i, -1);
}

#define MAPS(n, h, w, c) OP_IN(NORMAL, 0, 1, n, h, w, c)
#define REGIONS(r) OP_IN(UNIFORM, -10, 45, r, 5)

static const op_case roi_pool_cases[] = {
    {.name = "seven", .params = &seven, .in = {MAPS(2, 13, 11, 5), REGIONS(12)}, .prepare = regions},
    {.name = "channel_tail", .params = &two, .in = {MAPS(1, 9, 17, 37), REGIONS(5)}, .prepare = regions},
    {.name = "many_bins", .params = &many, .in = {MAPS(1, 17, 33, 1), REGIONS(3)}, .prepare = regions},
    {.name = "ties", .params = &two, .in = {MAPS(1, 9, 17, 3), REGIONS(5)}, .prepare = flat, .kinks = true},
    {.name = "channel_blocks",
     .params = &seven,
     .in = {MAPS(3, 14, 10, 131), REGIONS(12)},
     .prepare = regions},
    {.name = "many_ties",
     .params = &two,
     .in = {OP_IN(INTEGER, 0, 3, 2, 15, 14, 70), REGIONS(16)},
     .prepare = regions,
     .kinks = true},
    {.name = "counted",
     .params = &two,
     .in = {MAPS(3, 9, 7, 2), REGIONS(5)},
     .prepare = regions,
     .valid_rows = 3,
     .rows_inputs = 1u << ROI_POOL_ROIS},
    {.name = "no_regions", .params = &two, .in = {MAPS(2, 4, 5, 3), REGIONS(0)}},
    {.name = "no_images", .params = &two, .in = {MAPS(0, 4, 5, 3), REGIONS(0)}},
    {.name = "one_pixel", .params = &one, .in = {MAPS(1, 1, 1, 1), REGIONS(4)}, .prepare = regions},
};

/* What shapes tell: a bin has one pixel at least. Regions off the map read less, large ones more. */
static void roi_pool_cost(op_cost *cost, const op_call *call, bool backward) {
    double map = op_cost_bytes(call->in[ROI_POOL_X]), bins = op_cost_bytes(call->out[0]);
    cost->flops = backward ? 0 : op_cost_elements(call->out[0]);
    if (bins < map) cost->read_bytes -= map - bins;
}

static const roi_pool_params grid = {.output_size = 7, .spatial_scale = 1};

static const op_case roi_pool_bench[] = {ROI_GRID(&grid)};

const op_def roi_pool_op = {
    .name = "roi_pool",
    .n_inputs = 2,
    .n_outputs = 1,
    .input_names = {"x", "rois"},
    .output_names = {"y"},
    .input_types = {DTYPE_F32, DTYPE_F32},
    .half_inputs = 1u << ROI_POOL_X,
    .differentiable = 1u << ROI_POOL_X,
    .backward_reads_inputs = 1u << ROI_POOL_X | 1u << ROI_POOL_ROIS,
    .shares_gradient = -1,
    .params_size = sizeof(roi_pool_params),
    .attrs = roi_pool_attrs,
    .infer = roi_pool_infer,
    .validate = roi_pool_validate,
    .cost = roi_pool_cost,
    .reference_f32 = &roi_pool_reference_f32,
    .reference_f64 = &roi_pool_reference_f64,
    .cpu = &roi_pool_rows,
    .atol = 1e-5, /* a pixel may be the largest of many bins */
    .rtol = 1e-6,
    .cases = roi_pool_cases,
    .n_cases = sizeof roi_pool_cases / sizeof roi_pool_cases[0],
    .bench_cases = roi_pool_bench,
    .n_bench_cases = sizeof roi_pool_bench / sizeof roi_pool_bench[0],
};

tensor *roi_pool(struct tape *t, tensor *x, tensor *rois, const roi_pool_params *params) {
    tensor *y;
    tape_apply(t, &roi_pool_op, params, (tensor *[]){x, rois}, &y);
    return y;
}
