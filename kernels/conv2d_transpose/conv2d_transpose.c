#include "conv2d_transpose/conv2d_transpose.h"

#include "autograd/op_cost.h"
#include "autograd/tape.h"
#include "conv_shape.h"

static status conv2d_transpose_infer(op_call *call) {
    const conv2d_transpose_params *p = call->params;
    if (p->stride < 1 || p->stride > CONV_MAX_STEP) return op_bad_attr(call, "stride", "1 to 32768");
    if (p->pad < 0 || p->pad > CONV_MAX_STEP) return op_bad_attr(call, "pad", "0 to 32768");
    RETURN_IF_ERROR(op_expect_rank(call, CONV2D_TRANSPOSE_X, 4));
    RETURN_IF_ERROR(op_expect_rank(call, CONV2D_TRANSPOSE_WEIGHT, 4));
    RETURN_IF_ERROR(op_expect_dims_equal(call, CONV2D_TRANSPOSE_WEIGHT, 0, CONV2D_TRANSPOSE_X, 3));
    const tensor *x = call->in[CONV2D_TRANSPOSE_X], *weight = call->in[CONV2D_TRANSPOSE_WEIGHT];
    int64_t shape[4] = {x->shape[0], 0, 0, weight->shape[3]};
    for (int axis = 1; axis <= 2; axis++) {
        if (weight->shape[axis] < 1)
            return op_expect_dim(call, CONV2D_TRANSPOSE_WEIGHT, axis, 1, "at least 1");
        if (x->shape[axis] < 1) return op_expect_dim(call, CONV2D_TRANSPOSE_X, axis, 1, "at least 1");
        int64_t size;
        if (__builtin_mul_overflow(x->shape[axis] - 1, p->stride, &size) ||
            __builtin_add_overflow(size, weight->shape[axis], &size) || size - 2 * p->pad < 1)
            return error_set(STATUS_DATA, "use less padding or smaller tensors",
                             "%s: tensor x with %lld positions in dimension %d, tensor weight with %lld "
                             "taps, stride %d and pad %d leave no output",
                             call->op->name, (long long)x->shape[axis], axis, (long long)weight->shape[axis],
                             p->stride, p->pad);
        shape[axis] = size - 2 * p->pad;
    }
    if (!conv_size_fits(shape[0], shape[1], shape[2], shape[3]))
        return error_set(STATUS_DATA, "use smaller tensors or a smaller stride",
                         "%s: tensor y would have more than 2^40 elements", call->op->name);
    if (call->in[CONV2D_TRANSPOSE_BIAS]) {
        RETURN_IF_ERROR(op_expect_rank(call, CONV2D_TRANSPOSE_BIAS, 1));
        RETURN_IF_ERROR(op_expect_dims_equal(call, CONV2D_TRANSPOSE_BIAS, 0, CONV2D_TRANSPOSE_WEIGHT, 3));
    }
    op_describe_output(call, 0, x->type, 4, shape, x->rows);
    return STATUS_OK;
}

static bool has_no_relu(const op_call *call) {
    return !((const conv2d_transpose_params *)call->params)->relu;
}

static const op_attr conv2d_transpose_attrs[] = {
    {.name = "stride", .type = ATTR_INT, .offset = offsetof(conv2d_transpose_params, stride), .fallback = 1},
    {.name = "pad", .type = ATTR_INT, .offset = offsetof(conv2d_transpose_params, pad), .fallback = 0},
    {.name = "relu", .type = ATTR_BOOL, .offset = offsetof(conv2d_transpose_params, relu)},
    {.name = NULL},
};

static const conv2d_transpose_params plain = {1, 0, false}, twice = {2, 0, false}, twice_relu = {2, 0, true},
                                     twice_pad = {2, 1, true}, same = {1, 1, false}, third = {3, 0, false};

#define X(...) OP_IN(NORMAL, 0, 1, __VA_ARGS__)

