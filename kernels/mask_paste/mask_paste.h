/* mask_paste: the mask head's maps as run lengths of the original image
 *
 *   probs   [M,S,S]         real: probability of each cell of the box, row-major
 *   boxes   [M,4]           real: x1 y1 x2 y2 in pixels of the original image; may reach beyond it
 *   rois    [M,5]           real: image, then what is not read here
 *   info    [N,8]           i32: image_info rows; only the original size is read
 *
 *   runs    [M,capacity]    i32: COCO run lengths, down the columns of the whole original image, zeros first; rows of
 *                           probs; numbers behind a mask's count are not written
 *   counts  [M]             i32: runs used; -1: more than `capacity` were needed, the runs then have no meaning
 *
 * Pixels between cell centres get bilinear values, cells outside the map count 0.
 *
 * MASK_PASTE_GRID_SAMPLE (detectron2's paste_masks_in_image): pixel x is the place ((x + .5 - x1) / (x2 - x1)) S - .5
 * of the map; set where the value >= threshold. Only pixels from floor(x1) - 1 up to ceil(x2) take part. A box without
 * area gives an empty mask.
 *
 * MASK_PASTE_RESIZE (torchvision's paste_masks_in_image): the map gets a ring of zeros, the box is enlarged around its
 * centre by (S+2)/S and its corners are truncated to integers; the map is resized to w = max(x2 - x1 + 1, 1) pixels
 * per axis (half-pixel centres); set where the value > threshold.
 *
 * A box with a coordinate that is not finite, or beyond 2^30, gives an empty mask. Along a column the value is
 * monotone between two cell centres, in floating point too; so a column has at most (S+1)/2 stretches. No gradient. */
#ifndef KERNELS_MASK_PASTE_MASK_PASTE_H
#define KERNELS_MASK_PASTE_MASK_PASTE_H

#include "autograd/op.h"

struct tape;

typedef enum mask_paste_rule { MASK_PASTE_GRID_SAMPLE, MASK_PASTE_RESIZE } mask_paste_rule;

typedef struct mask_paste_params {
    int rule;         /* mask_paste_rule */
    double threshold; /* above 0, at most 1 */
    int capacity;     /* runs of a mask */
} mask_paste_params;

enum { MASK_PASTE_MAX_SIDE = 1024 };

/* Runs that suffice for every map of S x S in an image of this width. */
static inline int64_t mask_paste_capacity(int side, int64_t width) {
    return (side + 1) * width + 1;
}

enum { MASK_PASTE_PROBS, MASK_PASTE_BOXES, MASK_PASTE_ROIS, MASK_PASTE_INFO, MASK_PASTE_INPUTS };
enum { MASK_PASTE_RUNS, MASK_PASTE_COUNTS, MASK_PASTE_OUTPUTS };

extern const op_def mask_paste_op;
extern const op_kernel mask_paste_reference_f32, mask_paste_reference_f64, mask_paste_by_column;

typedef struct mask_paste_result {
    tensor *runs, *counts;
} mask_paste_result;

mask_paste_result mask_paste(struct tape *t, tensor *const in[MASK_PASTE_INPUTS],
                             const mask_paste_params *params);

#endif
