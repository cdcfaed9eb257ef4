#include "mask_paste/mask_paste.h"

#include "autograd/tape.h"
#include "case_boxes.h"
#include "image_info.h"
#include "roi_check.h"

#include <math.h>

static status mask_paste_infer(op_call *call) {
    const mask_paste_params *p = call->params;
    if (p->rule != MASK_PASTE_GRID_SAMPLE && p->rule != MASK_PASTE_RESIZE)
        return op_bad_attr(call, "rule", "0 (sampled grid) or 1 (resized)");
    if (!(p->threshold > 0 && p->threshold <= 1)) return op_bad_attr(call, "threshold", "above 0, at most 1");
    if (p->capacity < 1 || p->capacity > 1 << 30) return op_bad_attr(call, "capacity", "from 1 to 2^30");
    RETURN_IF_ERROR(op_expect_rank(call, MASK_PASTE_PROBS, 3));
    int64_t masks = call->in[MASK_PASTE_PROBS]->shape[0], side = call->in[MASK_PASTE_PROBS]->shape[1];
    if (side < 1 || side > MASK_PASTE_MAX_SIDE)
        return error_set(STATUS_DATA, "give maps with sides of 1 to 1024",
                         "mask_paste: tensor probs has maps with a side of %lld", (long long)side);
    RETURN_IF_ERROR(op_expect_dim(call, MASK_PASTE_PROBS, 2, side, "maps are square"));
    RETURN_IF_ERROR(op_expect_rank(call, MASK_PASTE_BOXES, 2));
    RETURN_IF_ERROR(op_expect_dims_equal(call, MASK_PASTE_BOXES, 0, MASK_PASTE_PROBS, 0));
    RETURN_IF_ERROR(op_expect_dim(call, MASK_PASTE_BOXES, 1, 4, "x1 y1 x2 y2"));
    RETURN_IF_ERROR(roi_check_shape(call, MASK_PASTE_ROIS));
    RETURN_IF_ERROR(op_expect_dims_equal(call, MASK_PASTE_ROIS, 0, MASK_PASTE_PROBS, 0));
    RETURN_IF_ERROR(op_expect_rank(call, MASK_PASTE_INFO, 2));
    RETURN_IF_ERROR(op_expect_dim(call, MASK_PASTE_INFO, 1, IMAGE_INFO_INTS, "image_info"));
    const tensor *rows = call->in[MASK_PASTE_PROBS]->rows;
    op_describe_output(call, MASK_PASTE_RUNS, DTYPE_I32, 2, (int64_t[]){masks, p->capacity}, rows);
    op_describe_output(call, MASK_PASTE_COUNTS, DTYPE_I32, 1, (int64_t[]){masks}, rows);
    return STATUS_OK;
}

static status mask_paste_validate(const op_call *call) {
    const tensor *info = call->in[MASK_PASTE_INFO];
    for (int64_t n = 0; n < info->shape[0]; n++) {
        const image_info *i = (const image_info *)info->data + n;
        if (i->original_height < 1 || i->original_width < 1 ||
            i->original_height > INT32_MAX / i->original_width)
            return error_set(STATUS_DATA, "give sizes of at least 1, and less than 2^31 pixels",
                             "mask_paste: tensor info: image %lld of %d x %d pixels", (long long)n,
                             i->original_height, i->original_width);
    }
    return roi_check_values(call, MASK_PASTE_ROIS, info->shape[0]);
}

static const op_attr mask_paste_attrs[] = {
    {.name = "rule", .type = ATTR_INT, .offset = offsetof(mask_paste_params, rule), .required = true},
    {.name = "threshold",
     .type = ATTR_FLOAT,
     .offset = offsetof(mask_paste_params, threshold),
     .fallback = 0.5},
    {.name = "capacity", .type = ATTR_INT, .offset = offsetof(mask_paste_params, capacity), .required = true},
    {.name = NULL},
};

/* Sizes of the images of the cases: 61 x 90, 40 x 33, 25 x 120; the capacity suffices for S = 28 in all. */
enum { ENOUGH = 29 * 120 + 1 };

static const mask_paste_params grid = {MASK_PASTE_GRID_SAMPLE, 0.5, ENOUGH},
                               resize = {MASK_PASTE_RESIZE, 0.5, ENOUGH},
                               low_grid = {MASK_PASTE_GRID_SAMPLE, 0.1, ENOUGH},
                               low_resize = {MASK_PASTE_RESIZE, 0.1, ENOUGH},
                               no_room = {MASK_PASTE_GRID_SAMPLE, 0.5, 3},
                               no_room_resize = {MASK_PASTE_RESIZE, 0.5, 40};

