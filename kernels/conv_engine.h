/* Convolution on the CPU: what conv2d, conv2d_transpose and linear are made of. All work on one conv_shape
 * (see there), all cut work by shape only, so the number of threads changes no bit. Scratch is 64-byte
 * aligned; its size depends on shapes and thread_pool_size(). */
#ifndef KERNELS_CONV_ENGINE_H
#define KERNELS_CONV_ENGINE_H

#include "conv_shape.h"
#include "micro.h"

#include <stddef.h>

/* What happens to a sum before it is written to `dest`: dest = relu?(sum + bias + add). */
typedef struct conv_epilogue {
    float *dest;
    const float *add;  /* of dest's shape, or NULL; dest itself to accumulate */
    const float *bias; /* of the last axis, or NULL */
    bool relu;
} conv_epilogue;

/* y [n,ho,wo,k] = conv(x, weight) */
void conv_apply(const conv_shape *shape, const float *x, const float *weight, const conv_epilogue *to,
                void *scratch);
size_t conv_apply_scratch(const conv_shape *shape);

/* x [n,h,w,c] = transposed convolution of g [n,ho,wo,k]. `live`, if not NULL, has a byte for each pixel of g;
 * those with 0 hold zeros only and are skipped. */
void conv_apply_transposed(const conv_shape *shape, const float *g, const uint8_t *live, const float *weight,
                           const conv_epilogue *to, void *scratch);
size_t conv_apply_transposed_scratch(const conv_shape *shape);

/* d_weight [k,r,s,c] = or += sum over pixels of g times x; `live` as above. */
typedef struct conv_weight_gradient {
    const float *x, *g;
    const uint8_t *live;
    float *d_weight;
    bool accumulate;
} conv_weight_gradient;
void conv_weight_backward(const conv_shape *shape, const conv_weight_gradient *to, void *scratch);
size_t conv_weight_backward_scratch(const conv_shape *shape);

/* One pass over the gradient g [pixels,k] of an output y: clears g in place where y is not positive (y NULL:
 * no ReLU), sets live[pixel] to whether any of its k values is not zero, and adds up bias and residual
 * gradients. Outputs other than g may be NULL. */
typedef struct conv_incoming {
    int64_t pixels, k;
    const float *y;
    float *g;
    uint8_t *live;
    float *d_bias, *d_residual;
    bool accumulate_bias, accumulate_residual;
} conv_incoming;
void conv_receive_gradient(const conv_incoming *in, void *scratch);
size_t conv_receive_gradient_scratch(int64_t pixels, int64_t k);

/* All of a convolution's backward: receives g, then the gradients that are wanted. */
typedef struct conv_backward {
    conv_shape shape;
    const float *x, *weight;
    conv_incoming incoming; /* pixels, k and live are filled in */
    float *d_x, *d_weight;  /* NULL: not wanted */
    bool accumulate_x, accumulate_weight;
} conv_backward;
void conv_run_backward(const conv_backward *job, void *scratch);
size_t conv_backward_scratch(const conv_shape *shape, bool wants_x, bool wants_weight);

/* --- for the files of the engine --------------------------------------------------------------------------- */

/* conv_apply and its transpose by direct sums, for every shape (conv_gather.c). */
void conv_gather(const conv_shape *shape, const float *x, const float *weight, const conv_epilogue *to,
                 void *scratch);
size_t conv_gather_scratch(const conv_shape *shape);
void conv_gather_transposed(const conv_shape *shape, const float *g, const uint8_t *live, const float *weight,
                            const conv_epilogue *to, void *scratch);
size_t conv_gather_transposed_scratch(const conv_shape *shape);

/* Columns in panels of at most 3 vectors, as even as possible. */
typedef struct conv_panels {
    int64_t columns, vectors, count;
} conv_panels;

conv_panels conv_panels_of(int64_t columns);
static inline int64_t conv_panel_first(const conv_panels *p, int64_t panel) {
    return p->vectors * panel / p->count; /* in vectors */
}

/* Columns [first, first + width) of the packed matrix; `exist` of them are real ones. */
typedef struct conv_panel {
    int64_t first, width, exist;
    int vectors;
} conv_panel;
conv_panel conv_panel_at(const conv_panels *p, int64_t panel);

/* Cuts `bytes` off a scratch block at *at (64-byte aligned). With *at NULL-based it only counts. */
void *conv_take(uintptr_t *at, int64_t bytes);

static inline int64_t conv_tiles(int64_t size, int64_t tile) {
    return (size + tile - 1) / tile;
}
static inline int64_t conv_least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

#endif
