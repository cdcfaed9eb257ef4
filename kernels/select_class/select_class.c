#include "select_class/select_class.h"

#include "autograd/op_cost.h"
#include "autograd/tape.h"

static status select_class_infer(op_call *call) {
    const select_class_params *p = call->params;
    const tensor *x = call->in[SELECT_X];
    if (p->size < 1) return op_bad_attr(call, "size", "at least 1");
    if (x->rank < 2) return op_expect_rank(call, SELECT_X, 2);
    RETURN_IF_ERROR(op_expect_rank(call, SELECT_LABELS, 1));
    RETURN_IF_ERROR(op_expect_dims_equal(call, SELECT_LABELS, 0, SELECT_X, 0));
    if (x->shape[x->rank - 1] % p->size)
        return op_bad_attr(call, "size", "a divisor of the last dimension of x");
    int64_t shape[TENSOR_MAX_RANK];
    for (int i = 0; i < x->rank - 1; i++) shape[i] = x->shape[i];
    shape[x->rank - 1] = p->size;
    op_describe_output(call, 0, x->type, p->size == 1 ? x->rank - 1 : x->rank, shape, x->rows);
    return STATUS_OK;
}

static status select_class_validate(const op_call *call) {
    const tensor *x = call->in[SELECT_X], *labels = call->in[SELECT_LABELS];
    int64_t classes = x->shape[x->rank - 1] / ((const select_class_params *)call->params)->size;
    for (int64_t i = 0; i < tensor_valid_rows(x); i++)
        if (tensor_i32(labels)[i] < 0 || tensor_i32(labels)[i] >= classes)
            return error_set(STATUS_DATA, "number classes from 0",
                             "select_class: tensor labels: value %d at %lld, but tensor x has %lld classes",
                             tensor_i32(labels)[i], (long long)i, (long long)classes);
    return STATUS_OK;
}

static const op_attr select_class_attrs[] = {
    {.name = "size", .type = ATTR_INT, .offset = offsetof(select_class_params, size), .required = true},
    {.name = NULL},
};

static const select_class_params one = {.size = 1}, box = {.size = 4};

static const op_case select_class_cases[] = {
    {.name = "box_deltas", .params = &box, .in = {OP_IN(NORMAL, 0, 1, 7, 20), OP_IN(INTEGER, 0, 5, 7)}},
    {.name = "vectors", .params = &box, .in = {OP_IN(NORMAL, 0, 1, 3, 2, 32), OP_IN(INTEGER, 0, 8, 3)}},
    {.name = "mask_logits", .params = &one, .in = {OP_IN(NORMAL, 0, 1, 5, 6, 6, 4), OP_IN(INTEGER, 0, 4, 5)}},
    {.name = "one_class", .params = &one, .in = {OP_IN(NORMAL, 0, 1, 3, 2, 1), OP_IN(INTEGER, 0, 1, 3)}},
    {.name = "rows",
     .params = &one,
     .valid_rows = 3,
     .in = {OP_IN(NORMAL, 0, 1, 5, 6, 6, 4), OP_IN(INTEGER, 0, 4, 5)}},
    {.name = "no_valid_rows",
     .params = &box,
     .valid_rows = -1,
     .in = {OP_IN(NORMAL, 0, 1, 7, 20), OP_IN(INTEGER, 0, 5, 7)}},
    {.name = "no_rows", .params = &box, .in = {OP_IN(NORMAL, 0, 1, 0, 8), OP_IN(INTEGER, 0, 2, 0)}},
};

static void select_class_cost(op_cost *cost, const op_call *call, bool backward) {
    if (!backward) cost->read_bytes = op_cost_bytes(call->in[SELECT_LABELS]) + cost->written_bytes;
}

static const op_case select_class_bench[] = {
    {.name = "box_deltas_512_rois",
     .params = &box,
     .in = {OP_IN(NORMAL, 0, 1, 512, 320), OP_IN(INTEGER, 0, 80, 512)}},
    {.name = "mask_logits_128_rois",
     .params = &one,
     .in = {OP_IN(NORMAL, 0, 1, 128, 28, 28, 80), OP_IN(INTEGER, 0, 80, 128)}},
};

const op_def select_class_op = {
    .name = "select_class",
    .n_inputs = 2,
    .n_outputs = 1,
    .input_names = {"x", "labels"},
    .output_names = {"y"},
    .input_types = {DTYPE_F32, DTYPE_I32},
    .half_inputs = 1u << SELECT_X,
    .differentiable = 1u << SELECT_X,
    .backward_reads_inputs = 1u << SELECT_LABELS,
    .shares_gradient = -1,
    .params_size = sizeof(select_class_params),
    .attrs = select_class_attrs,
    .infer = select_class_infer,
    .validate = select_class_validate,
    .cost = select_class_cost,
    .reference_f32 = &select_class_reference_f32,
    .reference_f64 = &select_class_reference_f64,
    .cpu = &select_class_threaded,
    .atol = 0,
    .rtol = 1e-7,
    .cases = select_class_cases,
    .n_cases = sizeof select_class_cases / sizeof select_class_cases[0],
    .bench_cases = select_class_bench,
    .n_bench_cases = sizeof select_class_bench / sizeof select_class_bench[0],
};

tensor *select_class(struct tape *t, tensor *x, tensor *labels, const select_class_params *params) {
    tensor *y;
    tape_apply(t, &select_class_op, params, (tensor *[]){x, labels}, &y);
    return y;
}
