#include "gather_levels/gather_levels.h"

#include "autograd/op_cost.h"
#include "autograd/tape.h"

static status gather_levels_infer(op_call *call) {
    const gather_levels_params *p = call->params;
    if (p->anchors < 1) return op_bad_attr(call, "anchors", "at least 1");
    if (p->size < 1) return op_bad_attr(call, "size", "at least 1");
    const tensor *index = call->in[GATHER_INDEX], *first = call->in[GATHER_MAP];
    RETURN_IF_ERROR(op_expect_rank(call, GATHER_INDEX, 1));
    for (int i = GATHER_MAP; i < GATHER_MAP + GATHER_MAPS && call->in[i]; i++) {
        RETURN_IF_ERROR(op_expect_rank(call, i, 4));
        RETURN_IF_ERROR(op_expect_dims_equal(call, i, 0, GATHER_MAP, 0));
        RETURN_IF_ERROR(op_expect_dim(call, i, 3, (int64_t)p->anchors * p->size, "anchors x size"));
    }
    op_describe_output(call, 0, first->type, p->size == 1 ? 1 : 2, (int64_t[]){index->shape[0], p->size},
                       index->rows);
    return STATUS_OK;
}

static int64_t anchors_in_batch(const op_call *call) {
    int64_t places = 0;
    for (int i = GATHER_MAP; i < GATHER_MAP + GATHER_MAPS && call->in[i]; i++)
        places += call->in[i]->shape[0] * call->in[i]->shape[1] * call->in[i]->shape[2];
    return places * ((const gather_levels_params *)call->params)->anchors;
}

static status gather_levels_validate(const op_call *call) {
    const tensor *index = call->in[GATHER_INDEX];
    int64_t total = anchors_in_batch(call);
    for (int64_t i = 0; i < tensor_valid_rows(index); i++)
        if (tensor_i32(index)[i] < 0 || tensor_i32(index)[i] >= total)
            return error_set(STATUS_DATA, "number anchors from 0",
                             "gather_levels: tensor index: value %d at %lld, but the batch has %lld anchors",
                             tensor_i32(index)[i], (long long)i, (long long)total);
    return STATUS_OK;
}

static const op_attr gather_levels_attrs[] = {
    {.name = "anchors",
     .type = ATTR_INT,
     .offset = offsetof(gather_levels_params, anchors),
     .required = true},
    {.name = "size", .type = ATTR_INT, .offset = offsetof(gather_levels_params, size), .required = true},
    {.name = NULL},
};

/* Distinct indices spread over the batch. */
static void spread(const op_call *call) {
    tensor *index = call->in[GATHER_INDEX];
    int64_t total = anchors_in_batch(call), count = index->shape[0];
    for (int64_t i = 0; i < count; i++) tensor_set(index, i, (double)(total - 1 - i * (total / count)));
}

static const gather_levels_params logits = {.anchors = 3, .size = 1}, deltas = {.anchors = 3, .size = 4},
                                  single = {.anchors = 1, .size = 2};

