/* sigmoid: y = 1 / (1 + exp(-x)), element by element; rows kept; y is F32 whatever x is. Backward: d_x = d_y y (1 - y). */
#ifndef KERNELS_SIGMOID_SIGMOID_H
#define KERNELS_SIGMOID_SIGMOID_H

#include "autograd/op.h"

struct tape;

extern const op_def sigmoid_op;
extern const op_kernel sigmoid_reference_f32, sigmoid_reference_f64, sigmoid_tiled;

tensor *sigmoid(struct tape *t, tensor *x);

#endif
