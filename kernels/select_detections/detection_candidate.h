/* From a row of predictions to scores and boxes; shared by the kernels of select_detections. */
#ifndef KERNELS_SELECT_DETECTIONS_DETECTION_CANDIDATE_H
#define KERNELS_SELECT_DETECTIONS_DETECTION_CANDIDATE_H

#include "box_decode/box_decode.h"
#include "box_math.h"
#include "image_info.h"
#include "select_detections/select_detections.h"

/* False: a score is not finite. */
static inline bool detection_softmax(REAL *scores, const REAL *logits, int64_t count) {
    REAL largest = logits[0], sum = 0;
    for (int64_t i = 1; i < count; i++) largest = box_max(largest, logits[i]);
    for (int64_t i = 0; i < count; i++) sum += scores[i] = exp(logits[i] - largest);
    for (int64_t i = 0; i < count; i++) scores[i] /= sum;
    return isfinite(sum);
}

/* False: the box is not finite. */
static inline bool detection_decode(REAL box[4], const select_detections_params *p, const REAL deltas[4],
                                    const REAL roi[5]) {
    box_decode_one(box, deltas, roi + 1, p->box_weights, BOX_DECODE_DEFAULT_CLIP);
    return isfinite(box[0]) && isfinite(box[1]) && isfinite(box[2]) && isfinite(box[3]);
}

static inline void detection_clip(REAL box[4], int32_t height, int32_t width) {
    for (int k = 0; k < 4; k++) box[k] = box_min(box_max(box[k], 0), (REAL)(k % 2 ? height : width));
}

/* Clipped box of a class; false: too small. */
static inline bool detection_candidate(REAL box[4], const select_detections_params *p, const REAL deltas[4],
                                       const REAL roi[5], const image_info *info) {
    detection_decode(box, p, deltas, roi);
    detection_clip(box, info->height, info->width);
    REAL least = (REAL)p->min_box_size;
    return box[2] - box[0] >= least && box[3] - box[1] >= least;
}

/* The box in the original image; false: empty there. */
static inline bool detection_to_original(REAL original[4], const REAL box[4], const image_info *info) {
    REAL x = (REAL)info->original_width / (REAL)info->width,
         y = (REAL)info->original_height / (REAL)info->height;
    for (int k = 0; k < 4; k++) original[k] = box[k] * (k % 2 ? y : x);
    detection_clip(original, info->original_height, info->original_width);
    return original[2] > original[0] && original[3] > original[1];
}

#endif
