/* sgd_step: one step of SGD with momentum over the flat buffers of all parameters, in one pass:
 *   g = factor * gradient, to [-clip_value, clip_value] where that is set
 *   v = momentum v + (g + weight_decay w);   w -= lr lr_scale v;   copy = w in 16 bits
 *
 *   gradients      [N]
 *   values         f32 [N]    w
 *   momentum       f32 [N]    v
 *   tiles          i32 [T,3]  as gradient_norm's; they do not overlap. Elements in none of them stay as they are
 *   groups         f32 [P,2]  of each parameter: weight decay, lr_scale
 *   factors        f32 [P]    of gradient_norm
 *   rates          f32 [2]    lr, momentum
 *   verdict        f32 [4]    of gradient_norm; where its action is not 0, w and v stay
 *   new_values     f32 [N]    may lie where `values` does
 *   new_momentum   f32 [N]    may lie where `momentum` does
 *   copies         [N]        of the gradients' type; [0] without params.copies
 *
 * No gradient. */
#ifndef KERNELS_SGD_STEP_SGD_STEP_H
#define KERNELS_SGD_STEP_SGD_STEP_H

#include "autograd/op.h"

struct tape;

enum {
    SGD_STEP_GRADIENTS,
    SGD_STEP_VALUES,
    SGD_STEP_MOMENTUM,
    SGD_STEP_TILES,
    SGD_STEP_GROUPS,
    SGD_STEP_FACTORS,
    SGD_STEP_RATES,
    SGD_STEP_VERDICT,
    SGD_STEP_INPUTS
};
enum {
    SGD_STEP_TILE_INTS = 3,
    SGD_STEP_GROUP_FLOATS = 2,
    SGD_STEP_RATE_FLOATS = 2,
    SGD_STEP_VERDICT_FLOATS = 4
};

typedef struct sgd_step_params {
    double clip_value; /* of single elements; 0: none */
    bool copies;
} sgd_step_params;

typedef struct sgd_step_result {
    tensor *values, *momentum, *copies;
} sgd_step_result;

extern const op_def sgd_step_op;
extern const op_kernel sgd_step_reference_f32, sgd_step_reference_f64;

sgd_step_result sgd_step(struct tape *t, tensor *const inputs[SGD_STEP_INPUTS],
                         const sgd_step_params *params);

#endif
