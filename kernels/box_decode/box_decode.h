/* box_decode: applies regression deltas to reference boxes
 *
 *   deltas     [N,4]  real: dx dy dw dh
 *   reference  [N,4]  real, x1 y1 x2 y2 in pixels, continuous
 *   y          [N,4]  real boxes
 *
 * Each delta is divided by its weight, then dw and dh are limited to `clip` from above;
 * centre = p + d * size, size = exp(d) * size. Not clipped to any image.
 *
 * No gradient: proposals are taken as given by what comes after them. */
#ifndef KERNELS_BOX_DECODE_BOX_DECODE_H
#define KERNELS_BOX_DECODE_BOX_DECODE_H

#include "autograd/op.h"

struct tape;

/* log(1000/16): a 16 px anchor grows to 1000 px at most. */
#define BOX_DECODE_DEFAULT_CLIP 4.135166556742356

typedef struct box_decode_params {
    double weights[4];
    double clip;
} box_decode_params;

enum { BOX_DECODE_DELTAS, BOX_DECODE_REFERENCE };

extern const op_def box_decode_op;
extern const op_kernel box_decode_reference_f32, box_decode_reference_f64;

tensor *box_decode(struct tape *t, tensor *deltas, tensor *reference, const box_decode_params *params);

#endif
