#include "conv2d/conv2d.h"

#include "autograd/op_cost.h"
#include "autograd/tape.h"
#include "conv_shape.h"

static status check_attrs(const op_call *call) {
    const conv2d_params *p = call->params;
    if (p->stride < 1 || p->stride > CONV_MAX_STEP) return op_bad_attr(call, "stride", "1 to 32768");
    if (p->pad < 0 || p->pad > CONV_MAX_STEP) return op_bad_attr(call, "pad", "0 to 32768");
    if (p->dilation < 1 || p->dilation > CONV_MAX_STEP) return op_bad_attr(call, "dilation", "1 to 32768");
    if (p->live_pixels < 0) return op_bad_attr(call, "live_pixels", "at least 0");
    return STATUS_OK;
}

static status conv2d_infer(op_call *call) {
    RETURN_IF_ERROR(check_attrs(call));
    RETURN_IF_ERROR(op_expect_rank(call, CONV2D_X, 4));
    RETURN_IF_ERROR(op_expect_rank(call, CONV2D_WEIGHT, 4));
    RETURN_IF_ERROR(op_expect_dims_equal(call, CONV2D_WEIGHT, 3, CONV2D_X, 3));
    const conv2d_params *p = call->params;
    const tensor *x = call->in[CONV2D_X], *weight = call->in[CONV2D_WEIGHT];
    int64_t shape[4] = {x->shape[0], 0, 0, weight->shape[0]};
    for (int axis = 1; axis <= 2; axis++) {
        int64_t size = x->shape[axis] + 2 * p->pad, taps = weight->shape[axis], reach;
        if (taps < 1) return op_expect_dim(call, CONV2D_WEIGHT, axis, 1, "at least 1");
        if (__builtin_mul_overflow(taps - 1, p->dilation, &reach) || reach >= size)
            return error_set(STATUS_DATA, "use a smaller kernel or more padding",
                             "%s: tensor weight (%lld taps in dimension %d) is larger than tensor x with its "
                             "padding (%lld)",
                             call->op->name, (long long)taps, axis, (long long)size);
        shape[axis] = (size - 1 - reach) / p->stride + 1;
    }
    if (!conv_size_fits(shape[0], shape[1], shape[2], shape[3]))
        return error_set(STATUS_DATA, "use smaller tensors or less padding",
                         "%s: tensor y would have more than 2^40 elements", call->op->name);
    if (call->in[CONV2D_BIAS]) {
        RETURN_IF_ERROR(op_expect_rank(call, CONV2D_BIAS, 1));
        RETURN_IF_ERROR(op_expect_dims_equal(call, CONV2D_BIAS, 0, CONV2D_WEIGHT, 0));
    }
    if (call->in[CONV2D_RESIDUAL]) {
        RETURN_IF_ERROR(op_expect_rank(call, CONV2D_RESIDUAL, 4));
        RETURN_IF_ERROR(op_expect_dims_equal(call, CONV2D_RESIDUAL, 0, CONV2D_X, 0));
        for (int axis = 1; axis <= 2; axis++)
            RETURN_IF_ERROR(op_expect_dim(call, CONV2D_RESIDUAL, axis, shape[axis],
                                          "the shape of y, from tensor x and tensor weight"));
        RETURN_IF_ERROR(op_expect_dims_equal(call, CONV2D_RESIDUAL, 3, CONV2D_WEIGHT, 0));
    }
    op_describe_output(call, 0, p->f32_output ? op_real_type(call) : x->type, 4, shape, x->rows);
    return STATUS_OK;
}

static bool has_no_relu(const op_call *call) {
    return !((const conv2d_params *)call->params)->relu;
}

static const op_attr conv2d_attrs[] = {
    {.name = "stride", .type = ATTR_INT, .offset = offsetof(conv2d_params, stride), .fallback = 1},
    {.name = "pad", .type = ATTR_INT, .offset = offsetof(conv2d_params, pad), .fallback = 0},
    {.name = "dilation", .type = ATTR_INT, .offset = offsetof(conv2d_params, dilation), .fallback = 1},
    {.name = "relu", .type = ATTR_BOOL, .offset = offsetof(conv2d_params, relu)},
    {.name = "live_pixels", .type = ATTR_INT, .offset = offsetof(conv2d_params, live_pixels), .fallback = 0},
    {.name = NULL},
};

