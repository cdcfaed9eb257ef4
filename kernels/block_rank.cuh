/* Which place a thread's item gets when a block's items are packed in order. */
#ifndef KERNELS_BLOCK_RANK_CUH
#define KERNELS_BLOCK_RANK_CUH

#include "cuda_common.cuh"

/* Lanes of the warp below the calling one. */
__device__ inline unsigned lanes_below() {
    return (1u << threadIdx.x % 32) - 1;
}

/* Of a one-dimensional block of THREADS (a multiple of 32): in how many threads before this one `taken` holds; *total: in how
 * many of all. */
template <int THREADS> __device__ int block_rank(bool taken, int *total) {
    static_assert(THREADS % 32 == 0 && THREADS <= 1024, "whole warps");
    constexpr int warps = THREADS / 32;
    SHARED_ARRAY(int, of_warp, warps);
    unsigned ballot = __ballot_sync(WARP_ALL, taken);
    int warp = (int)threadIdx.x / 32, before = 0, all = 0;
    if (threadIdx.x % 32 == 0) of_warp[warp] = __popc(ballot);
    __syncthreads();
#pragma unroll
    for (int w = 0; w < warps; w++) {
        before += w < warp ? of_warp[w] : 0;
        all += of_warp[w];
    }
    __syncthreads(); /* the next call writes the same memory */
    *total = all;
    return before + __popc(ballot & lanes_below());
}

/* Sum of `value` over the threads before this one; *total: over all. */
template <int THREADS> __device__ int block_sum_before(int value, int *total) {
    static_assert(THREADS % 32 == 0 && THREADS <= 1024, "whole warps");
    constexpr int warps = THREADS / 32;
    SHARED_ARRAY(int, of_warp, warps);
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, sum = value;
#pragma unroll
    for (int by = 1; by < 32; by *= 2) {
        int other = __shfl_up_sync(WARP_ALL, sum, by);
        sum += lane >= by ? other : 0;
    }
    if (lane == 31) of_warp[warp] = sum;
    __syncthreads();
    int before = 0, all = 0;
#pragma unroll
    for (int w = 0; w < warps; w++) {
        before += w < warp ? of_warp[w] : 0;
        all += of_warp[w];
    }
    __syncthreads();
    *total = all;
    return before + sum - value;
}

#endif
