/* conv2d on the convolution engine: weights are packed once per call, nothing else is copied; backward skips
 * pixels whose gradient is zero (most of them in a region-proposal head). */
#include "conv2d/conv2d.h"

#include "conv_engine.h"

static conv_shape shape_of(const op_call *call, int64_t images) {
    const conv2d_params *p = call->params;
    const tensor *x = call->in[CONV2D_X], *weight = call->in[CONV2D_WEIGHT], *y = call->out[0];
    return (conv_shape){.n = images,
                        .h = x->shape[1],
                        .w = x->shape[2],
                        .c = x->shape[3],
                        .ho = y->shape[1],
                        .wo = y->shape[2],
                        .k = weight->shape[0],
                        .r = weight->shape[1],
                        .s = weight->shape[2],
                        .stride = p->stride,
                        .pad = p->pad,
                        .dilation = p->dilation};
}

static float *optional(const tensor *t) {
    return t ? tensor_f32(t) : NULL;
}

static void forward(const op_call *call) {
    const conv2d_params *p = call->params;
    conv_shape v = shape_of(call, tensor_valid_rows(call->in[CONV2D_X]));
    conv_epilogue to = {.dest = tensor_f32(call->out[0]),
                        .add = optional(call->in[CONV2D_RESIDUAL]),
                        .bias = optional(call->in[CONV2D_BIAS]),
                        .relu = p->relu};
    conv_apply(&v, tensor_f32(call->in[CONV2D_X]), tensor_f32(call->in[CONV2D_WEIGHT]), &to, call->scratch);
}

static void backward(const op_call *call) {
    const conv2d_params *p = call->params;
    conv_shape v = shape_of(call, tensor_valid_rows(call->in[CONV2D_X]));
    uintptr_t at = (uintptr_t)call->scratch;
    conv_incoming in = {.pixels = v.n * v.ho * v.wo,
                        .k = v.k,
                        .y = p->relu ? tensor_f32(call->out[0]) : NULL,
                        .g = tensor_f32(call->d_out[0]),
                        .d_bias = optional(call->d_in[CONV2D_BIAS]),
                        .d_residual = optional(call->d_in[CONV2D_RESIDUAL]),
                        .accumulate_bias = call->accumulate[CONV2D_BIAS],
                        .accumulate_residual = call->accumulate[CONV2D_RESIDUAL]};
    in.live = conv_take(&at, in.pixels);
    conv_receive_gradient(&in, (void *)at);
    if (call->d_in[CONV2D_WEIGHT]) {
        conv_weight_gradient to = {.x = tensor_f32(call->in[CONV2D_X]),
                                   .g = in.g,
                                   .live = in.live,
                                   .d_weight = tensor_f32(call->d_in[CONV2D_WEIGHT]),
                                   .accumulate = call->accumulate[CONV2D_WEIGHT]};
        conv_weight_backward(&v, &to, (void *)at);
    }
    if (!call->d_in[CONV2D_X]) return;
    float *d_x = tensor_f32(call->d_in[CONV2D_X]);
    conv_epilogue to = {.dest = d_x, .add = call->accumulate[CONV2D_X] ? d_x : NULL};
    conv_apply_transposed(&v, in.g, in.live, tensor_f32(call->in[CONV2D_WEIGHT]), &to, (void *)at);
}

static size_t scratch_bytes(const op_call *call, bool backward_too) {
    conv_shape v = shape_of(call, call->in[CONV2D_X]->shape[0]);
    if (!backward_too) return conv_apply_scratch(&v);
    size_t sizes[] = {conv_receive_gradient_scratch(v.n * v.ho * v.wo, v.k),
                      call->d_in[CONV2D_WEIGHT] ? conv_weight_backward_scratch(&v) : 0,
                      call->d_in[CONV2D_X] ? conv_apply_transposed_scratch(&v) : 0};
    size_t largest = 0;
    for (int i = 0; i < 3; i++)
        if (sizes[i] > largest) largest = sizes[i];
    uintptr_t at = 0;
    conv_take(&at, v.n * v.ho * v.wo);
    return at + largest;
}

const op_kernel conv2d_direct = {
    .name = "direct", .forward = forward, .backward = backward, .scratch_bytes = scratch_bytes};
