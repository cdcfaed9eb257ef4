/* What the graphs of training and of inference record alike: the image, its maps, the RPN, its proposals, the heads over
 * regions. Every function appends to the tape it is given. */
#ifndef MODEL_FORWARD_H
#define MODEL_FORWARD_H

#include "model/mask_rcnn.h"
#include "rpn_proposals/rpn_proposals.h"

/* bytes u8 [B] and table i32 [N,8] as image_pack takes them -> f32 [N,height,width,3], normalised and padded. */
tensor *forward_images(tape *t, const pixel_spec *pixels, tensor *bytes, tensor *table, int64_t height,
                       int64_t width);

/* Backbone and FPN: images [N,H,W,3] -> P2..P6; without FPN C4 alone, and NULLs. */
void forward_levels(const mask_rcnn *model, graph *g, tensor *images, tensor *levels[FPN_LEVELS]);

typedef struct forward_rpn {
    tensor *logits[FPN_LEVELS], *deltas[FPN_LEVELS];
} forward_rpn;

forward_rpn forward_rpn_heads(const mask_rcnn *model, graph *g, tensor *const levels[FPN_LEVELS]);

/* Proposals with the top-k of training or of testing. `images` gives the canvas only. */
rpn_proposals_result forward_proposals(const mask_rcnn *model, tape *t, const forward_rpn *rpn, tensor *info,
                                       const tensor *images, bool testing);

typedef struct forward_boxes {
    tensor *scores, *deltas; /* [R,K+1], [R,4(K+1)] */
    tensor *features; /* MAPS_C4: res5 of the regions [R,Q,Q,C], which their masks are read from; else NULL */
} forward_boxes;

/* Pools rois [R,5] and predicts. */
forward_boxes forward_box_head(const mask_rcnn *model, graph *g, tensor *const levels[FPN_LEVELS],
                               tensor *rois);

/* rois [R,5] -> what the mask head reads [R,Q,Q,C]: pooled, with MAPS_C4 through res5. */
tensor *forward_mask_features(const mask_rcnn *model, graph *g, tensor *const levels[FPN_LEVELS],
                              tensor *rois);

#endif
