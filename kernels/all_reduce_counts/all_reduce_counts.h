/* all_reduce_counts: two pairs of counts, each summed over all ranks in one collective: the normalisers of the losses.
 *
 *   a, b          f32 [2]
 *   a0 a1 b0 b1   f32 []  their sums, the same bits on every rank
 *
 * No gradient. */
#ifndef KERNELS_ALL_REDUCE_COUNTS_ALL_REDUCE_COUNTS_H
#define KERNELS_ALL_REDUCE_COUNTS_ALL_REDUCE_COUNTS_H

#include "autograd/op.h"

struct tape;

enum { ALL_REDUCE_A, ALL_REDUCE_B };
enum { ALL_REDUCE_COUNTS = 4 };

extern const op_def all_reduce_counts_op;
extern const op_kernel all_reduce_counts_reference_f32, all_reduce_counts_reference_f64;

void all_reduce_counts(struct tape *t, tensor *a, tensor *b, tensor *sums[ALL_REDUCE_COUNTS]);

#endif
