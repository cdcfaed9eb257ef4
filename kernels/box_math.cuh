/* box_math.h on CUDA. Sums and products are written out as single rounded operations, so that nvcc does not fuse them and every
 * decision on the results (an overlap against a threshold, which box is the larger) is the CPU's. */
#ifndef KERNELS_BOX_MATH_CUH
#define KERNELS_BOX_MATH_CUH

#include "cuda_common.cuh"

struct box_weights {
    float of[4];
};

inline box_weights box_weights_of(const double weights[4]) {
    return {{(float)weights[0], (float)weights[1], (float)weights[2], (float)weights[3]}};
}

__device__ inline float box_area(const float *box) {
    return __fmul_rn(__fsub_rn(box[2], box[0]), __fsub_rn(box[3], box[1]));
}

/* box_iou of box_math.h; `area_*` are box_area of each. */
__device__ inline float box_iou(const float *a, float area_a, const float *b, float area_b) {
    float right = a[2] < b[2] ? a[2] : b[2], left = a[0] > b[0] ? a[0] : b[0];
    float bottom = a[3] < b[3] ? a[3] : b[3], top = a[1] > b[1] ? a[1] : b[1];
    float w = __fsub_rn(right, left), h = __fsub_rn(bottom, top);
    float inter = __fmul_rn(w > 0 ? w : 0, h > 0 ? h : 0);
    return inter > 0 ? __fdiv_rn(inter, __fsub_rn(__fadd_rn(area_a, area_b), inter)) : 0;
}

/* Deltas that take `reference` to `box`, each multiplied by its weight. Both must have a positive area. */
__device__ inline void box_encode_one(float *deltas, const float *box, const float *reference,
                                      box_weights weights) {
#pragma unroll
    for (int k = 0; k < 2; k++) {
        float p_size = __fsub_rn(reference[k + 2], reference[k]), g_size = __fsub_rn(box[k + 2], box[k]);
        float p = __fadd_rn(reference[k], __fmul_rn(0.5f, p_size));
        float g = __fadd_rn(box[k], __fmul_rn(0.5f, g_size));
        deltas[k] = __fdiv_rn(__fmul_rn(weights.of[k], __fsub_rn(g, p)), p_size);
        deltas[k + 2] = __fmul_rn(weights.of[k + 2], logf(__fdiv_rn(g_size, p_size)));
    }
}

/* The inverse; dw and dh are limited to `clip` from above after the division by their weights. */
__device__ inline void box_decode_one(float *box, const float *deltas, const float *reference,
                                      box_weights weights, float clip) {
#pragma unroll
    for (int k = 0; k < 2; k++) {
        float size = __fsub_rn(reference[k + 2], reference[k]);
        float centre = __fadd_rn(reference[k], __fmul_rn(0.5f, size));
        float d = __fdiv_rn(deltas[k], weights.of[k]), d_size = __fdiv_rn(deltas[k + 2], weights.of[k + 2]);
        float g = __fadd_rn(__fmul_rn(d, size), centre);
        float half = __fmul_rn(0.5f, __fmul_rn(expf(d_size > clip ? clip : d_size), size));
        box[k] = __fsub_rn(g, half);
        box[k + 2] = __fadd_rn(g, half);
    }
}

#endif
