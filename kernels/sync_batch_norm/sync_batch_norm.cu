/* sync_batch_norm: sums for each channel in one pass, one all-reduce of 2C + 1 doubles on the compute stream, and a second pass
 * that normalises; backward likewise. */
#include "channel_norm.cuh"

extern "C" {
#include "comm/comm.h"
#include "sync_batch_norm/sync_batch_norm.h"
}

namespace {

enum { THREADS = 256 };

/* Per channel. new_mean and new_var may be the old ones. */
struct running {
    const float *old_mean, *old_var;
    float *new_mean, *new_var;
};

__global__ void __launch_bounds__(THREADS)
    measure_kernel(norm_scratch s, running r, float *saved, const float *weight, const float *bias,
                   int channels, double eps, double momentum) {
    int c = (int)global_thread();
    if (c >= channels) return;
    double n = s.sums[2 * channels], pixels = fmax(n, 1.0);
    if (n <= 0) momentum = 0;
    double mean = s.sums[c] / pixels, var = fmax(s.sums[channels + c] / pixels - mean * mean, 0.0);
    double inv_std = 1 / sqrt(var + eps), scale = inv_std * (double)weight[c];
    r.new_mean[c] = (float)((1 - momentum) * (double)r.old_mean[c] + momentum * mean);
    r.new_var[c] = (float)((1 - momentum) * (double)r.old_var[c] + momentum * var * n / fmax(n - 1, 1.0));
    float center = (float)mean;
    double rest = mean - (double)center;
    saved[c] = center;
    saved[channels + c] = (float)rest;
    saved[2 * channels + c] = (float)inv_std;
    s.coefs[NORM_CENTER * channels + c] = center;
    s.coefs[NORM_SCALE * channels + c] = (float)scale;
    s.coefs[NORM_SHIFT * channels + c] = (float)((double)bias[c] - rest * scale);
}

/* Turns the sums of g (x - center) into those of g (x - mean), and writes this rank's gradients of weight and bias. */
__global__ void __launch_bounds__(THREADS) parameters_kernel(gradient_sink d_weight, gradient_sink d_bias,
                                                             double *sums, const float *saved, int channels) {
    int c = (int)global_thread();
    if (c >= channels) return;
    double sum = sums[c], product = sums[channels + c] - sum * (double)saved[channels + c];
    sums[channels + c] = product;
    if (d_bias.data) d_bias.put(c, (float)sum);
    if (d_weight.data) d_weight.put(c, (float)(product * (double)saved[2 * channels + c]));
}

/* Coefficients of d_x from the sums over all ranks. */
__global__ void __launch_bounds__(THREADS)
    gradient_kernel(norm_scratch s, const float *saved, const float *weight, int channels) {
    int c = (int)global_thread();
    if (c >= channels) return;
    double rest = saved[channels + c], inv_std = saved[2 * channels + c], n = fmax(s.sums[2 * channels], 1.0);
    double scale = (double)weight[c] * inv_std, slope = -scale * inv_std * inv_std * s.sums[channels + c] / n;
    s.coefs[NORM_CENTER * channels + c] = saved[c];
    s.coefs[NORM_SCALE * channels + c] = (float)scale;
    s.coefs[NORM_SLOPE * channels + c] = (float)slope;
    s.coefs[NORM_SHIFT * channels + c] = (float)(-scale * s.sums[c] / n - slope * rest);
}

const sync_batch_norm_params *params_of(const op_call *call) {
    return static_cast<const sync_batch_norm_params *>(call->params);
}

norm_map map_of(const op_call *call) {
    return norm_map_of(call->in[SYNC_BATCH_NORM_X], false);
}

size_t scratch_bytes(const op_call *call, bool) {
    return norm_scratch_at(map_of(call), nullptr).bytes;
}

void sum_over_ranks(const op_call *call, const norm_map &m, const norm_scratch &s) {
    if (call->comm && !params_of(call)->local)
        comm_allreduce_sum_f64(call->comm, s.sums, (size_t)(2 * m.channels + 1));
}

template <class T> void forward_as(const op_call *call) {
    norm_map m = map_of(call);
    norm_scratch s = norm_scratch_at(m, call->scratch);
    running r = {tensor_f32(call->in[SYNC_BATCH_NORM_MEAN]), tensor_f32(call->in[SYNC_BATCH_NORM_VAR]),
                 tensor_f32(call->out[SYNC_BATCH_NORM_NEW_MEAN]),
                 tensor_f32(call->out[SYNC_BATCH_NORM_NEW_VAR])};
    const T *x = tensor_as<T>(call->in[SYNC_BATCH_NORM_X]);
    T *y = tensor_as<T>(call->out[SYNC_BATCH_NORM_Y]);
    norm_choose<T>(m.channels, x, y, nullptr, nullptr, [&](auto passes) {
        passes.moments(call, m, s, x);
        sum_over_ranks(call, m, s);
        LAUNCH(measure_kernel, norm_blocks(m.channels, THREADS), THREADS, 0, call->stream, s, r,
               tensor_f32(call->out[SYNC_BATCH_NORM_SAVED]), tensor_f32(call->in[SYNC_BATCH_NORM_WEIGHT]),
               tensor_f32(call->in[SYNC_BATCH_NORM_BIAS]), m.channels, params_of(call)->eps,
               params_of(call)->momentum);
        passes.affine(call, m, s, y, x, params_of(call)->relu);
    });
}

void forward(const op_call *call) {
    dispatch_real(call->in[SYNC_BATCH_NORM_X]->type, [&](auto zero) { forward_as<decltype(zero)>(call); });
}

template <class T> void backward_as(const op_call *call) {
    norm_map m = map_of(call);
    norm_scratch s = norm_scratch_at(m, call->scratch);
    const float *saved = tensor_f32(call->out[SYNC_BATCH_NORM_SAVED]);
    norm_gradient_maps<T> maps = {
        tensor_as<T>(call->d_in[SYNC_BATCH_NORM_X]), tensor_as<T>(call->d_out[SYNC_BATCH_NORM_Y]),
        params_of(call)->relu ? tensor_as<T>(call->out[SYNC_BATCH_NORM_Y]) : nullptr,
        tensor_as<T>(call->in[SYNC_BATCH_NORM_X]), call->accumulate[SYNC_BATCH_NORM_X]};
    unsigned grid = norm_blocks(m.channels, THREADS);
    norm_choose<T>(m.channels, maps.d_x, maps.g, maps.y, maps.x, [&](auto passes) {
        passes.gradient_sums(call, m, s, maps, {saved, 0, 1});
        LAUNCH(parameters_kernel, grid, THREADS, 0, call->stream, norm_sink(call, SYNC_BATCH_NORM_WEIGHT),
               norm_sink(call, SYNC_BATCH_NORM_BIAS), s.sums, saved, m.channels);
        if (!maps.d_x) return;
        sum_over_ranks(call, m, s);
        LAUNCH(gradient_kernel, grid, THREADS, 0, call->stream, s, saved,
               tensor_f32(call->in[SYNC_BATCH_NORM_WEIGHT]), m.channels);
        passes.gradient(call, m, s, maps);
    });
}

void backward(const op_call *call) {
    dispatch_real(call->in[SYNC_BATCH_NORM_X]->type, [&](auto zero) { backward_as<decltype(zero)>(call); });
}

const op_kernel one_pass = {"cuda_one_pass", forward, backward, scratch_bytes};

} // namespace

extern "C" const op_kernel *const sync_batch_norm_cuda[] = {&one_pass, nullptr};
