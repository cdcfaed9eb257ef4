/* all_reduce_counts: two short vectors joined and summed over all ranks, in one collective: the normalisers
 * of the losses.
 *
 *   a  f32 [n]     b  f32 [m]     y  f32 [n+m], the same bits on every rank
 *
 * No gradient. */
#ifndef KERNELS_ALL_REDUCE_COUNTS_ALL_REDUCE_COUNTS_H
#define KERNELS_ALL_REDUCE_COUNTS_ALL_REDUCE_COUNTS_H

#include "autograd/op.h"

struct tape;

enum { ALL_REDUCE_A, ALL_REDUCE_B };

extern const op_def all_reduce_counts_op;
extern const op_kernel all_reduce_counts_reference_f32, all_reduce_counts_reference_f64;

tensor *all_reduce_counts(struct tape *t, tensor *a, tensor *b);

#endif
