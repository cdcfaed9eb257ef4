/* The decisions of non-maximum suppression on CUDA, with the bits of nms_greedy.c: which boxes overlap, and which of 64 boxes
 * stay. */
#ifndef KERNELS_NMS_OVERLAP_CUH
#define KERNELS_NMS_OVERLAP_CUH

#include "cuda_common.cuh"

constexpr int NMS_TILE = 64; /* boxes whose bits are one word */

/* A box is a float4: x1 y1 x2 y2. */
__device__ inline float nms_area(float4 box) {
    return __fmul_rn(__fsub_rn(box.z, box.x), __fsub_rn(box.w, box.y));
}

/* Whether `box` goes because `better`, which stays, covers it: IoU > threshold, as nms_greedy.c rounds it (no operation is fused;
 * the IoU of what has a NaN is NaN, so fmaxf may drop one). Most pairs are far below and need no division: the factor allows for
 * the rounding of the product, and what is not below is divided. */
__device__ inline bool nms_overlaps(float4 better, float better_area, float4 box, float area,
                                    float threshold) {
    float w = __fsub_rn(fminf(box.z, better.z), fmaxf(box.x, better.x));
    float h = __fsub_rn(fminf(box.w, better.w), fmaxf(box.y, better.y));
    float shared = __fmul_rn(fmaxf(w, 0.0f), fmaxf(h, 0.0f));
    float together = __fsub_rn(__fadd_rn(better_area, area), shared);
    if (shared < threshold * together * 0.99999f) return false;
    return __fdiv_rn(shared, together) > threshold;
}

/* nms_float_threshold. */
inline float nms_overlap_threshold(double threshold) {
    float t = (float)threshold;
    return (double)t > threshold ? nextafterf(t, -INFINITY) : t;
}

/* A full warp decides on 64 boxes, of which lane l has numbers l and l + 32: `by_*` are the boxes before it that overlap it,
 * `gone_*` says that it is out already. Returns the bits of those that stay, to every lane.
 *
 * A box stays when all that overlap it are gone, and goes when one of them stays. The first box that is open can always be
 * decided, and mostly many can at once: the rounds are as many as the longest chain of boxes that hang on each other, not 64. */
__device__ inline uint64_t nms_resolve_tile(uint64_t by_low, uint64_t by_high, bool gone_low,
                                            bool gone_high) {
    uint64_t stays = 0, goes = __ballot_sync(WARP_ALL, gone_low);
    goes |= (uint64_t)__ballot_sync(WARP_ALL, gone_high) << 32;
    while ((stays | goes) != UINT64_MAX) {
        uint64_t free = __ballot_sync(WARP_ALL, (by_low & ~goes) == 0);
        free |= (uint64_t)__ballot_sync(WARP_ALL, (by_high & ~goes) == 0) << 32;
        stays |= free & ~goes;
        uint64_t covered = __ballot_sync(WARP_ALL, (by_low & stays) != 0);
        covered |= (uint64_t)__ballot_sync(WARP_ALL, (by_high & stays) != 0) << 32;
        goes |= covered;
    }
    return stays;
}

#endif
