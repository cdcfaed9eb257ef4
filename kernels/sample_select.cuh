/* Random choice without replacement on CUDA, the one that sample_heap.h makes: of all candidates, those with the smallest
 * orders. An order is a key of 32 bits above an index of 32 bits, so all are different. */
#ifndef KERNELS_SAMPLE_SELECT_CUH
#define KERNELS_SAMPLE_SELECT_CUH

#include "block_rank.cuh"

__device__ inline uint64_t sample_order(uint32_t key, uint32_t index) {
    return (uint64_t)key << 32 | index;
}

/* For a block of THREADS >= 256: the order up to which exactly `wanted` candidates lie, digit by digit from the top; all ones when
 * there are no more than `wanted`, and nothing may be chosen when `wanted` is 0. candidates(i, &order) says whether i of 0..n-1
 * is one. Every thread gets the result. */
template <int THREADS, class C> __device__ uint64_t sample_limit(C candidates, int n, int wanted) {
    constexpr int digits = 256;
    static_assert(THREADS >= digits, "a thread for each digit");
    SHARED_ARRAY(int, counts, digits);
    SHARED_ARRAY(int, chosen, 3); /* digit; candidates below it; candidates that have it */
    uint64_t prefix = 0;
    for (int shift = 56; shift >= 0; shift -= 8) {
        uint64_t known = shift == 56 ? 0 : ~(uint64_t)0 << (shift + 8);
        if (threadIdx.x < digits) counts[threadIdx.x] = 0;
        if (threadIdx.x == 0) chosen[0] = -1;
        __syncthreads();
        for (int i = (int)threadIdx.x; i < n; i += THREADS) {
            uint64_t order;
            if (candidates(i, &order) && (order & known) == prefix)
                atomicAdd(&counts[(unsigned)(order >> shift) % digits], 1);
        }
        __syncthreads();
        int total, count = threadIdx.x < digits ? counts[threadIdx.x] : 0;
        int below = block_sum_before<THREADS>(count, &total);
        if (below < wanted && wanted <= below + count) {
            chosen[0] = (int)threadIdx.x;
            chosen[1] = below;
            chosen[2] = count;
        }
        __syncthreads();
        if (chosen[0] < 0) return ~(uint64_t)0;
        prefix |= (uint64_t)chosen[0] << shift;
        wanted -= chosen[1];
        bool all_of_it = wanted == chosen[2];
        __syncthreads();
        if (all_of_it) return prefix | (((uint64_t)1 << shift) - 1);
    }
    return prefix;
}

#endif
