/* From an anchor's deltas to a box that takes part; shared by the kernels of rpn_proposals. */
#ifndef KERNELS_RPN_PROPOSALS_RPN_CANDIDATE_H
#define KERNELS_RPN_PROPOSALS_RPN_CANDIDATE_H

#include "box_decode/box_decode.h"
#include "box_math.h"
#include "image_info.h"
#include "rpn_proposals/rpn_proposals.h"

static inline REAL rpn_clip(REAL value, int32_t size) {
    return value < 0 ? 0 : value > (REAL)size ? (REAL)size : value;
}

/* False: the box is dropped. `index` counts the level's anchors. */
static inline bool rpn_candidate(REAL box[4], const rpn_proposals_params *p, const anchor_level *level,
                                 int64_t index, const REAL deltas[4], const image_info *info) {
    float anchor[4];
    int per_cell = p->anchors.n_sizes[0] * p->anchors.n_ratios[0];
    int64_t cell = index / per_cell;
    anchor_box_at(anchor, level, cell / level->width, cell % level->width, (int)(index % per_cell));
    const REAL reference[4] = {anchor[0], anchor[1], anchor[2], anchor[3]};
    box_decode_one(box, deltas, reference, p->box_weights, BOX_DECODE_DEFAULT_CLIP);
    for (int k = 0; k < 4; k++) {
        if (!isfinite(box[k])) return false;
        box[k] = rpn_clip(box[k], k % 2 ? info->height : info->width);
    }
    REAL min_size = (REAL)p->min_size, w = box[2] - box[0], h = box[3] - box[1];
    return p->min_size_inclusive ? w >= min_size && h >= min_size : w > min_size && h > min_size;
}

#endif