static const conv2d_params plain = {.stride = 1, .pad = 0, .dilation = 1},
                           same = {.stride = 1, .pad = 1, .dilation = 1},
                           same_relu = {.stride = 1, .pad = 1, .dilation = 1, .relu = true},
                           half = {.stride = 2, .pad = 0, .dilation = 1},
                           half_relu = {.stride = 2, .pad = 1, .dilation = 1, .relu = true},
                           stem = {.stride = 2, .pad = 3, .dilation = 1, .relu = true},
                           dilated = {.stride = 1, .pad = 2, .dilation = 2, .relu = true},
                           far = {.stride = 1, .pad = 3, .dilation = 1},
                           third = {.stride = 3, .pad = 1, .dilation = 1},
                           dilated_half = {.stride = 2, .pad = 2, .dilation = 3},
                           scores = {.stride = 1, .dilation = 1, .f32_output = true};

static const conv2d_params
    all_live = {.stride = 1, .pad = 1, .dilation = 1, .live_pixels = 1000},
    live_scores = {.stride = 1, .dilation = 1, .f32_output = true, .live_pixels = 30},
    seven_live = {.stride = 1, .pad = 1, .dilation = 1, .relu = true, .live_pixels = 7},
    six_live_half = {.stride = 2, .pad = 2, .dilation = 3, .relu = true, .live_pixels = 6};

#define X(...) OP_IN(NORMAL, 0, 1, __VA_ARGS__)

/* The residual keeps y at 0, where the ReLU stops all gradients, but for these pixels in each image. */
static void open_pixels(const op_call *call, const int64_t *pixels, int n) {
    tensor *residual = call->in[CONV2D_RESIDUAL];
    int64_t size = residual->shape[1] * residual->shape[2], k = residual->shape[3];
    for (int64_t i = 0; i < tensor_count(residual); i++) {
        bool open = false;
        for (int j = 0; j < n; j++) open = open || i / k % size == pixels[j];
        if (!open) tensor_set(residual, i, -100);
    }
}

/* Of a map of 6 x 5: a corner, and two that are neighbours. */
static void open_few(const op_call *call) {
    open_pixels(call, (int64_t[]){0, 16, 17}, 3);
}

static void open_none(const op_call *call) {
    open_pixels(call, NULL, 0);
}

/* Of a map of 2 x 3: the middle of an edge and a corner. */
static void open_two(const op_call *call) {
    open_pixels(call, (int64_t[]){1, 5}, 2);
}

