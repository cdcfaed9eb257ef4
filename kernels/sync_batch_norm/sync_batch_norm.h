/* sync_batch_norm: y = relu?((x - mean) / sqrt(var + eps) * weight + bias), mean and var taken over the images
 * and pixels of all ranks of call->comm, or with `local` of this rank alone (plain batch norm).
 *
 *   x                [N,H,W,C]  real; rows behind x->rows are neither read nor written; N, H, W may differ
 *                               between ranks, also be 0
 *   weight, bias     [C]        real
 *   running_mean     [C]        real
 *   running_var      [C]        real
 *   y                [N,H,W,C]
 *   new_running_mean [C]        (1 - momentum) * old + momentum * statistic, where the statistic's variance is
 *   new_running_var  [C]        the unbiased one, n/(n-1) (0 for n = 1); the old ones if n = 0. Both may lie on
 *                               the memory of the old ones.
 *   saved_statistics [3,C]      for backward: mean, what rounding took off the mean, 1/sqrt(var + eps)
 *
 * Backward, with g = d_y (masked by y > 0 when relu), h = (x - mean)/sqrt(var + eps), n pixels on all ranks:
 *   d_bias = sum g, d_weight = sum g h: sums of THIS rank, as for every parameter; the gradients' all-reduce
 *   adds the ranks up later. d_x = weight/sqrt(var + eps) * (g - sum g / n - h * sum(g h) / n) with sums over
 *   all ranks.
 *
 * Forward and the backward for d_x are collective unless `local`: every rank calls them. */
#ifndef KERNELS_SYNC_BATCH_NORM_SYNC_BATCH_NORM_H
#define KERNELS_SYNC_BATCH_NORM_SYNC_BATCH_NORM_H

#include "autograd/op.h"

struct tape;

typedef struct sync_batch_norm_params {
    double eps;      /* inside the root; >= 0 */
    double momentum; /* weight of the new statistic, 0..1 */
    bool relu;
    bool local; /* not an attribute of the `op` command */
} sync_batch_norm_params;

enum {
    SYNC_BATCH_NORM_X,
    SYNC_BATCH_NORM_WEIGHT,
    SYNC_BATCH_NORM_BIAS,
    SYNC_BATCH_NORM_MEAN,
    SYNC_BATCH_NORM_VAR
};
enum { SYNC_BATCH_NORM_Y, SYNC_BATCH_NORM_NEW_MEAN, SYNC_BATCH_NORM_NEW_VAR, SYNC_BATCH_NORM_SAVED };

extern const op_def sync_batch_norm_op;
extern const op_kernel sync_batch_norm_reference_f32, sync_batch_norm_reference_f64, sync_batch_norm_tiled;

/* `in` holds the five inputs in the order above. The new running statistics replace the old ones: they are
 * bound to the data of in[3] and in[4]. Returns y. */
tensor *sync_batch_norm(struct tape *t, tensor *const in[5], const sync_batch_norm_params *params);

#endif
