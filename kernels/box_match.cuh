/* Boxes that are matched with objects on CUDA: box_math.cuh for boxes as float4 (x1 y1 x2 y2), one load each. */
#ifndef KERNELS_BOX_MATCH_CUH
#define KERNELS_BOX_MATCH_CUH

#include "box_math.cuh"

struct corners {
    float of[4];
};

__device__ inline corners corners_of(float4 box) {
    return {{box.x, box.y, box.z, box.w}};
}

__device__ inline float match_area(float4 box) {
    return box_area(corners_of(box).of);
}

/* Intersection over union; 0 where the boxes do not meet, and never less. */
__device__ inline float match_iou(float4 a, float area_a, float4 b, float area_b) {
    return box_iou(corners_of(a).of, area_a, corners_of(b).of, area_b);
}

/* Deltas that take `reference` to `box`; both have an area. */
__device__ inline float4 match_deltas(float4 box, float4 reference, box_weights weights) {
    float deltas[4];
    box_encode_one(deltas, corners_of(box).of, corners_of(reference).of, weights);
    return make_float4(deltas[0], deltas[1], deltas[2], deltas[3]);
}

/* A count that the device holds, within 0..capacity. */
__device__ inline int match_count(const int32_t *count, int capacity) {
    return min(max(*count, 0), capacity);
}

#endif
