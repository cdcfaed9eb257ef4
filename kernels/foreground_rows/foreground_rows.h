/* foreground_rows: the rows that belong to objects, packed
 *
 *   x       [R,...]  real; its rows are counted
 *   labels  [R]      i32: 0 background, more: an object; rows as x
 *   like    [M]      i32: only its rows are read: as many as there are objects
 *   y       [M,...]  row j is the j-th row of x whose label is above 0; rows of like
 *
 * With roi_targets' labels and mask_labels, row j of y belongs to row j of its mask_rois.
 *
 * Backward: d_x is d_y at the rows that were taken and 0 elsewhere. */
#ifndef KERNELS_FOREGROUND_ROWS_FOREGROUND_ROWS_H
#define KERNELS_FOREGROUND_ROWS_FOREGROUND_ROWS_H

#include "autograd/op.h"

struct tape;

enum { FOREGROUND_ROWS_X, FOREGROUND_ROWS_LABELS, FOREGROUND_ROWS_LIKE };

extern const op_def foreground_rows_op;
extern const op_kernel foreground_rows_reference_f32, foreground_rows_reference_f64, foreground_rows_threaded;

tensor *foreground_rows(struct tape *t, tensor *x, tensor *labels, tensor *like);

#endif
