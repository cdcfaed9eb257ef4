/* group_norm in cache-sized tiles: sums for each channel first, then for each group. */
#include "channel_norm.h"
#include "group_norm/group_norm.h"

#include <math.h>

static channel_map map_of(const op_call *call, int64_t images) {
    const tensor *x = call->in[GROUP_NORM_X];
    return channel_map_make(images, x->shape[1] * x->shape[2], x->shape[3]);
}

static size_t scratch_bytes(const op_call *call, bool backward_pass) {
    (void)backward_pass;
    channel_map m = map_of(call, call->in[GROUP_NORM_X]->shape[0]);
    return channel_scratch_bytes(&m);
}

/* Statistics of one group from its channels' sums, and the coefficients of its channels. */
static void measure_group(const op_call *call, const channel_map *m, const channel_scratch *s, int64_t image,
                          int64_t index) {
    const group_norm_params *p = call->params;
    int64_t width = m->channels / p->groups, first = index * width;
    const double *sums = s->sums + image * 2 * m->channels + first;
    const float *weight = tensor_f32(call->in[GROUP_NORM_WEIGHT]),
                *bias = tensor_f32(call->in[GROUP_NORM_BIAS]);
    float *saved = tensor_f32(call->out[GROUP_NORM_SAVED]) + image * 3 * p->groups + index;
    float *coefs = s->coefs + image * CHANNEL_ROWS * m->channels;
    double sum = 0, square = 0, n = fmax((double)(m->pixels * width), 1);
    for (int64_t k = 0; k < width; k++) {
        sum += sums[k];
        square += sums[m->channels + k];
    }
    double mean = sum / n, inv_std = 1 / sqrt(fmax(square / n - mean * mean, 0) + p->eps);
    saved[0] = (float)mean;
    saved[p->groups] = (float)(mean - saved[0]);
    saved[2 * p->groups] = (float)inv_std;
    for (int64_t c = first; c < first + width; c++) {
        double scale = inv_std * weight[c];
        coefs[CHANNEL_CENTER * m->channels + c] = saved[0];
        coefs[CHANNEL_SCALE * m->channels + c] = (float)scale;
        coefs[CHANNEL_SHIFT * m->channels + c] = (float)(bias[c] - (mean - saved[0]) * scale);
    }
}

static void forward(const op_call *call) {
    const group_norm_params *p = call->params;
    channel_map m = map_of(call, tensor_valid_rows(call->in[GROUP_NORM_X]));
    channel_scratch s = channel_scratch_at(&m, call->scratch);
    const float *x = tensor_f32(call->in[GROUP_NORM_X]);
    channel_moments(&m, &s, x);
    for (int64_t image = 0; image < m.slabs; image++)
        for (int64_t index = 0; index < p->groups; index++) measure_group(call, &m, &s, image, index);
    channel_affine(&m, s.coefs, tensor_f32(call->out[GROUP_NORM_Y]), x, p->relu);
}

/* Turns the channels' sums of g (x - center) into those of g (x - mean), then into the coefficients of d_x. */
static void gradient_group(const op_call *call, const channel_map *m, const channel_scratch *s, int64_t image,
                           int64_t index) {
    const group_norm_params *p = call->params;
    int64_t width = m->channels / p->groups, first = index * width;
    double *sum_g = s->sums + image * 2 * m->channels, *sum_gx = sum_g + m->channels;
    const float *weight = tensor_f32(call->in[GROUP_NORM_WEIGHT]);
    const float *saved = tensor_f32(call->out[GROUP_NORM_SAVED]) + image * 3 * p->groups + index;
    float *coefs = s->coefs + image * CHANNEL_ROWS * m->channels;
    double rest = saved[p->groups], inv_std = saved[2 * p->groups], sum = 0, product = 0;
    double n = fmax((double)(m->pixels * width), 1);
    for (int64_t c = first; c < first + width; c++) {
        sum_gx[c] -= sum_g[c] * rest;
        sum += weight[c] * sum_g[c];
        product += weight[c] * sum_gx[c];
    }
    double slope = -inv_std * inv_std * inv_std * product / n;
    for (int64_t c = first; c < first + width; c++) {
        coefs[CHANNEL_SCALE * m->channels + c] = (float)(inv_std * weight[c]);
        coefs[CHANNEL_SLOPE * m->channels + c] = (float)slope;
        coefs[CHANNEL_SHIFT * m->channels + c] = (float)(-inv_std * sum / n - slope * rest);
    }
}

static void write_sum(const op_call *call, int input, int64_t c, double sum) {
    if (!call->d_in[input]) return;
    float *d = tensor_f32(call->d_in[input]);
    d[c] = (float)((call->accumulate[input] ? d[c] : 0) + sum);
}

static void gradient_parameters(const op_call *call, const channel_map *m, const channel_scratch *s) {
    const group_norm_params *p = call->params;
    const float *inv_std = tensor_f32(call->out[GROUP_NORM_SAVED]) + 2 * p->groups;
    for (int64_t c = 0; c < m->channels; c++) {
        double sum = 0, product = 0;
        for (int64_t image = 0; image < m->slabs; image++) {
            const double *sums = s->sums + image * 2 * m->channels;
            sum += sums[c];
            product += sums[m->channels + c] * inv_std[image * 3 * p->groups + c / (m->channels / p->groups)];
        }
        write_sum(call, GROUP_NORM_BIAS, c, sum);
        write_sum(call, GROUP_NORM_WEIGHT, c, product);
    }
}

static void backward(const op_call *call) {
    const group_norm_params *p = call->params;
    channel_map m = map_of(call, tensor_valid_rows(call->out[GROUP_NORM_Y]));
    channel_scratch s = channel_scratch_at(&m, call->scratch);
    const float *saved = tensor_f32(call->out[GROUP_NORM_SAVED]);
    tensor *d_x = call->d_in[GROUP_NORM_X];
    channel_gradient gradient = {.d_x = d_x ? tensor_f32(d_x) : NULL,
                                 .g = tensor_f32(call->d_out[GROUP_NORM_Y]),
                                 .y = p->relu ? tensor_f32(call->out[GROUP_NORM_Y]) : NULL,
                                 .x = tensor_f32(call->in[GROUP_NORM_X]),
                                 .accumulate = call->accumulate[GROUP_NORM_X]};
    for (int64_t image = 0; image < m.slabs; image++)
        for (int64_t c = 0; c < m.channels; c++)
            s.coefs[(image * CHANNEL_ROWS + CHANNEL_CENTER) * m.channels + c] =
                saved[image * 3 * p->groups + c / (m.channels / p->groups)];
    channel_gradient_sums(&m, &s, &gradient);
    for (int64_t image = 0; image < m.slabs; image++)
        for (int64_t index = 0; index < p->groups; index++) gradient_group(call, &m, &s, image, index);
    gradient_parameters(call, &m, &s);
    if (d_x) channel_gradient_apply(&m, s.coefs, &gradient);
}

const op_kernel group_norm_tiled = {
    .name = "tiled", .forward = forward, .backward = backward, .scratch_bytes = scratch_bytes};
