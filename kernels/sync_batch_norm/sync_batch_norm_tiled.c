/* sync_batch_norm in cache-sized tiles. One all-reduce in each direction, of 2C + 1 doubles: {sum, sum of
 * squares, n} of floats in double lose nothing that the floats still hold. */
#include "channel_norm.h"
#include "comm/comm.h"
#include "sync_batch_norm/sync_batch_norm.h"

#include <math.h>

static channel_map map_of(const op_call *call, int64_t images) {
    const tensor *x = call->in[SYNC_BATCH_NORM_X];
    return channel_map_make(1, images * x->shape[1] * x->shape[2], x->shape[3]);
}

static size_t scratch_bytes(const op_call *call, bool backward_pass) {
    (void)backward_pass;
    channel_map m = map_of(call, call->in[SYNC_BATCH_NORM_X]->shape[0]);
    return channel_scratch_bytes(&m);
}

/* Sums over ranks; returns the number of pixels on all of them. */
static double sum_over_ranks(const op_call *call, const channel_map *m, double *sums) {
    sums[2 * m->channels] = (double)m->pixels;
    if (call->comm && !((const sync_batch_norm_params *)call->params)->local)
        comm_allreduce_sum_f64(call->comm, sums, (size_t)(2 * m->channels + 1));
    return sums[2 * m->channels];
}

static void forward(const op_call *call) {
    const sync_batch_norm_params *p = call->params;
    channel_map m = map_of(call, tensor_valid_rows(call->in[SYNC_BATCH_NORM_X]));
    channel_scratch s = channel_scratch_at(&m, call->scratch);
    const float *x = tensor_f32(call->in[SYNC_BATCH_NORM_X]),
                *weight = tensor_f32(call->in[SYNC_BATCH_NORM_WEIGHT]),
                *bias = tensor_f32(call->in[SYNC_BATCH_NORM_BIAS]),
                *old_mean = tensor_f32(call->in[SYNC_BATCH_NORM_MEAN]),
                *old_var = tensor_f32(call->in[SYNC_BATCH_NORM_VAR]);
    float *new_mean = tensor_f32(call->out[SYNC_BATCH_NORM_NEW_MEAN]),
          *saved = tensor_f32(call->out[SYNC_BATCH_NORM_SAVED]),
          *new_var = tensor_f32(call->out[SYNC_BATCH_NORM_NEW_VAR]);
    channel_moments(&m, &s, x);
    double n = sum_over_ranks(call, &m, s.sums), momentum = n > 0 ? p->momentum : 0;
    for (int64_t c = 0; c < m.channels; c++) {
        double mean = s.sums[c] / fmax(n, 1),
               var = fmax(s.sums[m.channels + c] / fmax(n, 1) - mean * mean, 0);
        double inv_std = 1 / sqrt(var + p->eps), scale = inv_std * weight[c];
        new_mean[c] = (float)((1 - momentum) * old_mean[c] + momentum * mean);
        new_var[c] = (float)((1 - momentum) * old_var[c] + momentum * var * n / fmax(n - 1, 1));
        saved[c] = (float)mean;
        saved[m.channels + c] = (float)(mean - saved[c]);
        saved[2 * m.channels + c] = (float)inv_std;
        s.coefs[CHANNEL_CENTER * m.channels + c] = saved[c];
        s.coefs[CHANNEL_SCALE * m.channels + c] = (float)scale;
        s.coefs[CHANNEL_SHIFT * m.channels + c] = (float)(bias[c] - (mean - saved[c]) * scale);
    }
    channel_affine(&m, s.coefs, tensor_f32(call->out[SYNC_BATCH_NORM_Y]), x, p->relu);
}

static void write_sum(const op_call *call, int input, int64_t c, double sum) {
    if (!call->d_in[input]) return;
    float *d = tensor_f32(call->d_in[input]);
    d[c] = (float)((call->accumulate[input] ? d[c] : 0) + sum);
}

static void backward(const op_call *call) {
    const sync_batch_norm_params *p = call->params;
    channel_map m = map_of(call, tensor_valid_rows(call->out[SYNC_BATCH_NORM_Y]));
    channel_scratch s = channel_scratch_at(&m, call->scratch);
    const float *weight = tensor_f32(call->in[SYNC_BATCH_NORM_WEIGHT]),
                *mean = tensor_f32(call->out[SYNC_BATCH_NORM_SAVED]), *rest = mean + m.channels,
                *inv_std = rest + m.channels;
    tensor *d_x = call->d_in[SYNC_BATCH_NORM_X];
    channel_gradient gradient = {.d_x = d_x ? tensor_f32(d_x) : NULL,
                                 .g = tensor_f32(call->d_out[SYNC_BATCH_NORM_Y]),
                                 .y = p->relu ? tensor_f32(call->out[SYNC_BATCH_NORM_Y]) : NULL,
                                 .x = tensor_f32(call->in[SYNC_BATCH_NORM_X]),
                                 .accumulate = call->accumulate[SYNC_BATCH_NORM_X]};
    for (int64_t c = 0; c < m.channels; c++) s.coefs[CHANNEL_CENTER * m.channels + c] = mean[c];
    channel_gradient_sums(&m, &s, &gradient);
    double *sum_g = s.sums, *sum_gx = s.sums + m.channels; /* of g and of g (x - mean) */
    for (int64_t c = 0; c < m.channels; c++) {
        sum_gx[c] -= sum_g[c] * rest[c];
        write_sum(call, SYNC_BATCH_NORM_BIAS, c, sum_g[c]);
        write_sum(call, SYNC_BATCH_NORM_WEIGHT, c, sum_gx[c] * inv_std[c]);
    }
    if (!d_x) return;
    double n = fmax(sum_over_ranks(call, &m, s.sums), 1);
    for (int64_t c = 0; c < m.channels; c++) {
        double scale = (double)weight[c] * inv_std[c],
               slope = -scale * inv_std[c] * inv_std[c] * sum_gx[c] / n;
        s.coefs[CHANNEL_SCALE * m.channels + c] = (float)scale;
        s.coefs[CHANNEL_SLOPE * m.channels + c] = (float)slope;
        s.coefs[CHANNEL_SHIFT * m.channels + c] = (float)(-scale * sum_g[c] / n - slope * rest[c]);
    }
    channel_gradient_apply(&m, s.coefs, &gradient);
}

const op_kernel sync_batch_norm_tiled = {
    .name = "tiled", .forward = forward, .backward = backward, .scratch_bytes = scratch_bytes};
