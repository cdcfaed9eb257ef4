/* Reference of sync_batch_norm in plain loops; built for float and for double. Statistics in two passes, in
 * double. */
#include "sync_batch_norm/sync_batch_norm.h"

#include "comm/comm.h"

#include <math.h>

static int64_t local_pixels(const op_call *call) {
    const tensor *x = call->in[SYNC_BATCH_NORM_X];
    return tensor_valid_rows(x) * x->shape[1] * x->shape[2];
}

static size_t scratch_bytes(const op_call *call, bool backward_pass) {
    (void)backward_pass;
    return (size_t)(2 * call->in[SYNC_BATCH_NORM_X]->shape[3] + 1) * sizeof(double);
}

static void sum_over_ranks(const op_call *call, double *values, int64_t count) {
    if (call->comm && !((const sync_batch_norm_params *)call->params)->local)
        comm_allreduce_sum_f64(call->comm, values, (size_t)count);
}

/* Writes means and biased variances over all ranks into scratch [2,C]; returns the number of pixels. */
static double measure(const op_call *call) {
    const REAL *x = call->in[SYNC_BATCH_NORM_X]->data;
    int64_t pixels = local_pixels(call), channels = call->in[SYNC_BATCH_NORM_X]->shape[3];
    double *mean = call->scratch, *var = mean + channels, n;
    for (int64_t c = 0; c < channels; c++) {
        mean[c] = 0;
        for (int64_t i = 0; i < pixels; i++) mean[c] += x[i * channels + c];
    }
    mean[channels] = (double)pixels;
    sum_over_ranks(call, mean, channels + 1);
    n = mean[channels];
    for (int64_t c = 0; c < channels; c++) {
        mean[c] /= fmax(n, 1);
        var[c] = 0;
        for (int64_t i = 0; i < pixels; i++)
            var[c] += (x[i * channels + c] - mean[c]) * (x[i * channels + c] - mean[c]);
    }
    sum_over_ranks(call, var, channels);
    for (int64_t c = 0; c < channels; c++) var[c] /= fmax(n, 1);
    return n;
}

static void forward(const op_call *call) {
    const sync_batch_norm_params *p = call->params;
    int64_t pixels = local_pixels(call), channels = call->in[SYNC_BATCH_NORM_X]->shape[3];
    double n = measure(call);
    const double *mean = call->scratch, *var = mean + channels;
    const REAL *x = call->in[SYNC_BATCH_NORM_X]->data, *weight = call->in[SYNC_BATCH_NORM_WEIGHT]->data,
               *bias = call->in[SYNC_BATCH_NORM_BIAS]->data, *old_mean = call->in[SYNC_BATCH_NORM_MEAN]->data,
               *old_var = call->in[SYNC_BATCH_NORM_VAR]->data;
    REAL *y = call->out[SYNC_BATCH_NORM_Y]->data, *new_mean = call->out[SYNC_BATCH_NORM_NEW_MEAN]->data,
         *new_var = call->out[SYNC_BATCH_NORM_NEW_VAR]->data, *saved = call->out[SYNC_BATCH_NORM_SAVED]->data;
    double momentum = n > 0 ? p->momentum : 0;
    for (int64_t c = 0; c < channels; c++) {
        double inv_std = 1 / sqrt(var[c] + p->eps);
        new_mean[c] = (REAL)((1 - momentum) * old_mean[c] + momentum * mean[c]);
        new_var[c] = (REAL)((1 - momentum) * old_var[c] + momentum * var[c] * n / fmax(n - 1, 1));
        saved[c] = (REAL)mean[c];
        saved[channels + c] = (REAL)(mean[c] - saved[c]);
        saved[2 * channels + c] = (REAL)inv_std;
        for (int64_t i = c; i < pixels * channels; i += channels) {
            double v = (x[i] - mean[c]) * inv_std * weight[c] + bias[c];
            y[i] = p->relu && v < 0 ? 0 : (REAL)v;
        }
    }
}

static double masked(const op_call *call, int64_t i) {
    const sync_batch_norm_params *p = call->params;
    const REAL *y = call->out[SYNC_BATCH_NORM_Y]->data, *d_y = call->d_out[SYNC_BATCH_NORM_Y]->data;
    return p->relu && !(y[i] > 0) ? 0 : d_y[i];
}

static void write_sum(const op_call *call, int input, int64_t c, double sum) {
    if (!call->d_in[input]) return;
    REAL *d = call->d_in[input]->data;
    d[c] = (REAL)((call->accumulate[input] ? d[c] : 0) + sum);
}

static void backward(const op_call *call) {
    int64_t pixels = local_pixels(call), channels = call->in[SYNC_BATCH_NORM_X]->shape[3];
    const REAL *x = call->in[SYNC_BATCH_NORM_X]->data, *weight = call->in[SYNC_BATCH_NORM_WEIGHT]->data,
               *saved = call->out[SYNC_BATCH_NORM_SAVED]->data;
    double *sum_g = call->scratch, *sum_gh = sum_g + channels;
    for (int64_t c = 0; c < channels; c++) {
        double mean = (double)saved[c] + (double)saved[channels + c], inv_std = saved[2 * channels + c];
        sum_g[c] = sum_gh[c] = 0;
        for (int64_t i = c; i < pixels * channels; i += channels) {
            sum_g[c] += masked(call, i);
            sum_gh[c] += masked(call, i) * (x[i] - mean) * inv_std;
        }
        write_sum(call, SYNC_BATCH_NORM_BIAS, c, sum_g[c]);
        write_sum(call, SYNC_BATCH_NORM_WEIGHT, c, sum_gh[c]);
    }
    if (!call->d_in[SYNC_BATCH_NORM_X]) return;
    sum_g[2 * channels] = (double)pixels;
    sum_over_ranks(call, sum_g, 2 * channels + 1);
    double n = fmax(sum_g[2 * channels], 1);
    REAL *d_x = call->d_in[SYNC_BATCH_NORM_X]->data;
    bool add = call->accumulate[SYNC_BATCH_NORM_X];
    for (int64_t c = 0; c < channels; c++) {
        double mean = (double)saved[c] + (double)saved[channels + c], inv_std = saved[2 * channels + c];
        for (int64_t i = c; i < pixels * channels; i += channels) {
            double h = (x[i] - mean) * inv_std;
            double d = weight[c] * inv_std * (masked(call, i) - sum_g[c] / n - h * sum_gh[c] / n);
            d_x[i] = (REAL)((add ? d_x[i] : 0) + d);
        }
    }
}

const op_kernel REAL_NAME(sync_batch_norm_reference) = {
    .name = REAL_KERNEL_NAME, .forward = forward, .backward = backward, .scratch_bytes = scratch_bytes};
