#include "autograd/op.h"

#include "base/check.h"

#include <stdio.h>

status op_expect_rank(const op_call *call, int input, int rank) {
    const tensor *t = call->in[input];
    if (t->rank == rank) return STATUS_OK;
    char text[96];
    return error_set(STATUS_DATA, "give the tensor the documented shape",
                     "%s: tensor %s has shape %s, expected %d dimensions", call->op->name,
                     call->op->input_names[input], tensor_shape_text(t, text, sizeof text), rank);
}

status op_expect_dim(const op_call *call, int input, int axis, int64_t size, const char *why) {
    const tensor *t = call->in[input];
    if (t->shape[axis] == size) return STATUS_OK;
    char text[96];
    return error_set(STATUS_DATA, "give the tensor the documented shape",
                     "%s: tensor %s has shape %s, expected size %lld in dimension %d (%s)", call->op->name,
                     call->op->input_names[input], tensor_shape_text(t, text, sizeof text), (long long)size,
                     axis, why);
}

status op_expect_mismatch(const op_call *call, int input, int other) {
    char text[96], other_text[96];
    return error_set(STATUS_DATA, "give both tensors matching shapes",
                     "%s: tensor %s has shape %s, which does not fit tensor %s of shape %s", call->op->name,
                     call->op->input_names[input], tensor_shape_text(call->in[input], text, sizeof text),
                     call->op->input_names[other],
                     tensor_shape_text(call->in[other], other_text, sizeof other_text));
}

status op_expect_dims_equal(const op_call *call, int input, int axis, int other_input, int other_axis) {
    if (call->in[input]->shape[axis] == call->in[other_input]->shape[other_axis]) return STATUS_OK;
    return op_expect_mismatch(call, input, other_input);
}

status op_expect_same_shape(const op_call *call, int input, int other_input) {
    if (tensor_same_shape(call->in[input], call->in[other_input])) return STATUS_OK;
    return op_expect_mismatch(call, input, other_input);
}

status op_bad_attr(const op_call *call, const char *attr, const char *expected) {
    return error_set(STATUS_DATA, "correct the attribute", "%s: attribute %s must be %s", call->op->name,
                     attr, expected);
}

void op_describe_output(op_call *call, int index, dtype type, int rank, const int64_t *shape,
                        const tensor *rows) {
    tensor *t = call->out[index];
    t->type = type;
    t->rank = rank;
    for (int i = 0; i < rank; i++) t->shape[i] = shape[i];
    t->rows = rows;
}

static bool is_real(dtype type) {
    return type == DTYPE_F32 || type == DTYPE_F64 || dtype_is_half(type);
}

dtype op_real_type(const op_call *call) {
    for (int i = 0; i < call->op->n_inputs; i++)
        if (call->in[i] && call->op->input_types[i] == DTYPE_F32)
            return call->in[i]->type == DTYPE_F64 ? DTYPE_F64 : DTYPE_F32;
    return DTYPE_F32;
}

dtype op_storage_type(const op_call *call) {
    for (int i = 0; i < call->op->n_inputs; i++)
        if (call->in[i] && call->op->half_inputs >> i & 1u && is_real(call->in[i]->type))
            return call->in[i]->type;
    return op_real_type(call);
}

bool op_has_half(const op_def *op) {
    return op->half_inputs || op->makes_half;
}

static dtype expected_type(const op_call *call, int input) {
    const op_def *op = call->op;
    if (op->input_types[input] != DTYPE_F32) return op->input_types[input];
    return op->half_inputs >> input & 1u ? op_storage_type(call) : op_real_type(call);
}

status op_infer(op_call *call) {
    const op_def *op = call->op;
    for (int i = 0; i < op->n_inputs; i++) {
        const tensor *t = call->in[i];
        if (!t) {
            if (op->optional_inputs >> i & 1u) continue;
            return error_set(STATUS_DATA, "add the tensor", "%s: tensor %s is missing", op->name,
                             op->input_names[i]);
        }
        dtype want = expected_type(call, i);
        if (t->type != want)
            return error_set(STATUS_DATA, "convert the tensor", "%s: tensor %s has type %s, expected %s",
                             op->name, op->input_names[i], dtype_name(t->type), dtype_name(want));
    }
    for (int i = 0; i < op->n_outputs; i++) call->out[i]->name = op->output_names[i];
    return op->infer(call);
}

unsigned op_backward_reads_outputs(const op_call *call) {
    const op_def *op = call->op;
    return op->backward_ignores_outputs && op->backward_ignores_outputs(call) ? 0
                                                                              : op->backward_reads_outputs;
}

const op_kernel *op_cpu_kernel(const op_call *call) {
    CHECK(!dtype_is_half(op_storage_type(call)) && !dtype_is_half(call->storage),
          "op %s: the CPU has no kernels for 16-bit floats", call->op->name);
    return op_real_type(call) == DTYPE_F64 ? call->op->reference_f64 : call->op->cpu;
}
