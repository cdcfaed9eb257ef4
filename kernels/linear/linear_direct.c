/* linear on the convolution engine, as a 1x1 convolution of N images of one pixel. Rows whose gradient is
 * zero (box regression of background) cost nothing in backward. */
#include "linear/linear.h"

#include "conv_engine.h"

static conv_shape shape_of(const op_call *call, int64_t rows) {
    const tensor *weight = call->in[LINEAR_WEIGHT];
    return (conv_shape){.n = rows,
                        .h = 1,
                        .w = 1,
                        .c = weight->shape[1],
                        .ho = 1,
                        .wo = 1,
                        .k = weight->shape[0],
                        .r = 1,
                        .s = 1,
                        .stride = 1,
                        .pad = 0,
                        .dilation = 1};
}

static float *optional(const tensor *t) {
    return t ? tensor_f32(t) : NULL;
}

static void forward(const op_call *call) {
    const linear_params *p = call->params;
    conv_shape v = shape_of(call, tensor_valid_rows(call->in[LINEAR_X]));
    conv_epilogue to = {
        .dest = tensor_f32(call->out[0]), .bias = optional(call->in[LINEAR_BIAS]), .relu = p->relu};
    conv_apply(&v, tensor_f32(call->in[LINEAR_X]), tensor_f32(call->in[LINEAR_WEIGHT]), &to, call->scratch);
}

static void backward(const op_call *call) {
    const linear_params *p = call->params;
    conv_shape v = shape_of(call, tensor_valid_rows(call->in[LINEAR_X]));
    conv_backward job = {.shape = v,
                         .x = tensor_f32(call->in[LINEAR_X]),
                         .weight = tensor_f32(call->in[LINEAR_WEIGHT]),
                         .incoming = {.y = p->relu ? tensor_f32(call->out[0]) : NULL,
                                      .g = tensor_f32(call->d_out[0]),
                                      .d_bias = optional(call->d_in[LINEAR_BIAS]),
                                      .accumulate_bias = call->accumulate[LINEAR_BIAS]},
                         .d_x = optional(call->d_in[LINEAR_X]),
                         .d_weight = optional(call->d_in[LINEAR_WEIGHT]),
                         .accumulate_x = call->accumulate[LINEAR_X],
                         .accumulate_weight = call->accumulate[LINEAR_WEIGHT]};
    conv_run_backward(&job, call->scratch);
}

static size_t scratch_bytes(const op_call *call, bool backward_too) {
    conv_shape v = shape_of(call, call->in[LINEAR_X]->shape[0]);
    if (!backward_too) return conv_apply_scratch(&v);
    return conv_backward_scratch(&v, call->d_in[LINEAR_X], call->d_in[LINEAR_WEIGHT]);
}

const op_kernel linear_direct = {
    .name = "direct", .forward = forward, .backward = backward, .scratch_bytes = scratch_bytes};
