/* gradient_norm: looks at all gradients once, before sgd_step: whether they are finite, their 2-norm, the factor that clipping
 * takes each parameter's gradient times, and what becomes of the loss scale.
 *
 *   gradients  [N]       the flat gradient buffer: gradients of the losses times the loss scale
 *   tiles      i32 [T,3] pieces of the buffer: parameter, first element, elements; a parameter's lie one behind the other
 *   spans      i32 [P,2] of each parameter: its first tile, its tiles
 *   losses     f32 [L]   optional: must be finite too
 *   state      f32 [4]   see GRADIENT_STATE_*
 *   norm       f64 [1]   over all parameters, without the loss scale, before clipping; -1 where it is not finite
 *   factors    f32 [P]   gradient times factor is the gradient that is to be used: min(1, clip_value / (|g| + 1e-6)) with the norm
 *                        of the parameter or of all (detectron2), over the loss scale
 *   verdict    f32 [4]   see GRADIENT_VERDICT_*
 *   new_state  f32 [4]   may lie where `state` does
 *
 * Not finite: this step is to be skipped. Without a dynamic scale, or where that is down to 1, this one and all that follow:
 * the host may see it only some steps later. Dynamic scale, as in mixed-precision training with 16-bit floats: halved where
 * the gradients overflow, doubled after `growth_interval` good steps in a row.
 *
 * Sums are taken in double, in an order that depends on the tiles only. No gradient. */
#ifndef KERNELS_GRADIENT_NORM_GRADIENT_NORM_H
#define KERNELS_GRADIENT_NORM_GRADIENT_NORM_H

#include "autograd/op.h"

struct tape;

enum {
    GRADIENT_NORM_GRADIENTS,
    GRADIENT_NORM_TILES,
    GRADIENT_NORM_SPANS,
    GRADIENT_NORM_LOSSES,
    GRADIENT_NORM_STATE,
    GRADIENT_NORM_INPUTS
};

enum {
    GRADIENT_STATE_SCALE,   /* loss scale; 1 where nothing is scaled */
    GRADIENT_STATE_GOOD,    /* good steps since it changed */
    GRADIENT_STATE_STOPPED, /* 1: no step is taken any more */
    GRADIENT_STATE_SKIPPED, /* steps skipped so far */
    GRADIENT_STATE_SIZE
};

enum {
    GRADIENT_VERDICT_ACTION,  /* 0: take the step; 1: skip it; 2: stopped */
    GRADIENT_VERDICT_CULPRIT, /* first parameter that is not finite; -1: all are */
    GRADIENT_VERDICT_SCALE,   /* loss scale of these gradients */
    GRADIENT_VERDICT_SKIPPED, /* as in the new state */
    GRADIENT_VERDICT_SIZE
};
enum { GRADIENT_TAKE, GRADIENT_SKIP, GRADIENT_STOP };

/* What clip_value bounds. GRADIENT_CLIP_NONE also for clipping element by element, which is sgd_step's. */
enum { GRADIENT_CLIP_NONE, GRADIENT_CLIP_EACH, GRADIENT_CLIP_ALL };

typedef struct gradient_norm_params {
    int clip;          /* GRADIENT_CLIP_NONE, a norm of each parameter, the 2-norm over all */
    double clip_value; /* >= 0 */
    double norm_type;  /* of GRADIENT_CLIP_EACH: above 0; infinity is the largest element */
    bool dynamic_scale;
    int growth_interval; /* >= 1 */
} gradient_norm_params;

enum { GRADIENT_TILE_INTS = 3, GRADIENT_SPAN_INTS = 2 };

/* The scale does not grow beyond this. */
#define GRADIENT_LARGEST_SCALE 16777216.0f

typedef struct gradient_norm_result {
    tensor *norm, *factors, *verdict, *state;
} gradient_norm_result;

extern const op_def gradient_norm_op;
extern const op_kernel gradient_norm_reference_f32, gradient_norm_reference_f64;

gradient_norm_result gradient_norm(struct tape *t, tensor *const inputs[GRADIENT_NORM_INPUTS],
                                   const gradient_norm_params *params);

#endif
