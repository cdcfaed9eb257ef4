/* proposal_rois: the proposals of all images as one list of regions
 *
 *   proposals  [N,P,4]  real: x1 y1 x2 y2, as rpn_proposals gives them
 *   counts     [N]      i32: used proposals of each image, 0..P
 *   rois       [N*P,5]  real: image, x1 y1 x2 y2; image 0's first, without gaps; rows counted by `count`
 *   count      [1]      i32: the sum of counts
 *
 * No gradient. */
#ifndef KERNELS_PROPOSAL_ROIS_PROPOSAL_ROIS_H
#define KERNELS_PROPOSAL_ROIS_PROPOSAL_ROIS_H

#include "autograd/op.h"

struct tape;

enum { PROPOSAL_ROIS_PROPOSALS, PROPOSAL_ROIS_COUNTS, PROPOSAL_ROIS_INPUTS };
enum { PROPOSAL_ROIS_ROIS, PROPOSAL_ROIS_COUNT, PROPOSAL_ROIS_OUTPUTS };

extern const op_def proposal_rois_op;
extern const op_kernel proposal_rois_reference_f32, proposal_rois_reference_f64;

typedef struct proposal_rois_result {
    tensor *rois, *count;
} proposal_rois_result;

proposal_rois_result proposal_rois(struct tape *t, tensor *proposals, tensor *counts);

#endif
