#include "bench/naive_roi.h"

#include "roi_align/roi_align.h"
#include "roi_pool/roi_pool.h"

#include <math.h>
#include <string.h>

/* One region, the image it lies on and its part of the output. */
typedef struct region {
    const float *roi; /* x1 y1 x2 y2 */
    const float *x;
    float *d_x;
    float *y; /* or its gradient */
    int64_t height, width, channels;
} region;

static region region_at(const op_call *call, int64_t r, bool backward) {
    const tensor *x = call->in[0], *y = backward ? call->d_out[0] : call->out[0];
    const float *row = tensor_f32(call->in[1]) + 5 * r;
    int64_t image = (int64_t)row[0] * tensor_row_size(x);
    return (region){.roi = row + 1,
                    .x = tensor_f32(x) + image,
                    .d_x = backward ? tensor_f32(call->d_in[0]) + image : NULL,
                    .y = tensor_f32(y) + r * tensor_row_size(y),
                    .height = x->shape[1],
                    .width = x->shape[2],
                    .channels = x->shape[3]};
}

/* Clears the gradient unless it is added to; false: there is nothing to add to it. */
static bool start_backward(const op_call *call) {
    if (!call->d_in[0]) return false;
    if (!call->accumulate[0]) memset(call->d_in[0]->data, 0, tensor_bytes(call->d_in[0]));
    return call->d_out[0] != NULL;
}

/* ---- roi_pool --------------------------------------------------------------------------------------------- */

static int64_t clamped(float value, int64_t most) {
    return value < 0.0f ? 0 : value > (float)most ? most : (int64_t)value;
}

/* Rows (columns) of bin p: [first, end) of a region from `low` to `high`, both of them pixels of the map. */
static void bin_range(int64_t *first, int64_t *end, float low, float high, const int p_of[2],
                      int64_t length) {
    float size = fmaxf(high - low + 1.0f, 1.0f) / (float)p_of[1];
    *first = clamped(floorf((float)p_of[0] * size) + low, length);
    *end = clamped(ceilf((float)(p_of[0] + 1) * size) + low, length);
}

/* Pools the bin (p, q) of one channel: the place of its largest pixel, -1 where it has none. */
static int64_t pool_bin(const region *g, const roi_pool_params *params, const int bin[2], int64_t c) {
    float scale = (float)params->spatial_scale;
    int64_t y0, y1, x0, x1, best = -1;
    bin_range(&y0, &y1, roundf(g->roi[1] * scale), roundf(g->roi[3] * scale),
              (int[]){bin[0], params->output_size}, g->height);
    bin_range(&x0, &x1, roundf(g->roi[0] * scale), roundf(g->roi[2] * scale),
              (int[]){bin[1], params->output_size}, g->width);
    for (int64_t y = y0; y < y1; y++)
        for (int64_t x = x0; x < x1; x++) {
            int64_t at = (y * g->width + x) * g->channels + c;
            if (best < 0 || g->x[at] > g->x[best]) best = at;
        }
    return best;
}

static void pool(const op_call *call, bool backward) {
    const roi_pool_params *params = call->params;
    int64_t rows = tensor_valid_rows(call->in[ROI_POOL_ROIS]);
    int size = params->output_size;
    for (int64_t r = 0; r < rows; r++) {
        region g = region_at(call, r, backward);
        for (int p = 0; p < size; p++)
            for (int q = 0; q < size; q++)
                for (int64_t c = 0; c < g.channels; c++) {
                    int64_t best = pool_bin(&g, params, (int[]){p, q}, c);
                    float *y = &g.y[(p * size + q) * g.channels + c];
                    if (!backward)
                        *y = best < 0 ? 0.0f : g.x[best];
                    else if (best >= 0)
                        g.d_x[best] += *y;
                }
    }
}

static void pool_forward(const op_call *call) {
    pool(call, false);
}

static void pool_backward(const op_call *call) {
    if (start_backward(call)) pool(call, true);
}

