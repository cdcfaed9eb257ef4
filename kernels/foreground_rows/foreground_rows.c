#include "foreground_rows/foreground_rows.h"

#include "autograd/op_cost.h"
#include "autograd/tape.h"

#include <string.h>

static status foreground_rows_infer(op_call *call) {
    const tensor *x = call->in[FOREGROUND_ROWS_X], *like = call->in[FOREGROUND_ROWS_LIKE];
    if (x->rank < 1) return op_expect_rank(call, FOREGROUND_ROWS_X, 1);
    RETURN_IF_ERROR(op_expect_rank(call, FOREGROUND_ROWS_LABELS, 1));
    RETURN_IF_ERROR(op_expect_rank(call, FOREGROUND_ROWS_LIKE, 1));
    RETURN_IF_ERROR(op_expect_dims_equal(call, FOREGROUND_ROWS_LABELS, 0, FOREGROUND_ROWS_X, 0));
    int64_t shape[TENSOR_MAX_RANK];
    memcpy(shape, x->shape, sizeof shape);
    shape[0] = like->shape[0];
    op_describe_output(call, 0, x->type, x->rank, shape, like->rows);
    return STATUS_OK;
}

static status foreground_rows_validate(const op_call *call) {
    const int32_t *labels = tensor_i32(call->in[FOREGROUND_ROWS_LABELS]);
    int64_t found = 0, wanted = tensor_valid_rows(call->in[FOREGROUND_ROWS_LIKE]);
    for (int64_t i = 0; i < tensor_valid_rows(call->in[FOREGROUND_ROWS_X]); i++) found += labels[i] > 0;
    if (found == wanted) return STATUS_OK;
    return error_set(STATUS_DATA, "give `like` a row for each object",
                     "foreground_rows: tensor labels: %lld are above 0, but tensor like has %lld rows",
                     (long long)found, (long long)wanted);
}

/* Labels 1, 2, .. in every second row from the first, as many as `like` has rows; further rows are background. */
static void every_second(const op_call *call) {
    int32_t *labels = tensor_i32(call->in[FOREGROUND_ROWS_LABELS]);
    int64_t left = tensor_valid_rows(call->in[FOREGROUND_ROWS_LIKE]);
    for (int64_t i = 0; i < call->in[FOREGROUND_ROWS_LABELS]->shape[0]; i++)
        labels[i] = i % 2 == 0 && left-- > 0 ? (int32_t)i + 1 : 0;
}

/* The last ones. */
static void at_the_end(const op_call *call) {
    int32_t *labels = tensor_i32(call->in[FOREGROUND_ROWS_LABELS]);
    int64_t rows = tensor_valid_rows(call->in[FOREGROUND_ROWS_X]),
            objects = tensor_valid_rows(call->in[FOREGROUND_ROWS_LIKE]);
    for (int64_t i = 0; i < call->in[FOREGROUND_ROWS_LABELS]->shape[0]; i++)
        labels[i] = i < rows && i >= rows - objects;
}

#define X(...) OP_IN(NORMAL, 0, 1, __VA_ARGS__)
#define NUMBERS(rows) OP_IN(INTEGER, 0, 1, rows)
#define COUNTED (1u << FOREGROUND_ROWS_X | 1u << FOREGROUND_ROWS_LABELS)
#define LIKE (1u << FOREGROUND_ROWS_LIKE)

static const op_case foreground_rows_cases[] = {
    {.name = "odd_tails", .in = {X(9, 3, 2, 5), NUMBERS(9), NUMBERS(4)}, .prepare = every_second},
    {.name = "whole_vectors", .in = {X(8, 2, 2, 16), NUMBERS(8), NUMBERS(4)}, .prepare = every_second},
    {.name = "wide_rows", .in = {X(3, 5, 700), NUMBERS(3), NUMBERS(1)}, .prepare = at_the_end},
    {.name = "all_rows", .in = {X(4, 6), NUMBERS(4), NUMBERS(4)}, .prepare = at_the_end},
    {.name = "many_rows", .in = {X(1100, 2), NUMBERS(1100), NUMBERS(400)}, .prepare = every_second},
    {.name = "single_values", .in = {X(5), NUMBERS(5), NUMBERS(2)}, .prepare = every_second},
    {.name = "one_element", .in = {X(1, 1), NUMBERS(1), NUMBERS(1)}, .prepare = at_the_end},
    {.name = "rows",
     .in = {X(8, 3, 4), NUMBERS(8), NUMBERS(3)},
     .prepare = at_the_end,
     .valid_rows = 6,
     .rows_inputs = COUNTED},
    {.name = "rows_of_like",
     .in = {X(8, 3, 4), NUMBERS(8), NUMBERS(5)},
     .prepare = every_second,
     .valid_rows = 2,
     .rows_inputs = LIKE},
    {.name = "no_object",
     .in = {X(6, 8), NUMBERS(6), NUMBERS(3)},
     .prepare = every_second,
     .valid_rows = -1,
     .rows_inputs = LIKE},
    {.name = "no_valid_rows",
     .in = {X(6, 8), NUMBERS(6), NUMBERS(0)},
     .prepare = every_second,
     .valid_rows = -1,
     .rows_inputs = COUNTED},
    {.name = "no_rows", .in = {X(0, 4), NUMBERS(0), NUMBERS(0)}},
};

/* `like` is not read, and background is not either. */
static void foreground_rows_cost(op_cost *cost, const op_call *call, bool backward) {
    if (!backward) cost->read_bytes = op_cost_bytes(call->in[FOREGROUND_ROWS_LABELS]) + cost->written_bytes;
}

static const op_case foreground_rows_bench[] = {
    {.name = "c4_128_of_512_rois",
     .in = {X(512, 7, 7, 2048), NUMBERS(512), NUMBERS(128)},
     .prepare = at_the_end},
};

const op_def foreground_rows_op = {
    .name = "foreground_rows",
    .n_inputs = 3,
    .n_outputs = 1,
    .input_names = {"x", "labels", "like"},
    .output_names = {"y"},
    .input_types = {DTYPE_F32, DTYPE_I32, DTYPE_I32},
    .half_inputs = 1u << FOREGROUND_ROWS_X,
    .differentiable = 1u << FOREGROUND_ROWS_X,
    .backward_reads_inputs = 1u << FOREGROUND_ROWS_LABELS,
    .shares_gradient = -1,
    .infer = foreground_rows_infer,
    .validate = foreground_rows_validate,
    .cost = foreground_rows_cost,
    .reference_f32 = &foreground_rows_reference_f32,
    .reference_f64 = &foreground_rows_reference_f64,
    .cpu = &foreground_rows_threaded,
    .atol = 0,
    .rtol = 1e-7,
    .cases = foreground_rows_cases,
    .n_cases = sizeof foreground_rows_cases / sizeof foreground_rows_cases[0],
    .bench_cases = foreground_rows_bench,
    .n_bench_cases = sizeof foreground_rows_bench / sizeof foreground_rows_bench[0],
};

tensor *foreground_rows(struct tape *t, tensor *x, tensor *labels, tensor *like) {
    tensor *y;
    tape_apply(t, &foreground_rows_op, NULL, (tensor *[]){x, labels, like}, &y);
    return y;
}
