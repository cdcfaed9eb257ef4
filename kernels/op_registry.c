/* The table of all ops, expanded from kernels/ops.def. */
#include "autograd/op.h"

#include "base/check.h"

#include <string.h>

#define OP(name) extern const op_def name##_op;
#include "ops.def"
#undef OP

static const op_def *const registry[] = {
#define OP(name) &name##_op,
#include "ops.def"
#undef OP
};

int op_count(void) {
    return (int)(sizeof registry / sizeof registry[0]);
}

const op_def *op_at(int index) {
    CHECK(index >= 0 && index < op_count(), "op index %d of %d", index, op_count());
    return registry[index];
}

const op_def *op_find(const char *name) {
    for (int i = 0; i < op_count(); i++)
        if (strcmp(registry[i]->name, name) == 0) return registry[i];
    return NULL;
}

void op_registry_check(void) {
    for (int i = 0; i < op_count(); i++) {
        const op_def *op = registry[i];
        unsigned inputs = (1u << op->n_inputs) - 1, outputs = (1u << op->n_outputs) - 1;
        CHECK(op_find(op->name) == op, "two ops are called %s", op->name);
        CHECK(op->n_inputs <= OP_MAX_INPUTS && op->n_outputs >= 1 && op->n_outputs <= OP_MAX_OUTPUTS,
              "op %s: %d inputs, %d outputs", op->name, op->n_inputs, op->n_outputs);
        CHECK(!((op->differentiable | op->optional_inputs | op->backward_reads_inputs) & ~inputs),
              "op %s: a mask names an input it lacks", op->name);
        CHECK(!(op->backward_reads_outputs & ~outputs), "op %s: a mask names an output it lacks", op->name);
        for (int k = 0; k < op->n_inputs; k++)
            CHECK(!(op->half_inputs >> k & 1u) || op->input_types[k] == DTYPE_F32,
                  "op %s: half_inputs names %s, which is not real", op->name, op->input_names[k]);
        CHECK(op->shares_gradient < op->n_inputs, "op %s: shares_gradient %d", op->name, op->shares_gradient);
        CHECK(op->infer && op->cpu && op->reference_f32 && op->reference_f64, "op %s lacks a kernel",
              op->name);
        CHECK(op->n_cases > 0, "op %s has no test cases", op->name);
        CHECK(op->n_bench_cases > 0, "op %s has no bench cases", op->name);
        CHECK(!op->differentiable == !op->reference_f64->backward,
              "op %s: backward and differentiable disagree", op->name);
    }
}
