/* group_norm: sums for each channel of an image in one pass, statistics of its groups from them, and a second pass that
 * normalises; backward likewise. */
#include "channel_norm.cuh"

extern "C" {
#include "group_norm/group_norm.h"
}

namespace {

enum { THREADS = 256, CHANNELS = 32, ROWS = 32 };

struct group_shape {
    int groups, width; /* channels of a group */
    double n;          /* elements of a group, at least 1 */
};

/* Which image and channel a thread takes of all that are valid. */
struct image_channel {
    int64_t image;
    int c, group, first; /* first channel of the group */
    bool is_valid;
    __device__ image_channel(const norm_map &m, const group_shape &g) {
        unsigned at = (unsigned)global_thread();
        image = at / (unsigned)m.channels;
        c = (int)(at - (unsigned)image * (unsigned)m.channels);
        group = c / g.width;
        first = group * g.width;
        is_valid = image < valid_rows(m.images);
    }
};

/* Statistics of a group from its channels' sums, and the coefficients of one channel. */
__global__ void __launch_bounds__(THREADS)
    measure_kernel(norm_scratch s, float *saved, const float *weight, const float *bias, norm_map m,
                   group_shape g, double eps) {
    image_channel at(m, g);
    if (!at.is_valid) return;
    const double *sums = s.sums + at.image * 2 * m.channels + at.first;
    double sum = 0, square = 0;
    for (int k = 0; k < g.width; k++) {
        sum += sums[k];
        square += sums[m.channels + k];
    }
    double mean = sum / g.n, inv_std = 1 / sqrt(fmax(square / g.n - mean * mean, 0.0) + eps);
    float center = (float)mean;
    double rest = mean - (double)center, scale = inv_std * (double)weight[at.c];
    float *coefs = s.coefs + at.image * NORM_ROWS * m.channels + at.c;
    coefs[NORM_CENTER * m.channels] = center;
    coefs[NORM_SCALE * m.channels] = (float)scale;
    coefs[NORM_SHIFT * m.channels] = (float)((double)bias[at.c] - rest * scale);
    if (at.c != at.first) return;
    float *out = saved + at.image * 3 * g.groups + at.group;
    out[0] = center;
    out[g.groups] = (float)rest;
    out[2 * g.groups] = (float)inv_std;
}

/* Coefficients of d_x. The sums are of g and of g (x - center); those of g (x - mean) follow. */
__global__ void __launch_bounds__(THREADS)
    gradient_kernel(norm_scratch s, const float *saved, const float *weight, norm_map m, group_shape g) {
    image_channel at(m, g);
    if (!at.is_valid) return;
    const double *sum_g = s.sums + at.image * 2 * m.channels, *sum_gx = sum_g + m.channels;
    saved += at.image * 3 * g.groups + at.group;
    double rest = saved[g.groups], inv_std = saved[2 * g.groups], sum = 0, product = 0;
    for (int c = at.first; c < at.first + g.width; c++) {
        sum += (double)weight[c] * sum_g[c];
        product += (double)weight[c] * (sum_gx[c] - sum_g[c] * rest);
    }
    double slope = -inv_std * inv_std * inv_std * product / g.n;
    float *coefs = s.coefs + at.image * NORM_ROWS * m.channels + at.c;
    coefs[NORM_CENTER * m.channels] = saved[0];
    coefs[NORM_SCALE * m.channels] = (float)(inv_std * (double)weight[at.c]);
    coefs[NORM_SLOPE * m.channels] = (float)slope;
    coefs[NORM_SHIFT * m.channels] = (float)(-inv_std * sum / g.n - slope * rest);
}

/* Gradients of weight and bias: sums over the images, CHANNELS channels in a block. */
__global__ void __launch_bounds__(CHANNELS *ROWS)
    parameters_kernel(gradient_sink d_weight, gradient_sink d_bias, norm_scratch s, const float *saved,
                      norm_map m, group_shape g) {
    int c = (int)blockIdx.x * CHANNELS + (int)threadIdx.x % CHANNELS;
    int64_t images = c < m.channels ? valid_rows(m.images) : 0;
    const double *sums = s.sums + c;
    const float *group = saved + c / g.width;
    double sum =
        norm_column_sum<CHANNELS, ROWS>(images, [&](int64_t image) { return sums[image * 2 * m.channels]; });
    double product = norm_column_sum<CHANNELS, ROWS>(images, [&](int64_t image) {
        const double *pair = sums + image * 2 * m.channels;
        const float *statistics = group + image * 3 * g.groups;
        return (pair[m.channels] - pair[0] * (double)statistics[g.groups]) * (double)statistics[2 * g.groups];
    });
    if (threadIdx.x >= CHANNELS || c >= m.channels) return;
    if (d_bias.data) d_bias.put(c, (float)sum);
    if (d_weight.data) d_weight.put(c, (float)product);
}

group_shape groups_of(const op_call *call, const norm_map &m) {
    int groups = static_cast<const group_norm_params *>(call->params)->groups, width = m.channels / groups;
    int64_t n = m.image_pixels * width;
    return {groups, width, n > 1 ? (double)n : 1.0};
}

norm_map map_of(const op_call *call) {
    norm_map m = norm_map_of(call->in[GROUP_NORM_X], true);
    CHECK(m.slabs * m.channels < INT32_MAX, "group_norm: %lld images", (long long)m.slabs);
    return m;
}

size_t scratch_bytes(const op_call *call, bool) {
    return norm_scratch_at(map_of(call), nullptr).bytes;
}

template <class T> void forward_as(const op_call *call) {
    const auto *p = static_cast<const group_norm_params *>(call->params);
    norm_map m = map_of(call);
    norm_scratch s = norm_scratch_at(m, call->scratch);
    const T *x = tensor_as<T>(call->in[GROUP_NORM_X]);
    T *y = tensor_as<T>(call->out[GROUP_NORM_Y]);
    norm_choose<T>(m.channels, x, y, nullptr, nullptr, [&](auto passes) {
        passes.moments(call, m, s, x);
        LAUNCH(measure_kernel, norm_blocks(m.slabs * m.channels, THREADS), THREADS, 0, call->stream, s,
               tensor_f32(call->out[GROUP_NORM_SAVED]), tensor_f32(call->in[GROUP_NORM_WEIGHT]),
               tensor_f32(call->in[GROUP_NORM_BIAS]), m, groups_of(call, m), p->eps);
        passes.affine(call, m, s, y, x, p->relu);
    });
}

void forward(const op_call *call) {
    dispatch_real(call->in[GROUP_NORM_X]->type, [&](auto zero) { forward_as<decltype(zero)>(call); });
}

template <class T> void backward_as(const op_call *call) {
    const auto *p = static_cast<const group_norm_params *>(call->params);
    norm_map m = map_of(call);
    norm_scratch s = norm_scratch_at(m, call->scratch);
    group_shape g = groups_of(call, m);
    const float *saved = tensor_f32(call->out[GROUP_NORM_SAVED]);
    norm_gradient_maps<T> maps = {tensor_as<T>(call->d_in[GROUP_NORM_X]),
                                  tensor_as<T>(call->d_out[GROUP_NORM_Y]),
                                  p->relu ? tensor_as<T>(call->out[GROUP_NORM_Y]) : nullptr,
                                  tensor_as<T>(call->in[GROUP_NORM_X]), call->accumulate[GROUP_NORM_X]};
    norm_choose<T>(m.channels, maps.d_x, maps.g, maps.y, maps.x, [&](auto passes) {
        passes.gradient_sums(call, m, s, maps, {saved, 3 * g.groups, g.width});
        if (call->d_in[GROUP_NORM_WEIGHT] || call->d_in[GROUP_NORM_BIAS])
            LAUNCH(parameters_kernel, (unsigned)(m.channels + CHANNELS - 1) / CHANNELS, CHANNELS * ROWS, 0,
                   call->stream, norm_sink(call, GROUP_NORM_WEIGHT), norm_sink(call, GROUP_NORM_BIAS), s,
                   saved, m, g);
        if (!maps.d_x) return;
        LAUNCH(gradient_kernel, norm_blocks(m.slabs * m.channels, THREADS), THREADS, 0, call->stream, s,
               saved, tensor_f32(call->in[GROUP_NORM_WEIGHT]), m, g);
        passes.gradient(call, m, s, maps);
    });
}

void backward(const op_call *call) {
    dispatch_real(call->in[GROUP_NORM_X]->type, [&](auto zero) { backward_as<decltype(zero)>(call); });
}

const op_kernel one_pass = {"cuda_one_pass", forward, backward, scratch_bytes};

} // namespace

extern "C" const op_kernel *const group_norm_cuda[] = {&one_pass, nullptr};
