/* roi_targets: which proposals train the heads, and what they should say, per image
 *
 *   proposals    [N,P,4]  real: boxes in pixels of the resized image
 *   counts       [N]      i32: valid proposals
 *   gt_boxes     [N,G,4]  real: objects; G may be 0
 *   gt_labels    [N,G]    i32: class 0..K-1
 *   gt_count     [N]      i32: valid objects
 *   info         [N,8]    i32: image_info rows
 *   step         [1]      i32: iteration
 *   ids          [N,P]    i32, optional: what names a proposal in the draw, e.g. its anchor; absent: its position
 *
 *   rois         [R,5]    real: image, x1 y1 x2 y2; the next three have its rows, counted by `count`
 *   labels       [R]      i32: 0 background, else class + 1
 *   box_targets  [R,4]    real: deltas to the object with the largest IoU (the first of equals); 0 for background
 *   box_weights  [R]      real: 1 object, 0 background
 *   count        [1]      i32
 *   mask_rois    [M,5]    real: the objects among rois; the next two have its rows, counted by `mask_count`
 *   mask_labels  [M]      i32: class + 1
 *   mask_gt      [M]      i32: image * G + object
 *   mask_count   [1]      i32
 *   sampled      [2]      real: rois, objects among them
 *
 * Candidates of an image are its proposals and, with append_gt, its objects behind them: R = N min(batch, P +
 * G), M = N min(int(batch * fraction), P + G). A candidate is an object from IoU iou_foreground on, else
 * background. At most int(batch * fraction) objects, filled up with background, are drawn without replacement
 * by philox(seed, iteration, image id, id of the proposal or number of the object): nothing else decides, so
 * proposals that change places change no draw. Samples of an image stand together, objects first, by rising
 * candidate. No gradient. */
#ifndef KERNELS_ROI_TARGETS_ROI_TARGETS_H
#define KERNELS_ROI_TARGETS_ROI_TARGETS_H

#include "autograd/op.h"

struct tape;

typedef struct roi_targets_params {
    bool append_gt;
    double iou_foreground;
    int batch_size_per_image;
    double positive_fraction;
    double box_weights[4];
    uint64_t seed;
} roi_targets_params;

enum {
    ROI_TARGETS_PROPOSALS,
    ROI_TARGETS_COUNTS,
    ROI_TARGETS_GT_BOXES,
    ROI_TARGETS_GT_LABELS,
    ROI_TARGETS_GT_COUNT,
    ROI_TARGETS_INFO,
    ROI_TARGETS_STEP,
    ROI_TARGETS_IDS,
    ROI_TARGETS_INPUTS
};

enum {
    ROI_TARGETS_ROIS,
    ROI_TARGETS_LABELS,
    ROI_TARGETS_BOX_TARGETS,
    ROI_TARGETS_BOX_WEIGHTS,
    ROI_TARGETS_COUNT,
    ROI_TARGETS_MASK_ROIS,
    ROI_TARGETS_MASK_LABELS,
    ROI_TARGETS_MASK_GT,
    ROI_TARGETS_MASK_COUNT,
    ROI_TARGETS_SAMPLED,
    ROI_TARGETS_OUTPUTS
};

extern const op_def roi_targets_op;
extern const op_kernel roi_targets_reference_f32, roi_targets_reference_f64;

typedef struct roi_targets_result {
    tensor *rois, *labels, *box_targets, *box_weights, *count;
    tensor *mask_rois, *mask_labels, *mask_gt, *mask_count;
    tensor *sampled;
} roi_targets_result;

roi_targets_result roi_targets(struct tape *t, tensor *const in[ROI_TARGETS_INPUTS],
                               const roi_targets_params *params);

#endif
