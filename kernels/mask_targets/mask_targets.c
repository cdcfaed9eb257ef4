#include "mask_targets/mask_targets.h"

#include "autograd/tape.h"
#include "base/check.h"
#include "data/gt_masks.h"
#include "image_info.h"

#include <math.h>

static status mask_targets_infer(op_call *call) {
    const mask_targets_params *p = call->params;
    enum { MAX_CANVAS = 1 << 15 };
    if (p->resolution < 1 || p->resolution > 1024) return op_bad_attr(call, "resolution", "from 1 to 1024");
    if (p->canvas_height < 1 || p->canvas_height > MAX_CANVAS || p->canvas_width < 1 ||
        p->canvas_width > MAX_CANVAS)
        return op_bad_attr(call, "canvas_height", "and canvas_width from 1 to 32768");
    RETURN_IF_ERROR(op_expect_rank(call, MASK_TARGETS_ROIS, 2));
    RETURN_IF_ERROR(op_expect_dim(call, MASK_TARGETS_ROIS, 1, 5, "image, x1, y1, x2, y2"));
    RETURN_IF_ERROR(op_expect_rank(call, MASK_TARGETS_GT, 1));
    RETURN_IF_ERROR(op_expect_dims_equal(call, MASK_TARGETS_GT, 0, MASK_TARGETS_ROIS, 0));
    RETURN_IF_ERROR(op_expect_rank(call, MASK_TARGETS_RECORDS, 3));
    RETURN_IF_ERROR(op_expect_dim(call, MASK_TARGETS_RECORDS, 2, GT_MASK_RECORD_INTS, "gt_mask_record"));
    RETURN_IF_ERROR(op_expect_rank(call, MASK_TARGETS_BLOB, 1));
    RETURN_IF_ERROR(op_expect_rank(call, MASK_TARGETS_INFO, 2));
    RETURN_IF_ERROR(op_expect_dims_equal(call, MASK_TARGETS_INFO, 0, MASK_TARGETS_RECORDS, 0));
    RETURN_IF_ERROR(op_expect_dim(call, MASK_TARGETS_INFO, 1, IMAGE_INFO_INTS, "image_info"));
    const tensor *rois = call->in[MASK_TARGETS_ROIS];
    op_describe_output(call, 0, op_real_type(call), 3,
                       (int64_t[]){rois->shape[0], p->resolution, p->resolution}, rois->rows);
    return STATUS_OK;
}

#define CANVAS .canvas_height = 96, .canvas_width = 128

static const mask_targets_params polygons = {CANVAS, .resolution = 28},
                                 bitmaps = {CANVAS, .resolution = 28, .bitmaps = true},
                                 soft = {CANVAS, .resolution = 28, .soft = true},
                                 fine = {CANVAS, .resolution = 430}, /* bits of a frame: more than 40 KiB */
    coarse = {CANVAS, .resolution = 5, .soft = true};

/* Original 100 x 80. A triangle; two squares that overlap, and one far off; bitmap crops of stripes and of a
 * disc. */
static void pack(const op_call *call) {
    static const float triangle[] = {10.25f, 8.5f, 70.f, 20.f, 33.3f, 75.1f};
    static const float squares[] = {20, 20, 60, 20, 60, 60,  20,  60,  40,  40,  80,
                                    40, 80, 70, 40, 70, -50, -50, -20, -50, -20, -20};
    static const int32_t triangle_points[] = {3}, square_points[] = {4, 4, 3};
    gt_mask_writer writer = {.blob = call->in[MASK_TARGETS_BLOB]->data,
                             .capacity = (size_t)call->in[MASK_TARGETS_BLOB]->shape[0]};
    gt_mask_record *records = call->in[MASK_TARGETS_RECORDS]->data;
    for (int64_t i = 0; i < call->in[MASK_TARGETS_RECORDS]->shape[0] * 4; i++) {
        uint8_t *rows;
        status s = STATUS_OK;
        if (i % 4 == 0) s = gt_mask_pack_polygon(&records[i], &writer, triangle, triangle_points, 1);
        if (i % 4 == 1) s = gt_mask_pack_polygon(&records[i], &writer, squares, square_points, 3);
        if (i % 4 >= 2) {
            s = gt_mask_pack_bitmap(&records[i], &writer, 9, 11, 61, 47, &rows);
            for (int y = 0; y < 47; y++)
                for (int x = 0; x < 61; x++)
                    if (i % 4 == 2 ? (x / 3 + y / 5) % 2 : (x - 30) * (x - 30) + (y - 23) * (y - 23) < 500)
                        rows[y * 8 + x / 8] |= (uint8_t)(1 << x % 8);
        }
        CHECK(s == STATUS_OK, "a case's masks do not fit");
    }
}

