#include "cudnn/conv_calls.h"

#include "base/round_up.h"
#include "conv2d/conv2d.h"
#include "conv2d_transpose/conv2d_transpose.h"
#include "linear/linear.h"

#include <string.h>

conv_op conv_op_of(const op_call *call) {
    const char *name = call->op->name;
    return strcmp(name, "conv2d") == 0             ? CONV_OP_CONV
           : strcmp(name, "conv2d_transpose") == 0 ? CONV_OP_TRANSPOSE
           : strcmp(name, "linear") == 0           ? CONV_OP_LINEAR
                                                   : CONV_OP_NONE;
}

/* The geometry, the same for all three parts: x is the larger side. */
static conv_desc geometry_of_conv(const op_call *call) {
    const conv2d_params *p = call->params;
    const int64_t *x = call->in[CONV2D_X]->shape, *w = call->in[CONV2D_WEIGHT]->shape;
    return (conv_desc){.n = x[0],
                       .h = x[1],
                       .w = x[2],
                       .c = x[3],
                       .k = w[0],
                       .r = w[1],
                       .s = w[2],
                       .stride = p->stride,
                       .pad = p->pad,
                       .dilation = p->dilation};
}

static conv_desc geometry_of_transpose(const op_call *call) {
    const conv2d_transpose_params *p = call->params;
    const int64_t *y = call->out[0]->shape, *w = call->in[CONV2D_TRANSPOSE_WEIGHT]->shape;
    return (conv_desc){.n = y[0],
                       .h = y[1],
                       .w = y[2],
                       .c = y[3],
                       .k = w[0],
                       .r = w[1],
                       .s = w[2],
                       .stride = p->stride,
                       .pad = p->pad,
                       .dilation = 1};
}

static conv_desc geometry_of_linear(const op_call *call) {
    const int64_t *w = call->in[LINEAR_WEIGHT]->shape;
    return (conv_desc){.n = call->in[LINEAR_X]->shape[0],
                       .h = 1,
                       .w = 1,
                       .c = w[1],
                       .k = w[0],
                       .r = 1,
                       .s = 1,
                       .stride = 1,
                       .dilation = 1};
}

/* What the op computes forward, and whether its result is F32 in any case. */
static bool describe_geometry(conv_desc *d, bool *widens, const op_call *call, conv_part part) {
    static const conv_direction ahead[] = {CONV_FORWARD, CONV_DGRAD, CONV_WGRAD},
                                reversed[] = {CONV_DGRAD, CONV_FORWARD, CONV_WGRAD};
    *widens = false;
    if (conv_op_of(call) == CONV_OP_CONV) {
        *d = geometry_of_conv(call);
        *widens = ((const conv2d_params *)call->params)->f32_output;
    } else if (conv_op_of(call) == CONV_OP_LINEAR) {
        *d = geometry_of_linear(call);
        *widens = ((const linear_params *)call->params)->f32_output;
    } else if (conv_op_of(call) == CONV_OP_TRANSPOSE) {
        *d = geometry_of_transpose(call);
    } else {
        return false;
    }
    d->direction = conv_op_of(call) == CONV_OP_TRANSPOSE ? reversed[part] : ahead[part];
    return true;
}

/* No kernels of a strided transposed convolution take a bias or ReLU along. */
static void describe_epilogue(conv_desc *d, const op_call *call) {
    enum { BIAS = 2 };
    if (conv_op_of(call) == CONV_OP_TRANSPOSE) return;
    d->bias = call->in[BIAS] != NULL;
    d->addend = conv_op_of(call) == CONV_OP_CONV && call->in[CONV2D_RESIDUAL] != NULL;
    d->relu = conv_op_of(call) == CONV_OP_LINEAR ? ((const linear_params *)call->params)->relu
                                                 : ((const conv2d_params *)call->params)->relu;
}

static bool fits_31_bits(const conv_desc *d) {
    for (int i = CONV_X; i <= CONV_Y; i++) {
        int64_t count = conv_desc_count(d, i);
        if (count <= 0 || count > INT32_MAX) return false;
    }
    return true;
}

/* Few pixels of the gradient count, and the op's own kernel takes only those. */
static bool is_sparse(const op_call *call, conv_part part) {
    return part != CONV_OF_OUTPUT && conv_op_of(call) == CONV_OP_CONV &&
           ((const conv2d_params *)call->params)->live_pixels > 0;
}

bool conv_call_describe(conv_desc *d, const op_call *call, conv_part part, dtype storage) {
    enum { X, WEIGHT };
    bool widens;
    if (storage == DTYPE_F64 || !describe_geometry(d, &widens, call, part)) return false;
    d->storage = d->output = storage;
    d->tf32 = storage == DTYPE_F32 && call->tf32;
    if (!fits_31_bits(d) || is_sparse(call, part)) return false;
    widens = widens && dtype_is_half(storage);
    if (widens && !conv_desc_is_product(d)) return false;
    if (part == CONV_OF_OUTPUT) {
        describe_epilogue(d, call);
        if (widens) d->output = DTYPE_F32;
        return !(widens && d->addend);
    }
    if (part == CONV_OF_D_X) d->addend = call->accumulate[X];
    if (part == CONV_OF_D_WEIGHT && conv_desc_is_product(d)) {
        d->addend = call->accumulate[WEIGHT];
        if (call->d_in[WEIGHT]) d->output = call->d_in[WEIGHT]->type == DTYPE_F32 ? DTYPE_F32 : storage;
    }
    return true;
}

bool conv_desc_is_asked(const conv_desc *d) {
    if (d->storage != d->output || (d->direction == CONV_WGRAD && d->addend)) return false;
    if (d->h == 1 && d->w == 1 && conv_desc_is_product(d)) return false;
    return !(d->direction == CONV_DGRAD && d->stride > 1 && d->addend);
}

size_t conv_desc_workspace(const conv_desc *d) {
    enum { MOST = 64 << 20, LEAST = 64 << 10, ALIGNMENT = 256 };
    size_t bytes = 0;
    for (int i = CONV_X; i <= CONV_Y; i++)
        bytes += 4 * (size_t)conv_desc_count(d, i) * dtype_size(conv_desc_type(d, i));
    return bytes < LEAST ? LEAST : bytes > MOST ? MOST : round_up(bytes, ALIGNMENT);
}

conv_desc conv_desc_plain(const conv_desc *d) {
    conv_desc plain = *d;
    plain.bias = plain.addend = plain.relu = plain.mask = false;
    return plain;
}

bool conv_desc_is_product(const conv_desc *d) {
    return d->r == 1 && d->s == 1 && d->stride == 1 && d->pad == 0;
}
