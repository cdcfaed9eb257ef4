/* Checks an op on one of its cases:
 *
 * - every kernel's outputs against the double reference, within the op's tolerances;
 * - every kernel's gradients, wanted together and one by one, overwriting and accumulating, for every subset
 * of one output's gradient, and with the memory of d_in[shares_gradient] shared;
 * - the double reference's gradients against finite differences, at 1e-6 of the gradient's scale;
 * - that nothing is written beside tensors or behind the valid rows, no input is changed, and nothing
 * undeclared or uninitialised is read (it is poisoned with NaN);
 * - that 1, 2 and 3 threads give equal bits.
 *
 * Leaves the thread pool at one thread. */
#ifndef AUTOGRAD_GRAD_CHECK_H
#define AUTOGRAD_GRAD_CHECK_H

#include "autograd/op.h"

#include <stdio.h>

/* Number of failures; each is one line on `report`, naming op, case, kernel, tensor, index and values. */
int grad_check_case(const op_def *op, const op_case *test_case, FILE *report);

/* All cases; also prints one summary line with the worst share of the tolerance that was used. */
int grad_check_op(const op_def *op, FILE *report);

typedef struct grad_check_options {
    /* Called before each of three rounds (0, 1, 2) whose results must be equal bit for bit: it changes the order in which the
     * kernel's parts run. NULL: this is not checked. */
    void (*vary)(int round);
    double slack; /* the op's tolerances times this, for kernels that round inputs (TF32); 0: 1 */
} grad_check_options;

/* The same for kernels that are not in the op's table (another device's; see op_trial_use_device), NULL behind the last; the
 * op's own kernels and its double reference are taken as right. Ops with 16-bit inputs or outputs (op_has_half) are checked
 * as F32, BF16 and F16. */
int grad_check_kernels(const op_def *op, const op_kernel *const *kernels, const grad_check_options *options,
                       FILE *report);

#endif
