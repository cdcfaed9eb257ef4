/* nms: greedy non-maximum suppression
 *
 *   boxes   [N,4]  real, x1 y1 x2 y2, continuous
 *   scores  [N]    real, any sign; NaN ranks last
 *   groups  [N]    i32, optional: only boxes of one group suppress each other (classes, levels); any value
 *   keep    [N]    i32: indices of the boxes that stay, by falling score, equal scores by rising index, over all
 *                  groups; its valid rows are `count`
 *   count   [1]    i32
 *
 * A box goes when its IoU with a box of higher rank that stays is > iou_threshold. IoU is intersection over
 * union without +1; two boxes without area do not overlap. Rows behind boxes->rows do not take part. No
 * gradient. */
#ifndef KERNELS_NMS_NMS_H
#define KERNELS_NMS_NMS_H

#include "autograd/op.h"

struct tape;

typedef struct nms_params {
    double iou_threshold; /* 0..1 */
} nms_params;

enum { NMS_BOXES, NMS_SCORES, NMS_GROUPS };

extern const op_def nms_op;
extern const op_kernel nms_reference_f32, nms_reference_f64, nms_sorted;

/* Returns keep; its rows are the count. */
tensor *nms(struct tape *t, tensor *boxes, tensor *scores, tensor *groups, const nms_params *params);

#endif
