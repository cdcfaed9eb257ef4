#include "sync_batch_norm/sync_batch_norm.h"

#include "autograd/op_cost.h"
#include "autograd/tape.h"

static status sync_batch_norm_infer(op_call *call) {
    const sync_batch_norm_params *p = call->params;
    if (!(p->eps >= 0)) return op_bad_attr(call, "eps", "0 or more");
    if (!(p->momentum >= 0 && p->momentum <= 1)) return op_bad_attr(call, "momentum", "0 to 1");
    RETURN_IF_ERROR(op_expect_rank(call, SYNC_BATCH_NORM_X, 4));
    for (int i = SYNC_BATCH_NORM_WEIGHT; i <= SYNC_BATCH_NORM_VAR; i++) {
        RETURN_IF_ERROR(op_expect_rank(call, i, 1));
        RETURN_IF_ERROR(op_expect_dims_equal(call, i, 0, SYNC_BATCH_NORM_X, 3));
    }
    const tensor *x = call->in[SYNC_BATCH_NORM_X];
    int64_t channels = x->shape[3];
    op_describe_output(call, SYNC_BATCH_NORM_Y, x->type, 4, x->shape, x->rows);
    op_describe_output(call, SYNC_BATCH_NORM_NEW_MEAN, op_real_type(call), 1, &channels, NULL);
    op_describe_output(call, SYNC_BATCH_NORM_NEW_VAR, op_real_type(call), 1, &channels, NULL);
    op_describe_output(call, SYNC_BATCH_NORM_SAVED, op_real_type(call), 2, (int64_t[]){3, channels}, NULL);
    return STATUS_OK;
}

static const op_attr sync_batch_norm_attrs[] = {
    {.name = "eps", .type = ATTR_FLOAT, .offset = offsetof(sync_batch_norm_params, eps), .fallback = 1e-5},
    {.name = "momentum",
     .type = ATTR_FLOAT,
     .offset = offsetof(sync_batch_norm_params, momentum),
     .fallback = 0.1},
    {.name = "relu", .type = ATTR_BOOL, .offset = offsetof(sync_batch_norm_params, relu)},
    {.name = NULL},
};

static const sync_batch_norm_params plain = {.eps = 1e-5, .momentum = 0.1},
                                    with_relu = {.eps = 1e-3, .momentum = 0.25, .relu = true};

#define VECTORS(c)                                                                                           \
    OP_IN(NORMAL, 1, 0.5, c), OP_IN(NORMAL, 0, 1, c), OP_IN(NORMAL, 0, 1, c), OP_IN(UNIFORM, 0.5, 2, c)

static const op_case sync_batch_norm_cases[] = {
    {.name = "plain", .params = &plain, .in = {OP_IN(NORMAL, 0.5, 1, 2, 3, 5, 7), VECTORS(7)}},
    {.name = "relu", .params = &with_relu, .in = {OP_IN(NORMAL, -1, 2, 2, 5, 3, 19), VECTORS(19)}},
    {.name = "many_tiles", .params = &with_relu, .in = {OP_IN(NORMAL, 0, 1, 2, 33, 17, 64), VECTORS(64)}},
    {.name = "many_channels", .params = &plain, .in = {OP_IN(NORMAL, 0, 1, 2, 3, 2, 264), VECTORS(264)}},
    {.name = "mean_of_100_deviations",
     .params = &plain,
     .in = {OP_IN(NORMAL, 100, 1, 2, 8, 8, 9), VECTORS(9)}},
    {.name = "small_deviation_far_off",
     .params = &plain,
     .in = {OP_IN(NORMAL, -30, 0.05, 1, 16, 8, 8), VECTORS(8)}},
    {.name = "constant",
     .params = &plain,
     .in = {OP_IN(CONSTANT, 3, 0, 2, 3, 3, 4), VECTORS(4)},
     .kinks = true},
    {.name = "rows",
     .params = &with_relu,
     .in = {OP_IN(NORMAL, 0, 1, 4, 3, 3, 9), VECTORS(9)},
     .valid_rows = 3},
    {.name = "no_valid_rows",
     .params = &plain,
     .in = {OP_IN(NORMAL, 0, 1, 4, 3, 3, 9), VECTORS(9)},
     .valid_rows = -1},
    {.name = "no_images", .params = &plain, .in = {OP_IN(NORMAL, 0, 1, 0, 3, 3, 4), VECTORS(4)}},
    {.name = "one_pixel", .params = &plain, .in = {OP_IN(NORMAL, 0, 1, 1, 1, 1, 3), VECTORS(3)}},
};

