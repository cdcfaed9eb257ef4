/* mask_targets: what the mask head should say for each object RoI
 *
 *   rois     [M,5]        real: image, x1 y1 x2 y2 in pixels of the resized image
 *   gt       [M]          i32: image * G + object
 *   records  [N,G,8]      i32: gt_mask_record (src/data/gt_masks.h); offsets count from the start of `blob`
 *   blob     [B]          u8: their payloads, in pixels of the original image
 *   info     [N,8]        i32: image_info rows: the way from original to resized (and mirrored) pixels
 *   targets  [M,S,S]      real: share of each cell that is object; rows of rois
 *
 * Polygons, by default: scaled to the S x S frame of the RoI and rasterised there with pycocotools' rule, 0
 * or 1 (detectron2's rasterize_polygons_within_box). Bitmaps, and polygons with `bitmaps`: the object as a
 * bitmap of the resized image, RoIAlign of it with adaptive sampling and aligned corners, 1 from 0.5 on
 * (detectron2's BitMasks). With `soft`, torchvision's way for both: the bitmap of the original image, resized
 * to the nearest pixel; RoIAlign without alignment, and its values as they are. Resized bitmaps take the
 * original pixel floor((i + .5) in/out) (Pillow), soft ones floor(i in/out) (PyTorch). No gradient. */
#ifndef KERNELS_MASK_TARGETS_MASK_TARGETS_H
#define KERNELS_MASK_TARGETS_MASK_TARGETS_H

#include "autograd/op.h"

struct tape;

typedef struct mask_targets_params {
    int resolution; /* S */
    bool soft;
    bool bitmaps;                        /* INPUT.MASK_FORMAT bitmask */
    int64_t canvas_height, canvas_width; /* no resized image is larger */
} mask_targets_params;

enum {
    MASK_TARGETS_ROIS,
    MASK_TARGETS_GT,
    MASK_TARGETS_RECORDS,
    MASK_TARGETS_BLOB,
    MASK_TARGETS_INFO,
    MASK_TARGETS_INPUTS
};

extern const op_def mask_targets_op;
extern const op_kernel mask_targets_reference_f32, mask_targets_reference_f64;

tensor *mask_targets(struct tape *t, tensor *const in[MASK_TARGETS_INPUTS],
                     const mask_targets_params *params);

#endif