static const op_case conv2d_cases[] = {
    {.name = "odd_tails", .params = &same, .in = {X(2, 5, 7, 3), X(5, 3, 3, 3), X(5)}},
    {.name = "relu", .params = &same_relu, .in = {X(1, 6, 5, 9), X(19, 3, 3, 9), X(19)}},
    {.name = "kernel_not_square", .params = &same, .in = {X(1, 6, 5, 4), X(3, 3, 2, 4)}},
    {.name = "kernel_flat", .params = &plain, .in = {X(2, 4, 9, 2), X(7, 1, 5, 2), X(7)}},
    {.name = "stride_2_odd", .params = &half_relu, .in = {X(1, 7, 9, 4), X(6, 3, 3, 4), X(6)}},
    {.name = "stride_2_even", .params = &half_relu, .in = {X(2, 8, 6, 5), X(3, 3, 3, 5), X(3)}},
    {.name = "stride_2_pointwise", .params = &half, .in = {X(2, 5, 6, 3), X(5, 1, 1, 3)}},
    {.name = "stride_beyond_kernel", .params = &third, .in = {X(1, 8, 10, 3), X(4, 2, 2, 3), X(4)}},
    {.name = "pointwise", .params = &plain, .in = {X(1, 3, 5, 19), X(70, 1, 1, 19), X(70)}},
    {.name = "dilation_2", .params = &dilated, .in = {X(1, 7, 6, 4), X(5, 3, 3, 4), X(5)}},
    {.name = "dilation_3_stride_2", .params = &dilated_half, .in = {X(1, 9, 8, 2), X(3, 3, 2, 2), X(3)}},
    {.name = "outputs_on_padding_only", .params = &far, .in = {X(1, 3, 2, 3), X(4, 2, 1, 3), X(4)}},
    {.name = "stem", .params = &stem, .in = {X(1, 13, 15, 3), X(8, 7, 7, 3), X(8)}},
    {.name = "residual_relu",
     .params = &same_relu,
     .in = {X(1, 4, 5, 6), X(9, 3, 3, 6), X(9), X(1, 4, 5, 9)}},
    {.name = "residual_stride_2",
     .params = &half_relu,
     .in = {X(1, 6, 7, 3), X(4, 3, 3, 3), {.present = false}, X(1, 3, 4, 4)}},
    {.name = "residual_without_relu",
     .params = &plain,
     .in = {X(3, 2, 2, 6), X(5, 1, 1, 6), X(5), X(3, 2, 2, 5)}},
    {.name = "no_images", .params = &same_relu, .in = {X(0, 4, 5, 6), X(3, 3, 3, 6), X(3)}},
    {.name = "some_rows",
     .params = &same_relu,
     .in = {X(5, 4, 3, 6), X(7, 3, 3, 6), X(7), X(5, 4, 3, 7)},
     .valid_rows = 3,
     .rows_inputs = 1u << CONV2D_X | 1u << CONV2D_RESIDUAL},
    {.name = "no_rows", .params = &half, .in = {X(2, 3, 3, 6), X(7, 1, 1, 6), X(7)}, .valid_rows = -1},
    {.name = "deep",
     .params = &plain,
     .in = {X(1, 2, 5, 1300), OP_IN(NORMAL, 0, 0.05, 9, 1, 1, 1300), X(9), X(1, 2, 5, 9)}},
    {.name = "deep_taps",
     .params = &same_relu,
     .in = {X(1, 3, 3, 300), OP_IN(NORMAL, 0, 0.05, 5, 3, 3, 300), X(5)}},
    {.name = "one_element", .params = &plain, .in = {X(1, 1, 1, 1), X(1, 1, 1, 1), X(1)}},
    {.name = "many_pixels", .params = &same_relu, .in = {X(1, 23, 29, 8), X(17, 3, 3, 8), X(17)}},
    {.name = "many_channels",
     .params = &same,
     .in = {X(1, 3, 4, 130), OP_IN(NORMAL, 0, 0.1, 140, 3, 3, 130), X(140)}},
    {.name = "whole_vectors",
     .params = &half_relu,
     .in = {X(2, 5, 6, 16), X(24, 3, 3, 16), X(24), X(2, 3, 3, 24)}},
    {.name = "f32_scores", .params = &scores, .in = {X(2, 3, 5, 16), X(3, 1, 1, 16), X(3)}},
    {.name = "single_outputs", .params = &plain, .in = {X(9, 1, 1, 33), X(1, 1, 1, 33)}},
    {.name = "few_live",
     .params = &seven_live,
     .in = {X(2, 6, 5, 6), X(9, 3, 3, 6), X(9), X(2, 6, 5, 9)},
     .prepare = open_few},
    {.name = "few_live_whole_vectors",
     .params = &seven_live,
     .in = {X(2, 6, 5, 16), OP_IN(NORMAL, 0, 0.3, 8, 3, 3, 16), X(8), X(2, 6, 5, 8)},
     .prepare = open_few},
    {.name = "few_live_of_some_rows",
     .params = &seven_live,
     .in = {X(4, 6, 5, 6), X(7, 3, 3, 6), X(7), X(4, 6, 5, 7)},
     .prepare = open_few,
     .valid_rows = 2,
     .rows_inputs = 1u << CONV2D_X | 1u << CONV2D_RESIDUAL},
    {.name = "few_live_stride_2_dilation_3",
     .params = &six_live_half,
     .in = {X(3, 5, 5, 3), X(4, 3, 2, 3), X(4), X(3, 2, 3, 4)},
     .prepare = open_two},
    {.name = "none_live",
     .params = &seven_live,
     .in = {X(1, 6, 5, 3), X(4, 3, 3, 3), X(4), X(1, 6, 5, 4)},
     .prepare = open_none},
    {.name = "all_live", .params = &all_live, .in = {X(2, 5, 7, 3), X(70, 3, 3, 3), X(70)}},
    {.name = "all_live_without_images", .params = &all_live, .in = {X(0, 5, 7, 3), X(5, 3, 3, 3), X(5)}},
    {.name = "all_live_without_rows",
     .params = &all_live,
     .in = {X(2, 2, 3, 3), X(5, 3, 3, 3), X(5)},
     .valid_rows = -1},
    {.name = "live_scores", .params = &live_scores, .in = {X(2, 3, 5, 16), X(3, 1, 1, 16), X(3)}},
    {.name = "live_in_slices", .params = &all_live, .in = {X(1, 17, 13, 5), X(3, 1, 2, 5), X(3)}},
};

static void conv2d_cost(op_cost *cost, const op_call *call, bool backward) {
    const conv2d_params *p = call->params;
    double weight = op_cost_elements(call->in[CONV2D_WEIGHT]),
           outputs = (double)call->in[CONV2D_WEIGHT]->shape[0];
    double pixels = outputs > 0 ? op_cost_elements(call->out[0]) / outputs : 0;
    if (backward && p->live_pixels && p->live_pixels < pixels) pixels = p->live_pixels;
    cost->flops = op_cost_of_product(call, backward, 2 * weight * pixels);
}

