#include "image_pack/image_pack.h"

#include "autograd/op_cost.h"
#include "autograd/tape.h"

#include <math.h>
#include <string.h>

_Static_assert(sizeof(image_pack_record) == IMAGE_PACK_RECORD_INTS * sizeof(int32_t),
               "a record is a row of the table");

int64_t image_pack_count(const op_call *call) {
    return call->in[IMAGE_PACK_TABLE] ? call->in[IMAGE_PACK_TABLE]->shape[0] : 1;
}

image_pack_record image_pack_record_of(const op_call *call, int64_t n) {
    const image_pack_params *p = call->params;
    const tensor *image = call->in[IMAGE_PACK_IMAGE], *table = call->in[IMAGE_PACK_TABLE];
    image_pack_record record;
    if (!table)
        return (image_pack_record){.height = (int32_t)image->shape[0],
                                   .width = (int32_t)image->shape[1],
                                   .resized_height = p->height,
                                   .resized_width = p->width,
                                   .flip = p->flip};
    memcpy(&record, tensor_i32(table) + n * IMAGE_PACK_RECORD_INTS, sizeof record);
    return record;
}

static status check_numbers(const op_call *call) {
    const image_pack_params *p = call->params;
    for (int c = 0; c < 3; c++) {
        if (!isfinite(p->mean[c])) return op_bad_attr(call, "mean", "three finite numbers");
        if (!isfinite(p->std[c]) || p->std[c] == 0)
            return op_bad_attr(call, "std", "three finite numbers that are not 0");
        if (p->order[c] != 0 && p->order[c] != 1 && p->order[c] != 2)
            return op_bad_attr(call, "order", "RGB, BGR or three of the channels 0, 1, 2");
    }
    return STATUS_OK;
}

static status infer_batch(op_call *call) {
    const image_pack_params *p = call->params;
    RETURN_IF_ERROR(op_expect_rank(call, IMAGE_PACK_IMAGE, 1));
    RETURN_IF_ERROR(op_expect_rank(call, IMAGE_PACK_TABLE, 2));
    RETURN_IF_ERROR(op_expect_dim(call, IMAGE_PACK_TABLE, 1, IMAGE_PACK_RECORD_INTS, "one record per image"));
    if (p->canvas_height < 1 || p->canvas_height > IMAGE_PACK_MAX_SIDE)
        return op_bad_attr(call, "canvas_height", "1 to 65536");
    if (p->canvas_width < 1 || p->canvas_width > IMAGE_PACK_MAX_SIDE)
        return op_bad_attr(call, "canvas_width", "1 to 65536");
    int64_t shape[4] = {call->in[IMAGE_PACK_TABLE]->shape[0], p->canvas_height, p->canvas_width, 3};
    op_describe_output(call, 0, call->storage, 4, shape, NULL);
    return STATUS_OK;
}

static status image_pack_infer(op_call *call) {
    const image_pack_params *p = call->params;
    const tensor *image = call->in[IMAGE_PACK_IMAGE];
    RETURN_IF_ERROR(check_numbers(call));
    if (call->in[IMAGE_PACK_TABLE]) return infer_batch(call);
    RETURN_IF_ERROR(op_expect_rank(call, IMAGE_PACK_IMAGE, 3));
    RETURN_IF_ERROR(op_expect_dim(call, IMAGE_PACK_IMAGE, 2, 3, "red, green and blue"));
    for (int axis = 0; axis < 2; axis++)
        if (image->shape[axis] < 1 || image->shape[axis] > IMAGE_PACK_MAX_SIDE)
            return error_set(STATUS_DATA, "give an image of at least one pixel",
                             "image_pack: tensor image: %lld x %lld pixels; sides go from 1 to %d",
                             (long long)image->shape[1], (long long)image->shape[0], IMAGE_PACK_MAX_SIDE);
    if (p->height < 1 || p->height > IMAGE_PACK_MAX_SIDE) return op_bad_attr(call, "height", "1 to 65536");
    if (p->width < 1 || p->width > IMAGE_PACK_MAX_SIDE) return op_bad_attr(call, "width", "1 to 65536");
    op_describe_output(call, 0, call->storage, 3, (int64_t[]){p->height, p->width, 3}, NULL);
    return STATUS_OK;
}

