/* add: y = relu?(a + b), equal shapes. Backward, with g = d_y (masked by y > 0 when relu): d_a = d_b = g. */
#ifndef KERNELS_ADD_ADD_H
#define KERNELS_ADD_ADD_H

#include "autograd/op.h"

struct tape;

typedef struct add_params {
    bool relu;
} add_params;

enum { ADD_A, ADD_B };

extern const op_def add_op;
extern const op_kernel add_reference_f32, add_reference_f64, add_tiled;

tensor *add(struct tape *t, tensor *a, tensor *b, const add_params *params);

#endif
