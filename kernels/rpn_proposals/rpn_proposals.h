/* rpn_proposals: the boxes that the RPN hands to the heads, per image
 *
 *   logits0..4  [N,h,w,A]   real: objectness of each level's anchors; levels behind anchors.levels are absent
 *   deltas0..4  [N,h,w,4A]  real: anchor a's dx dy dw dh are channels 4a..4a+3
 *   info        [N,8]       i32: image_info rows
 *   proposals   [N,P,4]     real: boxes clipped to the resized image, by falling score; P = post_nms_topk; unused
 *                           rows are 0
 *   scores      [N,P]       real: their logits; 0 in unused rows
 *   anchors     [N,P]       i32: number of the anchor each came from (see anchors.h); -1 in unused rows
 *   counts      [N]         i32: used rows
 *
 * Per level: the pre_nms_topk largest logits (ties by lower index), decoded, clipped to the image, small ones
 * dropped, suppressed among themselves. Then the post_nms_topk best of all levels (ties by level, then rank).
 * Anchors whose logit or decoded box is not finite are dropped: the loss reports them. No gradient. As
 * detectron2's find_top_rpn_proposals and torchvision's filter_proposals. */
#ifndef KERNELS_RPN_PROPOSALS_RPN_PROPOSALS_H
#define KERNELS_RPN_PROPOSALS_RPN_PROPOSALS_H

#include "anchors.h"
#include "autograd/op.h"

struct tape;

typedef struct rpn_proposals_params {
    anchor_spec anchors;
    int64_t canvas_height, canvas_width;
    int pre_nms_topk;  /* per level */
    int post_nms_topk; /* per image */
    double nms_threshold;
    double min_size;         /* sides of a clipped box must be larger, */
    bool min_size_inclusive; /* or equal (torchvision: 1e-3, inclusive; detectron2: 0, exclusive) */
    double box_weights[4];   /* of the deltas */
} rpn_proposals_params;

enum {
    RPN_PROPOSALS_LOGITS = 0,
    RPN_PROPOSALS_DELTAS = ANCHOR_MAX_LEVELS,
    RPN_PROPOSALS_INFO = 2 * ANCHOR_MAX_LEVELS,
    RPN_PROPOSALS_INPUTS
};

enum {
    RPN_PROPOSALS_BOXES,
    RPN_PROPOSALS_SCORES,
    RPN_PROPOSALS_ANCHORS,
    RPN_PROPOSALS_COUNTS,
    RPN_PROPOSALS_OUTPUTS
};

extern const op_def rpn_proposals_op;
extern const op_kernel rpn_proposals_reference_f32, rpn_proposals_reference_f64, rpn_proposals_topk;

typedef struct rpn_proposals_result {
    tensor *proposals, *scores, *anchors, *counts;
} rpn_proposals_result;

rpn_proposals_result rpn_proposals(struct tape *t, tensor *const in[RPN_PROPOSALS_INPUTS],
                                   const rpn_proposals_params *params);

#endif