static const op_kernel naive_pool = {
    .name = "naive_loop", .forward = pool_forward, .backward = pool_backward};

/* ---- roi_align -------------------------------------------------------------------------------------------- */

/* Start and bin size of a region on one axis, and its samples in a bin. */
typedef struct axis {
    float start, bin;
    int samples;
} axis;

static axis axis_of(const region *g, const roi_align_params *params, int i) {
    float scale = (float)params->spatial_scale, half = params->aligned ? 0.5f : 0.0f;
    float start = g->roi[1 - i] * scale - half, length = g->roi[3 - i] * scale - half - start;
    if (!params->aligned) length = fmaxf(length, 1.0f);
    float bin = length / (float)params->output_size;
    int samples = params->sampling_ratio > 0 ? params->sampling_ratio : (int)ceilf(bin);
    return (axis){start, bin, samples};
}

/* Where a sample lies between two pixels of one axis; false: off the map. */
static bool neighbours(float at, int64_t length, int64_t low_high[2], float *weight) {
    if (!(at >= -1.0f && at <= (float)length) || length == 0) return false;
    at = fmaxf(at, 0.0f);
    low_high[0] = (int64_t)at < length - 1 ? (int64_t)at : length - 1;
    low_high[1] = low_high[0] + 1 < length ? low_high[0] + 1 : low_high[0];
    *weight = low_high[0] == length - 1 ? 0.0f : at - (float)low_high[0];
    return true;
}

/* One sample of all channels: adds to y, or y's gradient to the four pixels. */
static void sample(const region *g, float *y, float at_y, float at_x, float share) {
    int64_t ys[2], xs[2];
    float wy, wx;
    if (!neighbours(at_y, g->height, ys, &wy) || !neighbours(at_x, g->width, xs, &wx)) return;
    for (int i = 0; i < 4; i++) {
        float weight = (i / 2 ? wy : 1.0f - wy) * (i % 2 ? wx : 1.0f - wx) * share;
        int64_t at = (ys[i / 2] * g->width + xs[i % 2]) * g->channels;
        for (int64_t c = 0; c < g->channels; c++) {
            if (g->d_x)
                g->d_x[at + c] += weight * y[c];
            else
                y[c] += weight * g->x[at + c];
        }
    }
}

static void align_region(const region *g, const roi_align_params *params) {
    axis v = axis_of(g, params, 0), h = axis_of(g, params, 1);
    float count = fmaxf((float)v.samples * (float)h.samples, 1.0f);
    for (int p = 0; p < params->output_size; p++)
        for (int q = 0; q < params->output_size; q++)
            for (int i = 0; i < v.samples; i++)
                for (int j = 0; j < h.samples; j++)
                    sample(g, g->y + (p * params->output_size + q) * g->channels,
                           v.start + v.bin * ((float)p + ((float)i + 0.5f) / (float)v.samples),
                           h.start + h.bin * ((float)q + ((float)j + 0.5f) / (float)h.samples), 1.0f / count);
}

static void align(const op_call *call, bool backward) {
    int64_t rows = tensor_valid_rows(call->in[ROI_ALIGN_ROIS]);
    for (int64_t r = 0; r < rows; r++) {
        region g = region_at(call, r, backward);
        if (!backward) memset(g.y, 0, sizeof(float) * (size_t)tensor_row_size(call->out[0]));
        align_region(&g, call->params);
    }
}

static void align_forward(const op_call *call) {
    align(call, false);
}

static void align_backward(const op_call *call) {
    if (start_backward(call)) align(call, true);
}

static const op_kernel naive_align = {
    .name = "naive_loop", .forward = align_forward, .backward = align_backward};

const op_kernel *naive_roi_kernel(const char *op_name) {
    if (strcmp(op_name, "roi_pool") == 0) return &naive_pool;
    return strcmp(op_name, "roi_align") == 0 ? &naive_align : NULL;
}
