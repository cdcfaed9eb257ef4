/* box_encode: the regression target that takes each reference box to its box
 *
 *   boxes      [N,4]  real, x1 y1 x2 y2 in pixels, continuous; positive width and height
 *   reference  [N,4]  real, the same (anchors or proposals)
 *   y          [N,4]  real: wx (gx-px)/pw, wy (gy-py)/ph, ww log(gw/pw), wh log(gh/ph)
 *
 * g is the box and p the reference; x and y are centres (Girshick et al., "Rich feature hierarchies ...", appendix C).
 * No gradient. */
#ifndef KERNELS_BOX_ENCODE_BOX_ENCODE_H
#define KERNELS_BOX_ENCODE_BOX_ENCODE_H

#include "autograd/op.h"

struct tape;

typedef struct box_encode_params {
    double weights[4];
} box_encode_params;

enum { BOX_ENCODE_BOXES, BOX_ENCODE_REFERENCE };

extern const op_def box_encode_op;
extern const op_kernel box_encode_reference_f32, box_encode_reference_f64;

tensor *box_encode(struct tape *t, tensor *boxes, tensor *reference, const box_encode_params *params);

#endif