static void sync_batch_norm_cost(op_cost *cost, const op_call *call, bool backward) {
    /* Forward: two passes for the statistics, one to use them. Backward: two sums, then d_x. */
    double elements = op_cost_elements(call->out[SYNC_BATCH_NORM_Y]);
    cost->flops = !backward ? 6 * elements : (call->d_in[SYNC_BATCH_NORM_X] ? 9 : 5) * elements;
}

static const op_case sync_batch_norm_bench[] = {
    {.name = "res2", .params = &with_relu, .in = {OP_IN(NORMAL, 0, 1, 1, 200, 336, 256), VECTORS(256)}},
    {.name = "res4", .params = &with_relu, .in = {OP_IN(NORMAL, 0, 1, 1, 50, 84, 1024), VECTORS(1024)}},
};

const op_def sync_batch_norm_op = {
    .name = "sync_batch_norm",
    .n_inputs = 5,
    .n_outputs = 4,
    .input_names = {"x", "weight", "bias", "running_mean", "running_var"},
    .output_names = {"y", "new_running_mean", "new_running_var", "saved_statistics"},
    .input_types = {DTYPE_F32, DTYPE_F32, DTYPE_F32, DTYPE_F32, DTYPE_F32},
    .half_inputs = 1u << SYNC_BATCH_NORM_X,
    .differentiable = 1u << SYNC_BATCH_NORM_X | 1u << SYNC_BATCH_NORM_WEIGHT | 1u << SYNC_BATCH_NORM_BIAS,
    .backward_reads_inputs = 1u << SYNC_BATCH_NORM_X | 1u << SYNC_BATCH_NORM_WEIGHT,
    .backward_reads_outputs = 1u << SYNC_BATCH_NORM_Y | 1u << SYNC_BATCH_NORM_SAVED,
    .constant_outputs =
        1u << SYNC_BATCH_NORM_NEW_MEAN | 1u << SYNC_BATCH_NORM_NEW_VAR | 1u << SYNC_BATCH_NORM_SAVED,
    .shares_gradient = -1,
    .params_size = sizeof(sync_batch_norm_params),
    .attrs = sync_batch_norm_attrs,
    .infer = sync_batch_norm_infer,
    .cost = sync_batch_norm_cost,
    .reference_f32 = &sync_batch_norm_reference_f32,
    .reference_f64 = &sync_batch_norm_reference_f64,
    .cpu = &sync_batch_norm_tiled,
    .atol = 1e-5,
    .rtol = 1e-5,
    .cases = sync_batch_norm_cases,
    .n_cases = sizeof sync_batch_norm_cases / sizeof sync_batch_norm_cases[0],
    .bench_cases = sync_batch_norm_bench,
    .n_bench_cases = sizeof sync_batch_norm_bench / sizeof sync_batch_norm_bench[0],
};

tensor *sync_batch_norm(struct tape *t, tensor *const in[5], const sync_batch_norm_params *params) {
    tensor *out[4];
    tape_apply(t, &sync_batch_norm_op, params, in, out);
    tape_bind(t, out[SYNC_BATCH_NORM_NEW_MEAN], in[SYNC_BATCH_NORM_MEAN]->data);
    tape_bind(t, out[SYNC_BATCH_NORM_NEW_VAR], in[SYNC_BATCH_NORM_VAR]->data);
    return out[SYNC_BATCH_NORM_Y];
}