/* Image 0 as it is, 1 enlarged and mirrored, 2 shrunk, 3 shrunk and mirrored. RoIs with corners of eighths of
 * a pixel. */
static void images(const op_call *call) {
    static const int32_t sizes[4][2] = {{80, 100}, {96, 120}, {41, 67}, {53, 31}};
    image_info *info = call->in[MASK_TARGETS_INFO]->data;
    tensor *rois = call->in[MASK_TARGETS_ROIS];
    int64_t n_images = call->in[MASK_TARGETS_INFO]->shape[0];
    for (int64_t n = 0; n < n_images; n++)
        info[n] = (image_info){.original_height = 80,
                               .original_width = 100,
                               .height = sizes[n % 4][0],
                               .width = sizes[n % 4][1],
                               .flip = (int32_t)(n % 2)};
    pack(call);
    for (int64_t m = 0; m < rois->shape[0]; m++) {
        int64_t image = m % n_images;
        tensor_set(rois, 5 * m, (double)image);
        tensor_i32(call->in[MASK_TARGETS_GT])[m] = (int32_t)(image * 4 + m / n_images % 4);
        for (int k = 0; k < 2; k++) {
            double limit = k ? info[image].height : info[image].width,
                   low = tensor_get(rois, 5 * m + 1 + k) * 0.3 * limit;
            double high = low + 4 + tensor_get(rois, 5 * m + 3 + k) * limit;
            tensor_set(rois, 5 * m + 1 + k, floor(8 * low) / 8);
            tensor_set(rois, 5 * m + 3 + k, floor(8 * (high < limit ? high : limit)) / 8);
        }
    }
}

/* All objects are stars of more points than a block of threads has. */
static void long_outlines(const op_call *call) {
    enum { POINTS = 601 };
    images(call);
    gt_mask_writer writer = {.blob = call->in[MASK_TARGETS_BLOB]->data,
                             .capacity = (size_t)call->in[MASK_TARGETS_BLOB]->shape[0]};
    gt_mask_record *records = call->in[MASK_TARGETS_RECORDS]->data;
    for (int64_t i = 0; i < call->in[MASK_TARGETS_RECORDS]->shape[0] * 4; i++) {
        float xy[2 * POINTS];
        int32_t points = POINTS;
        for (int k = 0; k < POINTS; k++) {
            double turn = 2 * 3.14159265358979 * k / POINTS, radius = 25 + 5 * (double)(i % 4) + k * k % 11;
            xy[2 * k] = (float)(50 + radius * cos(turn));
            xy[2 * k + 1] = (float)(40 + radius * sin(turn));
        }
        status s = gt_mask_pack_polygon(&records[i], &writer, xy, &points, 1);
        CHECK(s == STATUS_OK, "a case's masks do not fit");
    }
}

/* No area, a sliver, all of the image, off the object. */
static void odd_rois(const op_call *call) {
    static const double odd[5][4] = {{30, 30, 30, 30},
                                     {30.25, 10, 30.3125, 70},
                                     {0, 0, 100, 80},
                                     {92, 70, 100, 80},
                                     {99.5, 79.5, 100, 80}};
    images(call);
    for (int64_t m = 0; m < call->in[MASK_TARGETS_ROIS]->shape[0]; m++)
        for (int k = 0; k < 4; k++) tensor_set(call->in[MASK_TARGETS_ROIS], 5 * m + 1 + k, odd[m % 5][k]);
}

