/* frozen_batch_norm in cache-sized tiles: one pass over memory in each direction. */
#include "channel_norm.h"
#include "frozen_batch_norm/frozen_batch_norm.h"

#include <math.h>
#include <string.h>

static channel_map map_of(const op_call *call, int64_t images) {
    const tensor *x = call->in[FROZEN_BATCH_NORM_X];
    return channel_map_make(1, images * x->shape[1] * x->shape[2], x->shape[3]);
}

static size_t scratch_bytes(const op_call *call, bool backward_pass) {
    (void)backward_pass;
    return (size_t)(CHANNEL_ROWS * call->in[FROZEN_BATCH_NORM_X]->shape[3]) * sizeof(float);
}

static float *fill_scales(const op_call *call, int64_t channels) {
    const frozen_batch_norm_params *p = call->params;
    const float *weight = tensor_f32(call->in[FROZEN_BATCH_NORM_WEIGHT]),
                *var = tensor_f32(call->in[FROZEN_BATCH_NORM_VAR]);
    float *scale = (float *)call->scratch + CHANNEL_SCALE * channels;
    for (int64_t c = 0; c < channels; c++)
        scale[c] = (float)((double)weight[c] / sqrt((double)var[c] + p->eps));
    return call->scratch;
}

static void forward(const op_call *call) {
    const frozen_batch_norm_params *p = call->params;
    channel_map m = map_of(call, tensor_valid_rows(call->in[FROZEN_BATCH_NORM_X]));
    if (m.channels == 0) return;
    float *coefs = fill_scales(call, m.channels);
    size_t bytes = (size_t)m.channels * sizeof *coefs;
    memcpy(coefs + CHANNEL_CENTER * m.channels, call->in[FROZEN_BATCH_NORM_MEAN]->data, bytes);
    memcpy(coefs + CHANNEL_SHIFT * m.channels, call->in[FROZEN_BATCH_NORM_BIAS]->data, bytes);
    channel_affine(&m, coefs, tensor_f32(call->out[0]), tensor_f32(call->in[FROZEN_BATCH_NORM_X]), p->relu);
}

static void backward(const op_call *call) {
    const frozen_batch_norm_params *p = call->params;
    tensor *d_x = call->d_in[FROZEN_BATCH_NORM_X];
    if (!d_x) return;
    channel_map m = map_of(call, tensor_valid_rows(call->out[0]));
    if (m.channels == 0) return;
    channel_gradient gradient = {.d_x = tensor_f32(d_x),
                                 .g = tensor_f32(call->d_out[0]),
                                 .y = p->relu ? tensor_f32(call->out[0]) : NULL,
                                 .accumulate = call->accumulate[FROZEN_BATCH_NORM_X]};
    channel_gradient_apply(&m, fill_scales(call, m.channels), &gradient);
}

const op_kernel frozen_batch_norm_tiled = {
    .name = "tiled", .forward = forward, .backward = backward, .scratch_bytes = scratch_bytes};
