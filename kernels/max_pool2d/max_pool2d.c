#include "max_pool2d/max_pool2d.h"

#include "autograd/op_cost.h"
#include "autograd/tape.h"

static status max_pool2d_infer(op_call *call) {
    const max_pool2d_params *p = call->params;
    if (p->kernel < 1 || p->kernel > MAX_POOL2D_MAX_KERNEL) return op_bad_attr(call, "kernel", "1 to 64");
    if (p->stride < 1 || p->stride > MAX_POOL2D_MAX_STRIDE) return op_bad_attr(call, "stride", "1 to 32768");
    if (p->pad < 0 || p->pad > p->kernel / 2) return op_bad_attr(call, "pad", "0 to half of kernel");
    RETURN_IF_ERROR(op_expect_rank(call, MAX_POOL2D_X, 4));
    const tensor *x = call->in[MAX_POOL2D_X];
    int64_t shape[4] = {x->shape[0], 0, 0, x->shape[3]};
    for (int axis = 1; axis <= 2; axis++) {
        if (x->shape[axis] < 1 || x->shape[axis] + 2 * p->pad < p->kernel)
            return error_set(
                STATUS_DATA, "use a smaller kernel or a larger map",
                "%s: tensor x has size %lld in dimension %d, too small for a kernel of %d with padding %d",
                call->op->name, (long long)x->shape[axis], axis, p->kernel, p->pad);
        shape[axis] = (x->shape[axis] + 2 * p->pad - p->kernel) / p->stride + 1;
    }
    op_describe_output(call, 0, x->type, 4, shape, x->rows);
    return STATUS_OK;
}

static const op_attr max_pool2d_attrs[] = {
    {.name = "kernel", .type = ATTR_INT, .offset = offsetof(max_pool2d_params, kernel), .required = true},
    {.name = "stride", .type = ATTR_INT, .offset = offsetof(max_pool2d_params, stride), .required = true},
    {.name = "pad", .type = ATTR_INT, .offset = offsetof(max_pool2d_params, pad), .fallback = 0},
    {.name = NULL},
};

static const max_pool2d_params stem = {3, 2, 1}, subsample = {1, 2, 0}, two = {2, 2, 0}, dense = {3, 1, 1},
                               same = {1, 1, 0}, gaps = {2, 5, 1}, large = {17, 3, 8};

static const op_case max_pool2d_cases[] = {
    {.name = "stem", .params = &stem, .in = {OP_IN(NORMAL, 0, 1, 2, 9, 7, 5)}},
    {.name = "stem_even", .params = &stem, .in = {OP_IN(NORMAL, -5, 1, 1, 8, 6, 17)}},
    {.name = "stem_many_bands", .params = &stem, .in = {OP_IN(NORMAL, 0, 1, 2, 75, 31, 16)}},
    {.name = "subsample", .params = &subsample, .in = {OP_IN(NORMAL, 0, 1, 2, 7, 5, 9)}},
    {.name = "subsample_even", .params = &subsample, .in = {OP_IN(NORMAL, 0, 1, 2, 8, 6, 33)}},
    {.name = "large_kernel", .params = &large, .in = {OP_IN(NORMAL, 0, 1, 1, 20, 19, 2)}},
    {.name = "no_overlap", .params = &two, .in = {OP_IN(NORMAL, 0, 1, 2, 7, 9, 3)}},
    {.name = "overlap", .params = &dense, .in = {OP_IN(NORMAL, 0, 1, 1, 20, 6, 4)}},
    {.name = "identity", .params = &same, .in = {OP_IN(NORMAL, 0, 1, 1, 4, 5, 4)}},
    {.name = "gaps", .params = &gaps, .in = {OP_IN(NORMAL, 0, 1, 2, 13, 8, 4)}},
    /* three values: nearly every window has several equal maxima */
    {.name = "equal_maxima", .params = &dense, .in = {OP_IN(INTEGER, 0, 3, 2, 6, 5, 7)}, .kinks = true},
    {.name = "equal_maxima_of_vectors",
     .params = &stem,
     .in = {OP_IN(INTEGER, 0, 3, 2, 6, 5, 8)},
     .kinks = true},
    {.name = "all_equal", .params = &stem, .in = {OP_IN(CONSTANT, -2, 0, 1, 6, 5, 9)}, .kinks = true},
    {.name = "rows", .params = &stem, .in = {OP_IN(NORMAL, 0, 1, 3, 5, 5, 3)}, .valid_rows = 2},
    {.name = "no_valid_rows",
     .params = &subsample,
     .in = {OP_IN(NORMAL, 0, 1, 3, 5, 5, 3)},
     .valid_rows = -1},
    {.name = "no_images", .params = &stem, .in = {OP_IN(NORMAL, 0, 1, 0, 5, 5, 3)}},
    {.name = "no_channels", .params = &stem, .in = {OP_IN(NORMAL, 0, 1, 1, 5, 5, 0)}},
    {.name = "one_element", .params = &stem, .in = {OP_IN(NORMAL, 0, 1, 1, 1, 1, 1)}},
};

static void max_pool2d_cost(op_cost *cost, const op_call *call, bool backward) {
    (void)backward; /* which finds the maximum again */
    const max_pool2d_params *p = call->params;
    cost->flops = (p->kernel * p->kernel - 1) * op_cost_elements(call->out[0]);
}

static const op_case max_pool2d_bench[] = {
    {.name = "stem", .params = &stem, .in = {OP_IN(NORMAL, 0, 1, 1, 400, 672, 64)}},
    {.name = "fpn_p6", .params = &subsample, .in = {OP_IN(NORMAL, 0, 1, 1, 25, 42, 256)}},
};

const op_def max_pool2d_op = {
    .name = "max_pool2d",
    .n_inputs = 1,
    .n_outputs = 1,
    .input_names = {"x"},
    .output_names = {"y"},
    .input_types = {DTYPE_F32},
    .half_inputs = 1u << MAX_POOL2D_X,
    .differentiable = 1u << MAX_POOL2D_X,
    .backward_reads_inputs = 1u << MAX_POOL2D_X,
    .shares_gradient = -1,
    .params_size = sizeof(max_pool2d_params),
    .attrs = max_pool2d_attrs,
    .infer = max_pool2d_infer,
    .cost = max_pool2d_cost,
    .reference_f32 = &max_pool2d_reference_f32,
    .reference_f64 = &max_pool2d_reference_f64,
    .cpu = &max_pool2d_tiled,
    .atol = 1e-6,
    .rtol = 1e-6,
    .cases = max_pool2d_cases,
    .n_cases = sizeof max_pool2d_cases / sizeof max_pool2d_cases[0],
    .bench_cases = max_pool2d_bench,
    .n_bench_cases = sizeof max_pool2d_bench / sizeof max_pool2d_bench[0],
};

tensor *max_pool2d(struct tape *t, tensor *x, const max_pool2d_params *params) {
    tensor *y;
    tape_apply(t, &max_pool2d_op, params, &x, &y);
    return y;
}
