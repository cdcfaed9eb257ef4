/* roi_bins.h on CUDA: where a region's bins and samples lie on a feature map. Places are single rounded operations, so that a
 * sample at the edge of a map is on the same side of it as on the CPU. */
#ifndef KERNELS_ROI_BINS_CUH
#define KERNELS_ROI_BINS_CUH

#include "cuda_common.cuh"

enum { ROI_MIN_LEVEL = 2, ROI_LEVELS = 4 };

struct roi_sampling {
    int output_size;    /* P */
    int sampling_ratio; /* samples per bin and axis; <= 0: ceil(size of the region / P) */
    bool aligned;       /* shift by half a pixel; else regions are at least 1 x 1 */
};

/* One axis (0: y, 1: x) of a region's bins. */
struct roi_axis {
    float start, bin; /* of the region, of one bin; in pixels of the map */
    int samples;      /* per bin; 0: none */
};

__device__ inline roi_axis roi_axis_make(const float *roi, int axis, float scale, roi_sampling s) {
    float offset = s.aligned ? 0.5f : 0.0f, bins = (float)s.output_size;
    float start = __fsub_rn(__fmul_rn(roi[2 - axis], scale), offset);
    float size = __fsub_rn(__fsub_rn(__fmul_rn(roi[4 - axis], scale), offset), start);
    if (!s.aligned && !(size > 1)) size = 1;
    float bin = __fdiv_rn(size, bins), adaptive = ceilf(bin);
    int samples = s.sampling_ratio > 0       ? s.sampling_ratio
                  : !(adaptive > 0)          ? 0
                  : adaptive < 2147483648.0f ? (int)adaptive
                                             : INT32_MAX;
    return {start, bin, samples};
}

/* Place of sample `index` of bin `p`. */
__device__ inline float roi_sample_at(roi_axis a, int p, int index) {
    float inside = __fdiv_rn(__fmul_rn((float)index + 0.5f, a.bin), (float)a.samples);
    return __fadd_rn(__fadd_rn(a.start, __fmul_rn((float)p, a.bin)), inside);
}

/* The samples of bin p that can lie in [low, high] are among *first .. *end - 1: all where they are few. */
__device__ inline void roi_samples_within(roi_axis a, int p, float low, float high, int *first, int *end) {
    *first = 0;
    *end = a.samples;
    double step = (double)a.bin / (double)a.samples;
    if (a.samples <= 32 || !(step > 0)) return;
    double base = (double)a.start + (double)p * (double)a.bin, most = (double)a.samples;
    *first = (int)fmin(fmax(floor(((double)low - base) / step) - 2, 0.0), most); /* NaN is 0 */
    *end = (int)fmin(fmax(ceil(((double)high - base) / step) + 2, 0.0), most);
}

/* The two neighbours of a sample on an axis of `size` pixels, and the weight of the upper one. False: the sample lies off the
 * map by more than a pixel (or is NaN) and counts as 0. */
__device__ inline bool roi_neighbours(float at, int size, int *low, int *high, float *high_weight) {
    if (!(at >= -1 && at <= (float)size) || size == 0) return false;
    if (at < 0) at = 0;
    int below = (int)at;
    bool last = below >= size - 1;
    *low = last ? size - 1 : below;
    *high = last ? size - 1 : below + 1;
    *high_weight = last ? 0.0f : at - (float)below;
    return true;
}

/* Pyramid level of a region, counted from P2: floor(4 + log2(sqrt(area) / 224 + eps)) within P2..P5. */
__device__ inline int roi_level(const float *roi, float eps) {
    float area = __fmul_rn(__fsub_rn(roi[3], roi[1]), __fsub_rn(roi[4], roi[2]));
    float size = __fadd_rn(__fdiv_rn(__fsqrt_rn(area), 224.0f), eps);
    float level = floorf(__fadd_rn(4.0f, log2f(size))) - ROI_MIN_LEVEL;
    return !(area > 0) || !(level > 0) ? 0 : level < ROI_LEVELS - 1 ? (int)level : ROI_LEVELS - 1;
}

#endif
