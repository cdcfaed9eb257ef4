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
    conv_backward job = {.shape = shape_of(call, tensor_valid_rows(call->in[CONV2D_X])),
                         .x = tensor_f32(call->in[CONV2D_X]),
                         .weight = tensor_f32(call->in[CONV2D_WEIGHT]),
                         .incoming = {.y = p->relu ? tensor_f32(call->out[0]) : NULL,
                                      .g = tensor_f32(call->d_out[0]),
                                      .d_bias = optional(call->d_in[CONV2D_BIAS]),
                                      .d_residual = optional(call->d_in[CONV2D_RESIDUAL]),
                                      .accumulate_bias = call->accumulate[CONV2D_BIAS],
                                      .accumulate_residual = call->accumulate[CONV2D_RESIDUAL]},
                         .d_x = optional(call->d_in[CONV2D_X]),
                         .d_weight = optional(call->d_in[CONV2D_WEIGHT]),
                         .accumulate_x = call->accumulate[CONV2D_X],
                         .accumulate_weight = call->accumulate[CONV2D_WEIGHT]};
    conv_run_backward(&job, call->scratch);
}

static size_t scratch_bytes(const op_call *call, bool backward_too) {
    conv_shape v = shape_of(call, call->in[CONV2D_X]->shape[0]);
    if (!backward_too) return conv_apply_scratch(&v);
    return conv_backward_scratch(&v, call->d_in[CONV2D_X], call->d_in[CONV2D_WEIGHT]);
}

const op_kernel conv2d_direct = {
    .name = "direct", .forward = forward, .backward = backward, .scratch_bytes = scratch_bytes};