#define ROIS(m, n) ROIS_OF(m, n, 4096)
#define ROIS_OF(m, n, bytes)                                                                                 \
    {                                                                                                        \
        OP_IN(UNIFORM, 0, 1, m, 5), OP_IN(CONSTANT, 0, 0, m),                                                \
            OP_IN(CONSTANT, 0, 0, n, 4, GT_MASK_RECORD_INTS), OP_IN(CONSTANT, 0, 0, bytes),                  \
            OP_IN(CONSTANT, 0, 0, n, IMAGE_INFO_INTS)                                                        \
    }

static const op_case mask_targets_cases[] = {
    {.name = "polygons", .params = &polygons, .in = ROIS(24, 4), .prepare = images},
    {.name = "bitmaps", .params = &bitmaps, .in = ROIS(24, 4), .prepare = images},
    {.name = "soft", .params = &soft, .in = ROIS(24, 4), .prepare = images},
    {.name = "soft_coarse", .params = &coarse, .in = ROIS(9, 3), .prepare = images},
    {.name = "odd_rois", .params = &polygons, .in = ROIS(20, 1), .prepare = odd_rois},
    {.name = "odd_rois_bitmaps", .params = &bitmaps, .in = ROIS(20, 1), .prepare = odd_rois},
    {.name = "odd_rois_soft", .params = &soft, .in = ROIS(20, 1), .prepare = odd_rois},
    {.name = "long_outlines", .params = &polygons, .in = ROIS_OF(6, 1, 20000), .prepare = long_outlines},
    {.name = "long_outlines_bitmaps",
     .params = &bitmaps,
     .in = ROIS_OF(6, 2, 40000),
     .prepare = long_outlines},
    {.name = "long_outlines_soft", .params = &soft, .in = ROIS_OF(8, 4, 80000), .prepare = long_outlines},
    {.name = "fine", .params = &fine, .in = ROIS(3, 1), .prepare = images},
    {.name = "counted",
     .params = &polygons,
     .in = ROIS(7, 2),
     .prepare = images,
     .valid_rows = 5,
     .rows_inputs = 1u << MASK_TARGETS_ROIS | 1u << MASK_TARGETS_GT},
    {.name = "no_objects",
     .params = &polygons,
     .in = ROIS(3, 1),
     .prepare = images,
     .valid_rows = -1,
     .rows_inputs = 1u << MASK_TARGETS_ROIS | 1u << MASK_TARGETS_GT},
    {.name = "no_rois", .params = &soft, .in = ROIS(0, 2)},
};

static const op_case mask_targets_bench[] = {
    {.name = "polygons_128_rois", .params = &polygons, .in = ROIS(128, 2), .prepare = images},
    {.name = "long_outlines_128_rois",
     .params = &polygons,
     .in = ROIS_OF(128, 2, 40000),
     .prepare = long_outlines},
    {.name = "bitmaps_128_rois", .params = &bitmaps, .in = ROIS(128, 2), .prepare = images},
};

const op_def mask_targets_op = {
    .name = "mask_targets",
    .n_inputs = MASK_TARGETS_INPUTS,
    .n_outputs = 1,
    .input_names = {"rois", "gt", "records", "blob", "info"},
    .output_names = {"targets"},
    .input_types = {DTYPE_F32, DTYPE_I32, DTYPE_I32, DTYPE_U8, DTYPE_I32},
    .shares_gradient = -1,
    .params_size = sizeof(mask_targets_params),
    .infer = mask_targets_infer,
    .reference_f32 = &mask_targets_reference_f32,
    .reference_f64 = &mask_targets_reference_f64,
    .cpu = &mask_targets_reference_f32,
    .atol = 1e-4, /* places of samples are rounded to 1e-5 of a pixel */
    .rtol = 1e-5,
    .cases = mask_targets_cases,
    .n_cases = sizeof mask_targets_cases / sizeof mask_targets_cases[0],
    .bench_cases = mask_targets_bench,
    .n_bench_cases = sizeof mask_targets_bench / sizeof mask_targets_bench[0],
};

tensor *mask_targets(struct tape *t, tensor *const in[MASK_TARGETS_INPUTS],
                     const mask_targets_params *params) {
    tensor *targets;
    tape_apply(t, &mask_targets_op, params, in, &targets);
    return targets;
}
