/* What the loss ops share: loss = sum over rows / (normalizer * max(count, 1)), where `count` is an optional
 * f32 [] or [1] input on the device (1 if absent): training divides by global counts that only the device
 * knows. No gradient flows to it. Rows are cut into tiles by shape; tiles' sums are taken in double and added
 * in order. */
#ifndef KERNELS_LOSS_ROWS_H
#define KERNELS_LOSS_ROWS_H

#include "autograd/op.h"

/* Infer: normalizer > 0 (infinite: a loss of weight 0), `count` (may be absent) holds one number; describes the scalar loss. */
status loss_rows_infer(op_call *call, double normalizer, int count_input);

/* `weights` is [N] with the rows of input 0. */
status loss_rows_expect_weights(const op_call *call, int weights_input);

size_t loss_rows_scratch(const op_call *call, bool backward);

/* Sum over the valid rows of input 0 of row(call, i), divided and written to out[0]. */
void loss_rows_forward(const op_call *call, double normalizer, int count_input,
                       double (*row)(const op_call *call, int64_t i));

/* row(call, i, scale) writes d_in[0] of row i, where scale = d_loss / (normalizer * max(count, 1)). */
void loss_rows_backward(const op_call *call, double normalizer, int count_input,
                        void (*row)(const op_call *call, int64_t i, double scale));

#endif
