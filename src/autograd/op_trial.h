/* One test case of an op laid out in memory: every tensor and the scratch between guard zones, everything a
 * kernel has to write poisoned with NaN first, everything it may not read poisoned as well. grad_check
 * stands on it.
 *
 * Inputs are a function of op, case and input number (Philox), rounded to what they are stored as; the f64 trial holds the
 * same numbers, so results differ by the kernel's arithmetic only. */
#ifndef AUTOGRAD_OP_TRIAL_H
#define AUTOGRAD_OP_TRIAL_H

#include "autograd/op.h"

typedef struct guarded_block {
    unsigned char *block; /* guard, data, guard */
    size_t bytes;         /* of the data */
} guarded_block;

struct device;

typedef struct op_trial {
    op_call call; /* points into the tensors below: a trial does not move */
    const op_case *test_case;
    const struct op_trial *numbers; /* whose rounding this one's gradients take; NULL: its own */
    tensor in[OP_MAX_INPUTS], out[OP_MAX_OUTPUTS], d_in[OP_MAX_INPUTS], d_out[OP_MAX_OUTPUTS], rows;
    guarded_block in_memory[OP_MAX_INPUTS], out_memory[OP_MAX_OUTPUTS], d_in_memory[OP_MAX_INPUTS],
        d_out_memory[OP_MAX_OUTPUTS], scratch_memory;
    void *saved_in[OP_MAX_INPUTS]; /* the inputs as filled; f32 or f64 like the tensors */
    int32_t valid_rows;
} op_trial;

/* What op_trial_backward asks for. */
typedef struct op_trial_request {
    unsigned wanted;     /* bit mask of inputs */
    unsigned arrived;    /* bit mask of outputs whose gradient is there */
    bool accumulate;     /* add to op_trial_base() instead of overwriting */
    bool share_gradient; /* give d_in[shares_gradient] the memory of d_out[0] */
} op_trial_request;

/* A trial whose half inputs and gradients are stored as F32, BF16 or F16. Fails if the op's shape rule refuses the case. */
status op_trial_new(op_trial **out, const op_def *op, const op_case *test_case, dtype storage);

/* An f64 trial with the numbers of `narrow`, which outlives it. */
status op_trial_new_wide(op_trial **out, const op_trial *narrow);
void op_trial_free(op_trial *t);

/* Kernels of the trials to come run on this device: every block, guards included, is copied there before a kernel and back
 * after it. NULL: on the host's memory, as at the start. `d` is borrowed. */
void op_trial_use_device(struct device *d);

/* Trials made from now on let kernels round F32 inputs of products to TF32 (op_call.tf32), or not, as at the start. */
void op_trial_allow_tf32(bool allow);

/* Restores the inputs, poisons outputs and scratch and runs the kernel. */
void op_trial_forward(op_trial *t, const op_kernel *kernel);

/* Runs forward, then poisons what the op does not declare as read by backward, and runs backward. */
void op_trial_backward(op_trial *t, const op_kernel *kernel, const op_trial_request *request);

/* Outputs that can carry a gradient: real ones outside op->constant_outputs. */
unsigned op_trial_gradient_outputs(const op_trial *t);

/* What accumulating gradients are added to, and the gradient that arrives at element i of an output. */
double op_trial_base(const op_trial *t, int input, int64_t index);
double op_trial_d_out(const op_trial *t, int output, int64_t index);

/* After a run: NULL, or which tensor's guard zone, input or row behind the count was written (static text). */
const char *op_trial_damage(const op_trial *t);

#endif
