/* group_norm: y = relu?((x - mean) / sqrt(var + eps) * weight + bias); mean and biased variance are taken for
 * each image and each group of C/groups consecutive channels, over H, W and those channels.
 *
 *   x                [N,H,W,C]     real; rows behind x->rows are neither read nor written
 *   weight, bias     [C]           real
 *   y                [N,H,W,C]
 *   saved_statistics [N,3,groups]  for backward: mean, what rounding took off the mean, 1/sqrt(var + eps)
 *
 * Backward, with g = d_y (masked by y > 0 when relu), h = (x - mean)/sqrt(var + eps), n elements in a group:
 *   d_bias = sum g, d_weight = sum g h over images and pixels,
 *   d_x = 1/sqrt(var + eps) * (g weight - sum(g weight) / n - h * sum(g weight h) / n), sums over the group. */
#ifndef KERNELS_GROUP_NORM_GROUP_NORM_H
#define KERNELS_GROUP_NORM_GROUP_NORM_H

#include "autograd/op.h"

struct tape;

typedef struct group_norm_params {
    int groups; /* divides C */
    double eps; /* inside the root; >= 0 */
    bool relu;
} group_norm_params;

enum { GROUP_NORM_X, GROUP_NORM_WEIGHT, GROUP_NORM_BIAS };
enum { GROUP_NORM_Y, GROUP_NORM_SAVED };

extern const op_def group_norm_op;
extern const op_kernel group_norm_reference_f32, group_norm_reference_f64, group_norm_tiled;

tensor *group_norm(struct tape *t, tensor *x, tensor *weight, tensor *bias, const group_norm_params *params);

#endif
