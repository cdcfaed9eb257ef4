/* Rules that the kernels of rpn_targets share. */
#ifndef KERNELS_RPN_TARGETS_RPN_LABEL_H
#define KERNELS_RPN_TARGETS_RPN_LABEL_H

#include "base/philox.h"
#include "box_math.h"
#include "image_info.h"
#include "rpn_targets/rpn_targets.h"

enum { RPN_IGNORED = -1, RPN_BACKGROUND = 0, RPN_OBJECT = 1 };

static inline int rpn_label(const rpn_targets_params *p, REAL best_iou, bool best_of_object) {
    if (best_of_object || best_iou >= (REAL)p->iou_foreground) return RPN_OBJECT;
    return best_iou < (REAL)p->iou_background ? RPN_BACKGROUND : RPN_IGNORED;
}

static inline bool rpn_inside(const rpn_targets_params *p, const float anchor[4], const image_info *info) {
    if (p->straddle < 0) return true;
    float limit = (float)p->straddle;
    return anchor[0] >= -limit && anchor[1] >= -limit && anchor[2] < (float)info->width + limit &&
           anchor[3] < (float)info->height + limit;
}

static inline philox_key rpn_sample_key(const op_call *call, int64_t image) {
    const rpn_targets_params *p = call->params;
    const image_info *info = (const image_info *)call->in[RPN_TARGETS_INFO]->data + image;
    return (philox_key){p->seed, PHILOX_RPN_SAMPLE, (uint32_t)*tensor_i32(call->in[RPN_TARGETS_STEP]),
                        image_info_id(info)};
}

static inline int64_t rpn_gt_count(const op_call *call, int64_t image) {
    int64_t capacity = call->in[RPN_TARGETS_GT_BOXES]->shape[1],
            count = tensor_i32(call->in[RPN_TARGETS_GT_COUNT])[image];
    return count < 0 ? 0 : count < capacity ? count : capacity;
}

/* Samples wanted of an image, and the limit of objects among them. */
static inline int64_t rpn_batch(const rpn_targets_params *p, const anchor_grid *grid) {
    return p->batch_size_per_image < grid->count ? p->batch_size_per_image : grid->count;
}

static inline int64_t rpn_max_objects(const rpn_targets_params *p, const anchor_grid *grid) {
    int64_t most = (int64_t)((double)p->batch_size_per_image * p->positive_fraction),
            batch = rpn_batch(p, grid);
    return most < batch ? most : batch;
}

/* Writes row `row` for one sampled anchor; `gt` is its object's box, NULL for background. */
static inline void rpn_write_sample(const op_call *call, const anchor_grid *grid, int64_t row, int64_t image,
                                    int64_t anchor, const REAL *gt) {
    const rpn_targets_params *p = call->params;
    REAL *targets = (REAL *)call->out[RPN_TARGETS_BOX_TARGETS]->data + 4 * row;
    tensor_i32(call->out[RPN_TARGETS_INDEX])[row] = (int32_t)(image * grid->count + anchor);
    ((REAL *)call->out[RPN_TARGETS_LABELS]->data)[row] = gt ? 1 : 0;
    ((REAL *)call->out[RPN_TARGETS_BOX_WEIGHTS]->data)[row] = gt ? 1 : 0;
    for (int k = 0; k < 4; k++) targets[k] = 0;
    if (!gt) return;
    float box[4];
    anchor_box(box, grid, anchor);
    box_encode_one(targets, gt, (const REAL[4]){box[0], box[1], box[2], box[3]}, p->box_weights);
}

static inline void rpn_write_counts(const op_call *call, int64_t rows, int64_t objects) {
    REAL *sampled = call->out[RPN_TARGETS_SAMPLED]->data;
    *tensor_i32(call->out[RPN_TARGETS_COUNT]) = (int32_t)rows;
    sampled[0] = (REAL)rows;
    sampled[1] = (REAL)objects;
}

#endif
