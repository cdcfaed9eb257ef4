/* Reference of group_norm in plain loops; built for float and for double. Statistics in two passes, in
 * double. */
#include "group_norm/group_norm.h"

#include <math.h>

/* One group of one image: elements first + pixel * channels + k for k < width. */
typedef struct group {
    int64_t pixels, channels, width, channel, first; /* channel: its first one */
    REAL *saved;                                     /* [3,groups] from this group on */
    int64_t groups;
} group;

static group group_at(const op_call *call, int64_t image, int64_t index) {
    const group_norm_params *p = call->params;
    const tensor *x = call->in[GROUP_NORM_X];
    group g = {.pixels = x->shape[1] * x->shape[2], .channels = x->shape[3], .groups = p->groups};
    g.width = g.channels / p->groups;
    g.channel = index * g.width;
    g.first = image * g.pixels * g.channels + g.channel;
    g.saved = (REAL *)call->out[GROUP_NORM_SAVED]->data + image * 3 * p->groups + index;
    return g;
}

static void normalise(const op_call *call, const group *g) {
    const group_norm_params *p = call->params;
    const REAL *x = call->in[GROUP_NORM_X]->data, *weight = call->in[GROUP_NORM_WEIGHT]->data,
               *bias = call->in[GROUP_NORM_BIAS]->data;
    REAL *y = call->out[GROUP_NORM_Y]->data;
    double mean = 0, var = 0, n = fmax((double)(g->pixels * g->width), 1);
    for (int64_t i = 0; i < g->pixels; i++)
        for (int64_t k = 0; k < g->width; k++) mean += x[g->first + i * g->channels + k];
    mean /= n;
    for (int64_t i = 0; i < g->pixels; i++) {
        for (int64_t k = 0; k < g->width; k++) {
            double d = x[g->first + i * g->channels + k] - mean;
            var += d * d;
        }
    }
    double inv_std = 1 / sqrt(var / n + p->eps);
    g->saved[0] = (REAL)mean;
    g->saved[g->groups] = (REAL)(mean - g->saved[0]);
    g->saved[2 * g->groups] = (REAL)inv_std;
    for (int64_t i = 0; i < g->pixels; i++) {
        for (int64_t k = 0; k < g->width; k++) {
            int64_t at = g->first + i * g->channels + k;
            double v = (x[at] - mean) * inv_std * weight[g->channel + k] + bias[g->channel + k];
            y[at] = p->relu && v < 0 ? 0 : (REAL)v;
        }
    }
}

static void forward(const op_call *call) {
    const group_norm_params *p = call->params;
    int64_t images = tensor_valid_rows(call->in[GROUP_NORM_X]);
    for (int64_t image = 0; image < images; image++) {
        for (int64_t index = 0; index < p->groups; index++) {
            group g = group_at(call, image, index);
            normalise(call, &g);
        }
    }
}

static double masked(const op_call *call, int64_t i) {
    const group_norm_params *p = call->params;
    const REAL *y = call->out[GROUP_NORM_Y]->data, *d_y = call->d_out[GROUP_NORM_Y]->data;
    return p->relu && !(y[i] > 0) ? 0 : d_y[i];
}

static double normalised(const op_call *call, const group *g, int64_t i) {
    const REAL *x = call->in[GROUP_NORM_X]->data;
    return (x[i] - ((double)g->saved[0] + (double)g->saved[g->groups])) * g->saved[2 * g->groups];
}

static void backward_x(const op_call *call, const group *g) {
    const REAL *weight = call->in[GROUP_NORM_WEIGHT]->data;
    REAL *d_x = call->d_in[GROUP_NORM_X]->data;
    double sum = 0, product = 0, n = (double)(g->pixels * g->width);
    for (int64_t i = 0; i < g->pixels; i++) {
        for (int64_t k = 0; k < g->width; k++) {
            int64_t at = g->first + i * g->channels + k;
            sum += masked(call, at) * weight[g->channel + k];
            product += masked(call, at) * weight[g->channel + k] * normalised(call, g, at);
        }
    }
    for (int64_t i = 0; i < g->pixels; i++) {
        for (int64_t k = 0; k < g->width; k++) {
            int64_t at = g->first + i * g->channels + k;
            double d =
                masked(call, at) * weight[g->channel + k] - sum / n - normalised(call, g, at) * product / n;
            d_x[at] = (REAL)((call->accumulate[GROUP_NORM_X] ? d_x[at] : 0) + d * g->saved[2 * g->groups]);
        }
    }
}

static void write_sum(const op_call *call, int input, int64_t c, double sum) {
    if (!call->d_in[input]) return;
    REAL *d = call->d_in[input]->data;
    d[c] = (REAL)((call->accumulate[input] ? d[c] : 0) + sum);
}

static void backward_parameters(const op_call *call, int64_t images, int64_t index) {
    int64_t width = group_at(call, 0, index).width;
    for (int64_t k = 0; k < width; k++) {
        double sum = 0, product = 0;
        for (int64_t image = 0; image < images; image++) {
            group g = group_at(call, image, index);
            for (int64_t i = 0; i < g.pixels; i++) {
                int64_t at = g.first + i * g.channels + k;
                sum += masked(call, at);
                product += masked(call, at) * normalised(call, &g, at);
            }
        }
        write_sum(call, GROUP_NORM_BIAS, index * width + k, sum);
        write_sum(call, GROUP_NORM_WEIGHT, index * width + k, product);
    }
}

static void backward(const op_call *call) {
    const group_norm_params *p = call->params;
    int64_t images = tensor_valid_rows(call->in[GROUP_NORM_X]);
    for (int64_t index = 0; index < p->groups; index++) {
        for (int64_t image = 0; image < images && call->d_in[GROUP_NORM_X]; image++) {
            group g = group_at(call, image, index);
            backward_x(call, &g);
        }
        backward_parameters(call, images, index);
    }
}

const op_kernel REAL_NAME(group_norm_reference) = {
    .name = REAL_KERNEL_NAME, .forward = forward, .backward = backward};
