/* How boxes are matched with objects on CUDA, with the bits of box_math.h: no operation is fused. A box is a float4: x1 y1 x2
 * y2. */
#ifndef KERNELS_BOX_MATCH_CUH
#define KERNELS_BOX_MATCH_CUH

#include "cuda_common.cuh"

__device__ inline float match_area(float4 box) {
    return __fmul_rn(__fsub_rn(box.z, box.x), __fsub_rn(box.w, box.y));
}

/* Intersection over union; 0 where the boxes do not meet, and never less. */
__device__ inline float match_iou(float4 a, float area_a, float4 b, float area_b) {
    float w = __fsub_rn(a.z < b.z ? a.z : b.z, a.x > b.x ? a.x : b.x);
    float h = __fsub_rn(a.w < b.w ? a.w : b.w, a.y > b.y ? a.y : b.y);
    if (!(w > 0.0f) || !(h > 0.0f)) return 0.0f;
    float inter = __fmul_rn(w, h);
    return inter > 0.0f ? __fdiv_rn(inter, __fsub_rn(__fadd_rn(area_a, area_b), inter)) : 0.0f;
}

struct match_weights {
    float v[4];
};

inline match_weights match_weights_of(const double weights[4]) {
    return {{(float)weights[0], (float)weights[1], (float)weights[2], (float)weights[3]}};
}

/* Deltas that take `reference` to `box`, as box_encode_one; both have an area. */
__device__ inline float4 match_deltas(float4 box, float4 reference, const match_weights &weights) {
    float pw = reference.z - reference.x, ph = reference.w - reference.y;
    float gw = box.z - box.x, gh = box.w - box.y;
    float dx = (box.x + 0.5f * gw) - (reference.x + 0.5f * pw),
          dy = (box.y + 0.5f * gh) - (reference.y + 0.5f * ph);
    return make_float4(weights.v[0] * dx / pw, weights.v[1] * dy / ph, weights.v[2] * logf(gw / pw),
                       weights.v[3] * logf(gh / ph));
}

/* A count that the device holds, within 0..capacity. */
__device__ inline int match_count(const int32_t *count, int capacity) {
    return min(max(*count, 0), capacity);
}

#endif