static status image_pack_validate(const op_call *call) {
    const image_pack_params *p = call->params;
    if (!call->in[IMAGE_PACK_TABLE]) return STATUS_OK;
    int64_t bytes = call->in[IMAGE_PACK_IMAGE]->shape[0];
    for (int64_t n = 0; n < image_pack_count(call); n++) {
        image_pack_record r = image_pack_record_of(call, n);
        bool good = r.offset >= 0 && r.height >= 1 && r.width >= 1 && r.height <= IMAGE_PACK_MAX_SIDE &&
                    r.width <= IMAGE_PACK_MAX_SIDE && r.resized_height >= 1 && r.resized_width >= 1 &&
                    r.resized_height <= p->canvas_height && r.resized_width <= p->canvas_width &&
                    (r.flip == 0 || r.flip == 1) &&
                    (int64_t)r.offset * IMAGE_PACK_ALIGNMENT + (int64_t)r.height * r.width * 3 <= bytes;
        if (!good)
            return error_set(
                STATUS_DATA,
                "correct the table: offset/64, height, width, resized height and width, flip, 0, 0",
                "image_pack: tensor table: row %lld does not fit %lld bytes of images and a canvas of %d x "
                "%d",
                (long long)n, (long long)bytes, p->canvas_height, p->canvas_width);
    }
    return STATUS_OK;
}

static const op_attr image_pack_attrs[] = {
    {.name = "height", .type = ATTR_INT, .offset = offsetof(image_pack_params, height), .required = true},
    {.name = "width", .type = ATTR_INT, .offset = offsetof(image_pack_params, width), .required = true},
    {.name = "flip", .type = ATTR_BOOL, .offset = offsetof(image_pack_params, flip)},
    {.name = "mean",
     .type = ATTR_FLOAT_LIST,
     .offset = offsetof(image_pack_params, mean),
     .count = 3,
     .required = true},
    {.name = "std",
     .type = ATTR_FLOAT_LIST,
     .offset = offsetof(image_pack_params, std),
     .count = 3,
     .required = true},
    {.name = "order",
     .type = ATTR_FLOAT_LIST,
     .offset = offsetof(image_pack_params, order),
     .count = 3,
     .required = true},
    {.name = "antialias", .type = ATTR_BOOL, .offset = offsetof(image_pack_params, antialias)},
    {.name = "canvas_height", .type = ATTR_INT, .offset = offsetof(image_pack_params, canvas_height)},
    {.name = "canvas_width", .type = ATTR_INT, .offset = offsetof(image_pack_params, canvas_width)},
    {.name = NULL},
};

#define BGR_MEANS .mean = {103.53, 116.28, 123.675}, .std = {1, 1, 1}, .order = {2, 1, 0}
#define RGB_MEANS .mean = {123.675, 116.28, 103.53}, .std = {58.395, 57.12, 57.375}, .order = {0, 1, 2}
#define IMAGE(...) OP_IN(INTEGER, 0, 256, __VA_ARGS__)

static const image_pack_params
    same_size = {.height = 7, .width = 9, RGB_MEANS},
    larger = {.height = 40, .width = 67, .flip = true, BGR_MEANS},
    smaller = {.height = 11, .width = 5, RGB_MEANS},
    to_one = {.height = 1, .width = 1, .flip = true, BGR_MEANS},
    pillow_larger = {.height = 70, .width = 67, .antialias = true, BGR_MEANS},
    pillow_smaller = {.height = 9, .width = 4, .flip = true, .antialias = true, RGB_MEANS},
    batch = {.canvas_height = 48, .canvas_width = 40, RGB_MEANS},
    pillow_batch = {.canvas_height = 48, .canvas_width = 40, .antialias = true, BGR_MEANS};

