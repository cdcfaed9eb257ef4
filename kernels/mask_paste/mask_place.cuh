/* mask_place.h on CUDA: where pixels lie in a map. Every operation is rounded by itself, as on the CPU: the results are pixels. */
#ifndef KERNELS_MASK_PASTE_MASK_PLACE_CUH
#define KERNELS_MASK_PASTE_MASK_PLACE_CUH

#include "cuda_common.cuh"

extern "C" {
#include "mask_paste/mask_paste.h"
}

/* One axis of a mask. */
struct mask_axis {
    int rule, side;  /* S */
    int first, end;  /* pixels of the image that may be set: first .. end - 1; none if end <= first */
    int64_t start;   /* RESIZE: pixel 0 of the resized map */
    float low, size; /* GRID_SAMPLE: of the box */
    float scale;     /* RESIZE: nodes per pixel */
};

__device__ inline mask_axis mask_axis_make(int rule, int side, float low, float high, int pixels) {
    mask_axis axis = {rule, side, 0, 0, 0, low, __fsub_rn(high, low), 0};
    const float limit = 1 << 30;
    if (!(fabsf(low) <= limit) || !(fabsf(high) <= limit)) return axis;
    int64_t first, end;
    if (rule == MASK_PASTE_GRID_SAMPLE) {
        if (!(axis.size > 0)) return axis;
        first = (int64_t)floorf(low) - 1;
        end = (int64_t)ceilf(high) + 1;
    } else {
        float half = __fmul_rn(__fsub_rn(high, low), 0.5f), centre = __fmul_rn(__fadd_rn(high, low), 0.5f);
        half = __fmul_rn(half, (float)((side + 2.0) / side));
        first = (int64_t)__fsub_rn(centre, half);
        end = (int64_t)__fadd_rn(centre, half) + 1;
        axis.start = first;
        axis.scale = __fdiv_rn((float)(side + 2), (float)(end - first > 1 ? end - first : 1));
    }
    axis.first = (int)(first < 0 ? 0 : first < pixels ? first : pixels);
    axis.end = (int)(end < 0 ? 0 : end < pixels ? end : pixels);
    return axis;
}

/* Cell of a pixel, -1 .. S + 1, and its place in the cell, 0 from node k on. */
__device__ inline int mask_axis_at(const mask_axis &axis, int pixel, float *place) {
    *place = 0;
    if (axis.rule == MASK_PASTE_GRID_SAMPLE) {
        float from_low = __fsub_rn(__fadd_rn((float)pixel, 0.5f), axis.low);
        float grid = __fsub_rn(__fmul_rn(__fdiv_rn(from_low, axis.size), 2.0f), 1.0f);
        float at = __fdiv_rn(__fsub_rn(__fmul_rn(__fadd_rn(grid, 1.0f), (float)axis.side), 1.0f), 2.0f);
        if (!(at >= -1)) return -1;
        if (!(at < (float)axis.side)) return axis.side + 1;
        int below = (int)__fadd_rn(at, 1.0f);
        if ((float)(below - 1) > at) below--; /* at + 1 was rounded up */
        *place = __fsub_rn(at, (float)(below - 1));
        return below;
    }
    float at = __fmul_rn(axis.scale, __fadd_rn((float)(pixel - axis.start), 0.5f));
    at = __fsub_rn(at, 0.5f);
    if (!(at > 0)) return 0;
    if (!(at < (float)(axis.side + 1))) return axis.side + 1;
    *place = __fsub_rn(at, (float)(int)at);
    return (int)at;
}

/* Between two nodes; never beyond either, so monotone in `place`. NaN where a node is not finite. */
__device__ inline float mask_between(float a, float b, float place) {
    float value = __fadd_rn(a, __fmul_rn(place, __fsub_rn(b, a))), low = a < b ? a : b, high = a < b ? b : a;
    return value < low ? low : value > high ? high : value;
}

__device__ inline bool mask_is_set(int rule, float threshold, float value) {
    return rule == MASK_PASTE_GRID_SAMPLE ? value >= threshold : value > threshold;
}

#endif