static const op_case gather_levels_cases[] = {
    {.name = "logits_of_three_levels",
     .params = &logits,
     .prepare = spread,
     .in = {OP_IN(CONSTANT, 0, 0, 9), OP_IN(NORMAL, 0, 1, 2, 4, 6, 3), OP_IN(NORMAL, 0, 1, 2, 2, 3, 3),
            OP_IN(NORMAL, 0, 1, 2, 1, 2, 3)}},
    {.name = "deltas_of_five_levels",
     .params = &deltas,
     .prepare = spread,
     .in = {OP_IN(CONSTANT, 0, 0, 17), OP_IN(NORMAL, 0, 1, 2, 5, 7, 12), OP_IN(NORMAL, 0, 1, 2, 3, 4, 12),
            OP_IN(NORMAL, 0, 1, 2, 2, 2, 12), OP_IN(NORMAL, 0, 1, 2, 1, 1, 12),
            OP_IN(NORMAL, 0, 1, 2, 1, 1, 12)}},
    {.name = "every_anchor",
     .params = &single,
     .prepare = spread,
     .in = {OP_IN(CONSTANT, 0, 0, 6), OP_IN(NORMAL, 0, 1, 1, 2, 3, 2)}},
    {.name = "rows",
     .params = &deltas,
     .prepare = spread,
     .valid_rows = 4,
     .in = {OP_IN(CONSTANT, 0, 0, 7), OP_IN(NORMAL, 0, 1, 2, 5, 7, 12), OP_IN(NORMAL, 0, 1, 2, 3, 4, 12)}},
    {.name = "no_valid_rows",
     .params = &deltas,
     .prepare = spread,
     .valid_rows = -1,
     .in = {OP_IN(CONSTANT, 0, 0, 7), OP_IN(NORMAL, 0, 1, 2, 5, 7, 12), OP_IN(NORMAL, 0, 1, 2, 3, 4, 12)}},
    {.name = "none", .params = &logits, .in = {OP_IN(CONSTANT, 0, 0, 0), OP_IN(NORMAL, 0, 1, 1, 2, 3, 3)}},
};

static void gather_levels_cost(op_cost *cost, const op_call *call, bool backward) {
    (void)call;
    if (!backward) cost->read_bytes = op_cost_bytes(call->in[GATHER_INDEX]) + cost->written_bytes;
}

#define TRAINING_MAPS(channels)                                                                              \
    OP_IN(NORMAL, 0, 1, 2, 200, 336, channels), OP_IN(NORMAL, 0, 1, 2, 100, 168, channels),                  \
        OP_IN(NORMAL, 0, 1, 2, 50, 84, channels), OP_IN(NORMAL, 0, 1, 2, 25, 42, channels),                  \
        OP_IN(NORMAL, 0, 1, 2, 13, 21, channels)

static const op_case gather_levels_bench[] = {
    {.name = "logits_of_512_anchors",
     .params = &logits,
     .prepare = spread,
     .in = {OP_IN(CONSTANT, 0, 0, 512), TRAINING_MAPS(3)}},
    {.name = "deltas_of_512_anchors",
     .params = &deltas,
     .prepare = spread,
     .in = {OP_IN(CONSTANT, 0, 0, 512), TRAINING_MAPS(12)}},
};

const op_def gather_levels_op = {
    .name = "gather_levels",
    .n_inputs = 1 + GATHER_MAPS,
    .n_outputs = 1,
    .input_names = {"index", "map0", "map1", "map2", "map3", "map4"},
    .output_names = {"y"},
    .input_types = {DTYPE_I32, DTYPE_F32, DTYPE_F32, DTYPE_F32, DTYPE_F32, DTYPE_F32},
    .half_inputs = 62u, /* every map */
    .optional_inputs = 0x3C,
    .differentiable = 0x3E,
    .backward_reads_inputs = 1u << GATHER_INDEX,
    .shares_gradient = -1,
    .params_size = sizeof(gather_levels_params),
    .attrs = gather_levels_attrs,
    .infer = gather_levels_infer,
    .validate = gather_levels_validate,
    .cost = gather_levels_cost,
    .reference_f32 = &gather_levels_reference_f32,
    .reference_f64 = &gather_levels_reference_f64,
    .cpu = &gather_levels_reference_f32, /* a few hundred rows: nothing to gain */
    .atol = 0,
    .rtol = 1e-7,
    .cases = gather_levels_cases,
    .n_cases = sizeof gather_levels_cases / sizeof gather_levels_cases[0],
    .bench_cases = gather_levels_bench,
    .n_bench_cases = sizeof gather_levels_bench / sizeof gather_levels_bench[0],
};

tensor *gather_levels(struct tape *t, tensor *const inputs[1 + GATHER_MAPS],
                      const gather_levels_params *params) {
    tensor *y;
    tape_apply(t, &gather_levels_op, params, inputs, &y);
    return y;
}
