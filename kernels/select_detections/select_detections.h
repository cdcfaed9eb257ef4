/* select_detections: from the box head's predictions to an image's detections
 *
 *   logits    [R,K+1]     real: class 0 is background; logits, deltas and rois have the same rows
 *   deltas    [R,4(K+1)]  real: dx dy dw dh of each class; those of class 0 are not read
 *   rois      [R,5]       real: image, x1 y1 x2 y2 in pixels of the resized image; images in any order
 *   info      [N,8]       i32: image_info rows
 *
 *   boxes     [N*D,4]     real: x1 y1 x2 y2 in pixels of the original image, inside it, never empty
 *   det_rois  [N*D,5]     real: image, the same box in pixels of the resized image
 *   scores    [N*D]       real: probability of the label
 *   labels    [N*D]       i32: class + 1, the mask head's channel
 *   count     [1]         i32: detections of all images; the rows of the four above: image 0's first, without gaps,
 *                         in each by falling score
 *   counts    [N]         i32: detections of each image
 *
 * Scores are the softmax over K+1. Boxes are decoded for each class (dw, dh <= log(1000/16)) and clipped to the
 * resized image. A row with a score or a box that is not finite is dropped. Candidates have a score above
 * score_threshold and both sides >= min_box_size; each class is suppressed by itself (IoU > nms_threshold, exact
 * coordinates); the D best of all classes are kept, ties by rising roi, then class. Then boxes are multiplied by
 * original / resized per axis and clipped to the original image; those that are empty there are dropped (so with
 * min_box_size 0 they take places among the D, as in detectron2). No gradient. As detectron2's fast_rcnn_inference
 * and detector_postprocess (min_box_size 0) and torchvision's postprocess_detections and resize_boxes (1e-2). */
#ifndef KERNELS_SELECT_DETECTIONS_SELECT_DETECTIONS_H
#define KERNELS_SELECT_DETECTIONS_SELECT_DETECTIONS_H

#include "autograd/op.h"

struct tape;

typedef struct select_detections_params {
    double score_threshold; /* 0..1 */
    double nms_threshold;   /* 0..1 */
    int max_detections;     /* D, per image */
    double min_box_size;    /* pixels of the resized image */
    double box_weights[4];  /* of the deltas */
} select_detections_params;

enum {
    SELECT_DETECTIONS_LOGITS,
    SELECT_DETECTIONS_DELTAS,
    SELECT_DETECTIONS_ROIS,
    SELECT_DETECTIONS_INFO,
    SELECT_DETECTIONS_INPUTS
};

enum {
    SELECT_DETECTIONS_BOXES,
    SELECT_DETECTIONS_DET_ROIS,
    SELECT_DETECTIONS_SCORES,
    SELECT_DETECTIONS_LABELS,
    SELECT_DETECTIONS_COUNT,
    SELECT_DETECTIONS_COUNTS,
    SELECT_DETECTIONS_OUTPUTS
};

extern const op_def select_detections_op;
extern const op_kernel select_detections_reference_f32, select_detections_reference_f64,
    select_detections_by_class;

typedef struct select_detections_result {
    tensor *boxes, *det_rois, *scores, *labels, *count, *counts;
} select_detections_result;

select_detections_result select_detections(struct tape *t, tensor *const in[SELECT_DETECTIONS_INPUTS],
                                           const select_detections_params *params);

#endif
