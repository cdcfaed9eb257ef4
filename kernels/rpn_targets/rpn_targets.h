/* rpn_targets: which anchors train the RPN, and what they should say, per image
 *
 *   gt_boxes    [N,G,4]  real: objects, x1 y1 x2 y2 in pixels of the resized image; G may be 0
 *   gt_count    [N]      i32: valid objects
 *   info        [N,8]    i32: image_info rows
 *   step        [1]      i32: iteration
 *   index       [S]      i32: image * anchors per image + anchor; counted by `count`
 *   labels      [S]      real: 1 object, 0 background
 *   box_weights [S]      real: 1 object, 0 background
 *   box_targets [S,4]    real: deltas to the object with the largest IoU; 0 for background
 *   count       [1]      i32: sampled anchors
 *   sampled     [2]      real: sampled anchors, objects among them
 *
 * S = N * min(batch_size_per_image, anchors per image). An anchor is an object from IoU iou_foreground on, or
 * where no anchor overlaps some object more (all exact ties; not at IoU 0); background below iou_background;
 * else ignored, and so are anchors that reach `straddle` pixels out of the resized image, if that is >= 0
 * (detectron2's BOUNDARY_THRESH). Anchors over the padding take part. At most int(batch * positive_fraction)
 * objects, filled up with background, are drawn without replacement by philox(seed, iteration, image id,
 * anchor): nothing else decides. Samples of an image stand together, objects first, by rising anchor. The
 * anchors x objects matrix is never built. No gradient. */
#ifndef KERNELS_RPN_TARGETS_RPN_TARGETS_H
#define KERNELS_RPN_TARGETS_RPN_TARGETS_H

#include "anchors.h"
#include "autograd/op.h"

struct tape;

typedef struct rpn_targets_params {
    anchor_spec anchors;
    int64_t canvas_height, canvas_width;
    double iou_background, iou_foreground;
    int batch_size_per_image;
    double positive_fraction;
    int straddle; /* -1: all anchors */
    double box_weights[4];
    uint64_t seed;
} rpn_targets_params;

enum { RPN_TARGETS_GT_BOXES, RPN_TARGETS_GT_COUNT, RPN_TARGETS_INFO, RPN_TARGETS_STEP, RPN_TARGETS_INPUTS };

enum {
    RPN_TARGETS_INDEX,
    RPN_TARGETS_LABELS,
    RPN_TARGETS_BOX_WEIGHTS,
    RPN_TARGETS_BOX_TARGETS,
    RPN_TARGETS_COUNT,
    RPN_TARGETS_SAMPLED,
    RPN_TARGETS_OUTPUTS
};

extern const op_def rpn_targets_op;
extern const op_kernel rpn_targets_reference_f32, rpn_targets_reference_f64, rpn_targets_bands;

typedef struct rpn_targets_result {
    tensor *index, *labels, *box_weights, *box_targets; /* rows are `count` */
    tensor *count, *sampled;
} rpn_targets_result;

rpn_targets_result rpn_targets(struct tape *t, tensor *const in[RPN_TARGETS_INPUTS],
                               const rpn_targets_params *params);

#endif
