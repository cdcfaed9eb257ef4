/* conv2d_transpose on the convolution engine, as the transpose of a convolution from y to x. */
#include "conv2d_transpose/conv2d_transpose.h"

#include "conv_engine.h"

/* The convolution that maps y [n,ho,wo,k] to x [n,h,w,c]. */
static conv_shape shape_of(const op_call *call, int64_t images) {
    const conv2d_transpose_params *p = call->params;
    const tensor *x = call->in[CONV2D_TRANSPOSE_X], *weight = call->in[CONV2D_TRANSPOSE_WEIGHT],
                 *y = call->out[0];
    return (conv_shape){.n = images,
                        .h = y->shape[1],
                        .w = y->shape[2],
                        .c = weight->shape[3],
                        .ho = x->shape[1],
                        .wo = x->shape[2],
                        .k = weight->shape[0],
                        .r = weight->shape[1],
                        .s = weight->shape[2],
                        .stride = p->stride,
                        .pad = p->pad,
                        .dilation = 1};
}

static float *optional(const tensor *t) {
    return t ? tensor_f32(t) : NULL;
}

static void forward(const op_call *call) {
    const conv2d_transpose_params *p = call->params;
    conv_shape v = shape_of(call, tensor_valid_rows(call->in[CONV2D_TRANSPOSE_X]));
    conv_epilogue to = {
        .dest = tensor_f32(call->out[0]), .bias = optional(call->in[CONV2D_TRANSPOSE_BIAS]), .relu = p->relu};
    conv_apply_transposed(&v, tensor_f32(call->in[CONV2D_TRANSPOSE_X]), NULL,
                          tensor_f32(call->in[CONV2D_TRANSPOSE_WEIGHT]), &to, call->scratch);
}

static void backward(const op_call *call) {
    const conv2d_transpose_params *p = call->params;
    conv_shape v = shape_of(call, tensor_valid_rows(call->in[CONV2D_TRANSPOSE_X]));
    conv_incoming in = {.pixels = v.n * v.h * v.w,
                        .k = v.c,
                        .y = p->relu ? tensor_f32(call->out[0]) : NULL,
                        .g = tensor_f32(call->d_out[0]),
                        .d_bias = optional(call->d_in[CONV2D_TRANSPOSE_BIAS]),
                        .accumulate_bias = call->accumulate[CONV2D_TRANSPOSE_BIAS]};
    conv_receive_gradient(&in, call->scratch);
    if (call->d_in[CONV2D_TRANSPOSE_WEIGHT]) {
        conv_weight_gradient to = {.x = in.g,
                                   .g = tensor_f32(call->in[CONV2D_TRANSPOSE_X]),
                                   .d_weight = tensor_f32(call->d_in[CONV2D_TRANSPOSE_WEIGHT]),
                                   .accumulate = call->accumulate[CONV2D_TRANSPOSE_WEIGHT]};
        conv_weight_backward(&v, &to, call->scratch);
    }
    if (!call->d_in[CONV2D_TRANSPOSE_X]) return;
    float *d_x = tensor_f32(call->d_in[CONV2D_TRANSPOSE_X]);
    conv_epilogue to = {.dest = d_x, .add = call->accumulate[CONV2D_TRANSPOSE_X] ? d_x : NULL};
    conv_apply(&v, in.g, tensor_f32(call->in[CONV2D_TRANSPOSE_WEIGHT]), &to, call->scratch);
}

static size_t scratch_bytes(const op_call *call, bool backward_too) {
    conv_shape v = shape_of(call, call->in[CONV2D_TRANSPOSE_X]->shape[0]);
    if (!backward_too) return conv_apply_transposed_scratch(&v);
    size_t sizes[] = {conv_receive_gradient_scratch(v.n * v.h * v.w, v.c),
                      call->d_in[CONV2D_TRANSPOSE_WEIGHT] ? conv_weight_backward_scratch(&v) : 0,
                      call->d_in[CONV2D_TRANSPOSE_X] ? conv_apply_scratch(&v) : 0};
    size_t largest = 0;
    for (int i = 0; i < 3; i++)
        if (sizes[i] > largest) largest = sizes[i];
    return largest;
}

const op_kernel conv2d_transpose_direct = {
    .name = "direct", .forward = forward, .backward = backward, .scratch_bytes = scratch_bytes};