static void set_images(const op_call *call) {
    static const int32_t sizes[3][2] = {{61, 90}, {40, 33}, {25, 120}};
    image_info *info = call->in[MASK_PASTE_INFO]->data;
    int64_t images = call->in[MASK_PASTE_INFO]->shape[0];
    for (int64_t n = 0; n < images; n++)
        info[n] = (image_info){.original_height = sizes[n % 3][0],
                               .original_width = sizes[n % 3][1],
                               .height = 100,
                               .width = 100};
    for (int64_t m = 0; m < call->in[MASK_PASTE_ROIS]->shape[0]; m++)
        tensor_set(call->in[MASK_PASTE_ROIS], 5 * m, (double)(m % images));
}

/* Corners on sixteenths of a pixel: partly off the image, and smaller than the map. */
static void place(const op_call *call) {
    set_images(call);
    tensor *boxes = call->in[MASK_PASTE_BOXES];
    for (int64_t m = 0; m < boxes->shape[0]; m++)
        for (int k = 0; k < 2; k++) {
            double low = floor(16 * (tensor_get(boxes, 4 * m + k) * 60 - 10)) / 16;
            tensor_set(boxes, 4 * m + k, low);
            tensor_set(boxes, 4 * m + 2 + k,
                       low + floor(16 * tensor_get(boxes, 4 * m + 2 + k) * 55) / 16 + 0.0625);
        }
}

/* An image much wider than high, boxes that reach beyond its top and foot: stretches go on from one column to the next. */
static void wide_image(const op_call *call) {
    place(call);
    image_info *info = call->in[MASK_PASTE_INFO]->data;
    *info = (image_info){.original_height = 20, .original_width = 600, .height = 100, .width = 100};
    for (int64_t m = 0; m < call->in[MASK_PASTE_BOXES]->shape[0]; m++)
        for (int k = 0; k < 4; k++) {
            static const double corners[2][4] = {{-3.5, -40, 590.25, 60}, {7.0625, -9, 700, 31.5}};
            tensor_set(call->in[MASK_PASTE_BOXES], 4 * m + k, corners[m % 2][k]);
        }
}

/* No area, part of a pixel, slivers, all of the image and much more, off the image, turned round, not finite. */
static void odd_boxes(const op_call *call) {
    const double inf = (double)INFINITY, nan = (double)NAN;
    const double odd[][4] = {{20.25, 10.5, 20.25, 10.5},
                             {20.25, 10.5, 20.25, 30},
                             {20.1875, 10.3125, 20.8125, 10.9375},
                             {7.125, 3.0625, 7.6875, 24.25},
                             {0, 0, 90, 61},
                             {-1000.5, -700.25, 1203.0625, 800},
                             {200, 300, 240, 350},
                             {-50, -60, -8.5, -9.25},
                             {30, 30, 20, 10},
                             {nan, 3, 20, 20},
                             {3, 3, inf, 20},
                             {-3e9, -3e9, 3e9, 3e9},
                             {-1.0625, -1.125, 1.5, 1.8125},
                             {88.0625, 59.5, 91.1875, 62.25},
                             {-1e9, -1e9, 1e9, 1e9}};
    set_images(call);
    for (int64_t m = 0; m < call->in[MASK_PASTE_BOXES]->shape[0]; m++)
        for (int k = 0; k < 4; k++) tensor_set(call->in[MASK_PASTE_BOXES], 4 * m + k, odd[m % 15][k]);
}

/* Everything; nothing; one row; not finite here and there. */
static void odd_maps(const op_call *call) {
    tensor *probs = call->in[MASK_PASTE_PROBS];
    int64_t side = probs->shape[1];
    place(call);
    for (int64_t i = 0; i < tensor_count(probs); i++) {
        int64_t m = i / (side * side) % 5, y = i / side % side;
        if (m < 3) tensor_set(probs, i, m == 0 || (m == 2 && y == side / 2) ? 1 : 0);
        if (m >= 3 && i % 13 == 0)
            tensor_set(probs, i, m == 3 ? (double)NAN : i % 2 ? (double)INFINITY : -(double)INFINITY);
    }
}

#define MASKS(m, side, n)                                                                                    \
    {                                                                                                        \
        OP_IN(UNIFORM, 0, 1, m, side, side), OP_IN(UNIFORM, 0, 1, m, 4), OP_IN(CONSTANT, 0, 0, m, 5),        \
            OP_IN(CONSTANT, 0, 0, n, IMAGE_INFO_INTS)                                                        \
    }