static const conv2d_params bottleneck = {.stride = 1, .dilation = 1, .relu = true},
                           bottleneck_half = {.stride = 2, .dilation = 1, .relu = true};

/* h, w, c, k, kernel */
#define LAYER(h, w, c, k, r)                                                                                 \
    { X(1, h, w, c), X(k, r, r, c), X(k) }

static const op_case conv2d_bench[] = {
    {.name = "stem_7x7_stride_2", .params = &stem, .in = LAYER(800, 1344, 3, 64, 7)},
    {.name = "res2_1x1_64_256", .params = &bottleneck, .in = LAYER(200, 336, 64, 256, 1)},
    {.name = "res2_3x3_64", .params = &same_relu, .in = LAYER(200, 336, 64, 64, 3)},
    {.name = "res3_1x1_512_128", .params = &bottleneck, .in = LAYER(100, 168, 512, 128, 1)},
    {.name = "res3_3x3_128", .params = &same_relu, .in = LAYER(100, 168, 128, 128, 3)},
    {.name = "res4_1x1_stride_2_512_256", .params = &bottleneck_half, .in = LAYER(100, 168, 512, 256, 1)},
    {.name = "res4_3x3_256", .params = &same_relu, .in = LAYER(50, 84, 256, 256, 3)},
    {.name = "res4_1x1_256_1024_residual",
     .params = &bottleneck,
     .in = {X(1, 50, 84, 256), X(1024, 1, 1, 256), X(1024), X(1, 50, 84, 1024)}},
    {.name = "res5_3x3_512", .params = &same_relu, .in = LAYER(25, 42, 512, 512, 3)},
    {.name = "res5_1x1_512_2048", .params = &bottleneck, .in = LAYER(25, 42, 512, 2048, 1)},
    {.name = "fpn_lateral_p2", .params = &plain, .in = LAYER(200, 336, 256, 256, 1)},
    {.name = "fpn_3x3_p2", .params = &same, .in = LAYER(200, 336, 256, 256, 3)},
    {.name = "fpn_3x3_p4", .params = &same, .in = LAYER(50, 84, 256, 256, 3)},
    {.name = "rpn_1x1_256_12_p2", .params = &plain, .in = LAYER(200, 336, 256, 12, 1)},
    {.name = "mask_head_3x3_128_rois",
     .params = &same_relu,
     .in = {X(128, 14, 14, 256), X(256, 3, 3, 256), X(256)}},
};

const op_def conv2d_op = {
    .name = "conv2d",
    .n_inputs = 4,
    .n_outputs = 1,
    .input_names = {"x", "weight", "bias", "residual"},
    .output_names = {"y"},
    .input_types = {DTYPE_F32, DTYPE_F32, DTYPE_F32, DTYPE_F32},
    .half_inputs = 1u << CONV2D_X | 1u << CONV2D_WEIGHT | 1u << CONV2D_RESIDUAL,
    .optional_inputs = 1u << CONV2D_BIAS | 1u << CONV2D_RESIDUAL,
    .differentiable = 1u << CONV2D_X | 1u << CONV2D_WEIGHT | 1u << CONV2D_BIAS | 1u << CONV2D_RESIDUAL,
    .backward_reads_inputs = 1u << CONV2D_X | 1u << CONV2D_WEIGHT,
    .backward_reads_outputs = 1u, /* the ReLU mask */
    .backward_ignores_outputs = has_no_relu,
    .shares_gradient = CONV2D_RESIDUAL,
    .params_size = sizeof(conv2d_params),
    .attrs = conv2d_attrs,
    .infer = conv2d_infer,
    .cost = conv2d_cost,
    .reference_f32 = &conv2d_reference_f32,
    .reference_f64 = &conv2d_reference_f64,
    .cpu = &conv2d_direct,
    .atol = 2e-5,
    .rtol = 2e-5,
    .cases = conv2d_cases,
    .n_cases = sizeof conv2d_cases / sizeof conv2d_cases[0],
    .bench_cases = conv2d_bench,
    .n_bench_cases = sizeof conv2d_bench / sizeof conv2d_bench[0],
};

tensor *conv2d(struct tape *t, tensor *const inputs[4], const conv2d_params *params) {
    tensor *y;
    tape_apply(t, &conv2d_op, params, inputs, &y);
    return y;
}