static const op_case conv2d_transpose_cases[] = {
    {.name = "mask_head", .params = &twice_relu, .in = {X(3, 4, 4, 6), X(6, 2, 2, 5), X(5)}},
    {.name = "kernel_4_stride_2", .params = &twice_pad, .in = {X(1, 5, 3, 4), X(4, 4, 4, 3), X(3)}},
    {.name = "kernel_3_stride_2", .params = &twice_pad, .in = {X(2, 3, 5, 2), X(2, 3, 3, 7), X(7)}},
    {.name = "kernel_not_square", .params = &twice, .in = {X(1, 4, 3, 3), X(3, 3, 1, 4), X(4)}},
    {.name = "gaps_between_outputs", .params = &third, .in = {X(1, 3, 2, 3), X(3, 2, 2, 4), X(4)}},
    {.name = "stride_1", .params = &same, .in = {X(1, 5, 6, 3), X(3, 3, 3, 4), X(4)}},
    {.name = "no_bias", .params = &twice, .in = {X(1, 2, 3, 5), X(5, 2, 2, 3)}},
    {.name = "many_channels", .params = &twice_relu, .in = {X(2, 3, 3, 70), X(70, 2, 2, 81), X(81)}},
    {.name = "whole_vectors", .params = &twice_relu, .in = {X(2, 3, 4, 8), X(8, 2, 2, 16), X(16)}},
    {.name = "no_images", .params = &twice_relu, .in = {X(0, 4, 4, 6), X(6, 2, 2, 5), X(5)}},
    {.name = "some_rows", .params = &twice_relu, .in = {X(4, 2, 3, 6), X(6, 2, 2, 5), X(5)}, .valid_rows = 2},
    {.name = "no_rows", .params = &same, .in = {X(2, 3, 3, 6), X(6, 3, 3, 2), X(2)}, .valid_rows = -1},
    {.name = "one_element", .params = &plain, .in = {X(1, 1, 1, 1), X(1, 1, 1, 1), X(1)}},
};

static void conv2d_transpose_cost(op_cost *cost, const op_call *call, bool backward) {
    const tensor *weight = call->in[CONV2D_TRANSPOSE_WEIGHT];
    double taps = (double)(weight->shape[1] * weight->shape[2] * weight->shape[3]);
    cost->flops =
        op_cost_of_product(call, backward, 2 * taps * op_cost_elements(call->in[CONV2D_TRANSPOSE_X]));
}

static const op_case conv2d_transpose_bench[] = {
    {.name = "mask_head_128_rois",
     .params = &twice_relu,
     .in = {X(128, 14, 14, 256), X(256, 2, 2, 256), X(256)}},
};

const op_def conv2d_transpose_op = {
    .name = "conv2d_transpose",
    .n_inputs = 3,
    .n_outputs = 1,
    .input_names = {"x", "weight", "bias"},
    .output_names = {"y"},
    .input_types = {DTYPE_F32, DTYPE_F32, DTYPE_F32},
    .half_inputs = 1u << CONV2D_TRANSPOSE_X | 1u << CONV2D_TRANSPOSE_WEIGHT,
    .optional_inputs = 1u << CONV2D_TRANSPOSE_BIAS,
    .differentiable = 1u << CONV2D_TRANSPOSE_X | 1u << CONV2D_TRANSPOSE_WEIGHT | 1u << CONV2D_TRANSPOSE_BIAS,
    .backward_reads_inputs = 1u << CONV2D_TRANSPOSE_X | 1u << CONV2D_TRANSPOSE_WEIGHT,
    .backward_reads_outputs = 1u, /* the ReLU mask */
    .backward_ignores_outputs = has_no_relu,
    .shares_gradient = -1,
    .params_size = sizeof(conv2d_transpose_params),
    .attrs = conv2d_transpose_attrs,
    .infer = conv2d_transpose_infer,
    .cost = conv2d_transpose_cost,
    .reference_f32 = &conv2d_transpose_reference_f32,
    .reference_f64 = &conv2d_transpose_reference_f64,
    .cpu = &conv2d_transpose_direct,
    .atol = 2e-5,
    .rtol = 2e-5,
    .cases = conv2d_transpose_cases,
    .n_cases = sizeof conv2d_transpose_cases / sizeof conv2d_transpose_cases[0],
    .bench_cases = conv2d_transpose_bench,
    .n_bench_cases = sizeof conv2d_transpose_bench / sizeof conv2d_transpose_bench[0],
};

tensor *conv2d_transpose(struct tape *t, tensor *x, tensor *weight, tensor *bias,
                         const conv2d_transpose_params *params) {
    tensor *y;
    tape_apply(t, &conv2d_transpose_op, params, (tensor *[]){x, weight, bias}, &y);
    return y;
}