static void prepare_batch(const op_call *call) {
    static const image_pack_record records[3] = {
        {.offset = 0, .height = 20, .width = 13, .resized_height = 48, .resized_width = 31},
        {.offset = 13, .height = 33, .width = 40, .resized_height = 17, .resized_width = 40, .flip = 1},
        {.offset = 76, .height = 1, .width = 2, .resized_height = 1, .resized_width = 1, .flip = 1}};
    memcpy(call->in[IMAGE_PACK_TABLE]->data, records, sizeof records);
}

static const op_case image_pack_cases[] = {
    {.name = "same_size", .params = &same_size, .in = {IMAGE(7, 9, 3)}},
    {.name = "larger_and_flipped", .params = &larger, .in = {IMAGE(19, 33, 3)}},
    {.name = "smaller", .params = &smaller, .in = {IMAGE(37, 23, 3)}},
    {.name = "one_pixel_from_many", .params = &to_one, .in = {IMAGE(37, 23, 3)}},
    {.name = "many_from_one_pixel", .params = &larger, .in = {IMAGE(1, 1, 3)}},
    {.name = "pillow_larger", .params = &pillow_larger, .in = {IMAGE(19, 33, 3)}},
    {.name = "pillow_smaller_and_flipped", .params = &pillow_smaller, .in = {IMAGE(41, 35, 3)}},
    {.name = "batch",
     .params = &batch,
     .in = {IMAGE(4870), OP_IN(INTEGER, 0, 1, 3, 8)},
     .prepare = prepare_batch},
    {.name = "pillow_batch",
     .params = &pillow_batch,
     .in = {IMAGE(4870), OP_IN(INTEGER, 0, 1, 3, 8)},
     .prepare = prepare_batch},
    {.name = "no_images", .params = &batch, .in = {IMAGE(0), OP_IN(INTEGER, 0, 1, 0, 8)}},
};

static void image_pack_cost(op_cost *cost, const op_call *call, bool backward) {
    (void)backward;
    cost->flops = 9 * op_cost_elements(call->out[0]); /* between four pixels, then mean and deviation */
}

#define LANDSCAPE .height = 800, .width = 1066, BGR_MEANS
static const image_pack_params training = {LANDSCAPE}, training_pillow = {LANDSCAPE, .antialias = true};

static const op_case image_pack_bench[] = {
    {.name = "480x640_to_800x1066", .params = &training, .in = {IMAGE(480, 640, 3)}},
    {.name = "480x640_to_800x1066_pillow", .params = &training_pillow, .in = {IMAGE(480, 640, 3)}},
    {.name = "1500x2000_to_800x1066", .params = &training, .in = {IMAGE(1500, 2000, 3)}},
    {.name = "1500x2000_to_800x1066_pillow", .params = &training_pillow, .in = {IMAGE(1500, 2000, 3)}},
};

const op_def image_pack_op = {
    .name = "image_pack",
    .n_inputs = 2,
    .n_outputs = 1,
    .input_names = {"image", "table"},
    .output_names = {"y"},
    .input_types = {DTYPE_U8, DTYPE_I32},
    .makes_half = true,
    .optional_inputs = 1u << IMAGE_PACK_TABLE,
    .shares_gradient = -1,
    .params_size = sizeof(image_pack_params),
    .attrs = image_pack_attrs,
    .infer = image_pack_infer,
    .validate = image_pack_validate,
    .cost = image_pack_cost,
    .reference_f32 = &image_pack_reference_f32,
    .reference_f64 = &image_pack_reference_f64,
    .cpu = &image_pack_tiled,
    .atol = 1e-4, /* f32 of values up to 255, against double */
    .rtol = 1e-6,
    .cases = image_pack_cases,
    .n_cases = sizeof image_pack_cases / sizeof image_pack_cases[0],
    .bench_cases = image_pack_bench,
    .n_bench_cases = sizeof image_pack_bench / sizeof image_pack_bench[0],
};

tensor *image_pack(struct tape *t, tensor *image, tensor *table, const image_pack_params *params) {
    tensor *y;
    tape_apply(t, &image_pack_op, params, (tensor *[]){image, table}, &y);
    return y;
}
