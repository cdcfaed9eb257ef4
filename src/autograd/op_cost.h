/* What calls of ops cost: arithmetic and memory traffic, from shapes. */
#ifndef AUTOGRAD_OP_COST_H
#define AUTOGRAD_OP_COST_H

#include "autograd/op.h"

/* Cost of a forward or backward call. Every row of a tensor counts, valid or not: describe fewer rows to cost fewer. Each tensor
 * is read or written once; an added-to gradient is both. Scratch does not count. Backward: only gradients that d_in wants. */
op_cost op_cost_of(const op_call *call, bool backward);

/* --- for op_def.cost ---------------------------------------------------------------------------------------------- */

/* Elements as a double; 0 for NULL. */
double op_cost_elements(const tensor *t);
double op_cost_bytes(const tensor *t);

/* Operations of a product (linear, convolution): `flops` forward, as many again in backward for each of the gradients of
 * inputs 0 and 1 that is wanted. */
double op_cost_of_product(const op_call *call, bool backward, double flops);

/* Comparing two boxes: corners of the overlap, its area, the quotient, the threshold. */
enum { OP_COST_IOU = 12 };

#endif
