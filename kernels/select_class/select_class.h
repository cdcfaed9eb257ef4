/* select_class: of predictions for every class, those for each row's own class.
 *
 *   x       [M,...,C*D]  real, class-major: class k has elements k*D .. k*D+D-1 of the last axis
 *   labels  i32 [M]      0..C-1; labels->rows as x->rows
 *   y       [M,...,D]; the last axis is dropped where D is 1
 *
 * Backward: d_x is d_y at the row's class and 0 at all others. */
#ifndef KERNELS_SELECT_CLASS_SELECT_CLASS_H
#define KERNELS_SELECT_CLASS_SELECT_CLASS_H

#include "autograd/op.h"

struct tape;

typedef struct select_class_params {
    int size; /* D */
} select_class_params;

enum { SELECT_X, SELECT_LABELS };

extern const op_def select_class_op;
extern const op_kernel select_class_reference_f32, select_class_reference_f64, select_class_threaded;

tensor *select_class(struct tape *t, tensor *x, tensor *labels, const select_class_params *params);

#endif