static const op_case mask_paste_cases[] = {
    {.name = "grid", .params = &grid, .in = MASKS(20, 28, 3), .prepare = place},
    {.name = "resize", .params = &resize, .in = MASKS(20, 28, 3), .prepare = place},
    {.name = "grid_coarse", .params = &grid, .in = MASKS(20, 5, 2), .prepare = place},
    {.name = "resize_coarse", .params = &resize, .in = MASKS(20, 5, 2), .prepare = place},
    {.name = "one_cell", .params = &grid, .in = MASKS(12, 1, 1), .prepare = place},
    {.name = "one_cell_resized", .params = &resize, .in = MASKS(12, 1, 1), .prepare = place},
    {.name = "odd_boxes", .params = &grid, .in = MASKS(15, 14, 1), .prepare = odd_boxes},
    {.name = "odd_boxes_resized", .params = &resize, .in = MASKS(15, 14, 1), .prepare = odd_boxes},
    {.name = "odd_maps", .params = &grid, .in = MASKS(15, 7, 2), .prepare = odd_maps},
    {.name = "odd_maps_resized", .params = &resize, .in = MASKS(15, 7, 2), .prepare = odd_maps},
    {.name = "wide_image", .params = &low_grid, .in = MASKS(4, 3, 1), .prepare = wide_image},
    {.name = "wide_image_resized", .params = &resize, .in = MASKS(4, 3, 1), .prepare = wide_image},
    {.name = "low_threshold", .params = &low_grid, .in = MASKS(15, 14, 1), .prepare = odd_boxes},
    {.name = "low_threshold_resized", .params = &low_resize, .in = MASKS(12, 9, 2), .prepare = place},
    {.name = "no_room", .params = &no_room, .in = MASKS(20, 3, 2), .prepare = place},
    {.name = "little_room", .params = &no_room_resize, .in = MASKS(20, 3, 2), .prepare = place},
    {.name = "counted", .params = &grid, .in = MASKS(5, 28, 1), .prepare = place, .valid_rows = 3},
    {.name = "no_valid_rows",
     .params = &grid,
     .in = MASKS(5, 28, 1),
     .prepare = place,
     .valid_rows = -1,
     .rows_inputs = 1u << MASK_PASTE_PROBS | 1u << MASK_PASTE_BOXES | 1u << MASK_PASTE_ROIS},
    {.name = "no_masks", .params = &grid, .in = MASKS(0, 28, 1), .prepare = set_images},
};

static const mask_paste_params grid_of_800x1333 = {MASK_PASTE_GRID_SAMPLE, 0.5, 29 * 1333 + 1},
                               resize_of_800x1333 = {MASK_PASTE_RESIZE, 0.5, 29 * 1333 + 1};

static void place_on_800x1333(const op_call *call) {
    *(image_info *)call->in[MASK_PASTE_INFO]->data =
        (image_info){.original_height = 800, .original_width = 1333, .height = 800, .width = 1333};
    case_boxes_spread(call->in[MASK_PASTE_BOXES], 0, 1333, 800);
}

static const op_case mask_paste_bench[] = {
    {.name = "100_masks_on_800x1333",
     .params = &grid_of_800x1333,
     .in = MASKS(100, 28, 1),
     .prepare = place_on_800x1333},
    {.name = "100_masks_on_800x1333_resized",
     .params = &resize_of_800x1333,
     .in = MASKS(100, 28, 1),
     .prepare = place_on_800x1333},
};

const op_def mask_paste_op = {
    .name = "mask_paste",
    .n_inputs = MASK_PASTE_INPUTS,
    .n_outputs = MASK_PASTE_OUTPUTS,
    .input_names = {"probs", "boxes", "rois", "info"},
    .output_names = {"runs", "counts"},
    .input_types = {DTYPE_F32, DTYPE_F32, DTYPE_F32, DTYPE_I32},
    .shares_gradient = -1,
    .params_size = sizeof(mask_paste_params),
    .attrs = mask_paste_attrs,
    .infer = mask_paste_infer,
    .validate = mask_paste_validate,
    .reference_f32 = &mask_paste_reference_f32,
    .reference_f64 = &mask_paste_reference_f64,
    .cpu = &mask_paste_by_column,
    .cases = mask_paste_cases,
    .n_cases = sizeof mask_paste_cases / sizeof mask_paste_cases[0],
    .bench_cases = mask_paste_bench,
    .n_bench_cases = sizeof mask_paste_bench / sizeof mask_paste_bench[0],
};

mask_paste_result mask_paste(struct tape *t, tensor *const in[MASK_PASTE_INPUTS],
                             const mask_paste_params *params) {
    tensor *out[MASK_PASTE_OUTPUTS];
    tape_apply(t, &mask_paste_op, params, in, out);
    return (mask_paste_result){.runs = out[MASK_PASTE_RUNS], .counts = out[MASK_PASTE_COUNTS]};
}
