/* class_logits: a 1x1 convolution of which each row gets one output channel, that of its own class.
 *
 *   x       [R,H,W,C]  real; rows behind x->rows are neither read nor written
 *   weight  [K,1,1,C]  real
 *   bias    [K]        real
 *   labels  i32 [R]    0..K-1; labels->rows as x->rows
 *   y       [R,H,W]    F32 also where x and weight have 16 bits
 *
 *   y[r,h,w] = bias[labels[r]] + sum over c of x[r,h,w,c] weight[labels[r],0,0,c]
 *
 * It is conv2d followed by select_class, without the K-1 channels that nobody reads.
 *
 * Backward: d_x[r,h,w,c] = d_y[r,h,w] weight[labels[r],0,0,c]; d_weight[k,0,0,c] and d_bias[k] are the sums of d_y x and of d_y
 * over the rows with label k, 0 for a class that has none. */
#ifndef KERNELS_CLASS_LOGITS_CLASS_LOGITS_H
#define KERNELS_CLASS_LOGITS_CLASS_LOGITS_H

#include "autograd/op.h"

struct tape;

enum { CLASS_LOGITS_X, CLASS_LOGITS_WEIGHT, CLASS_LOGITS_BIAS, CLASS_LOGITS_LABELS };

extern const op_def class_logits_op;
extern const op_kernel class_logits_reference_f32, class_logits_reference_f64, class_logits_threaded;

/* inputs: x, weight, bias, labels in this order. */
tensor *class_logits(struct tape *t, tensor *const inputs[4]);

#endif
