/* One op on made-up data in a device's memory, run again and again: what `bench op` times. Inputs are filled as a test case says
 * (op_case) but for large ones, which repeat their first million values; gradients arrive at all outputs that carry one, and
 * all inputs that can have one get theirs. */
#ifndef BENCH_OP_TIMER_H
#define BENCH_OP_TIMER_H

#include "autograd/op.h"
#include "device/device.h"

typedef struct op_timer op_timer;

typedef struct op_timer_options {
    dtype storage;  /* of half inputs, where the op has them; F32 on the CPU */
    bool tf32;      /* products of floats may be rounded */
    bool backward;  /* make room for gradients; ignored where the op has none */
    size_t limit;   /* bytes that the tensors may take, 0: any */
    double seconds; /* that repetitions should fill; 0: a fifth of a second */
    double enough;  /* a run that takes longer is the result, without repetition; 0: none is */
} op_timer_options;

/* `op` and `c` are borrowed. OS: more than the limit, or no memory; DATA: the op refuses the case. */
status op_timer_new(op_timer **out, device *dev, const op_def *op, const op_case *c,
                    const op_timer_options *options);
void op_timer_free(op_timer *r);

const op_call *op_timer_call(const op_timer *r);
bool op_timer_has_backward(const op_timer *r);

/* Seconds of one forward (backward) of `kernel`, which runs on this device: the median of as many repetitions as
 * options.seconds hold, at least three, after warm-up; see options.enough. By the clock of the CPU, by timed events on a GPU. Backward runs on what
 * the last forward left. OS: no memory. */
status op_timer_seconds(double *seconds, op_timer *r, const op_kernel *kernel, bool backward);

#endif
