/* src/base/philox.h on CUDA, for random draws by image: the same words, bit for bit. */
#ifndef KERNELS_PHILOX_CUH
#define KERNELS_PHILOX_CUH

#include "cuda_common.cuh"

extern "C" {
#include "base/philox.h"
#include "image_info.h"
}

/* What seed and purpose give; made on the host. */
struct philox_root {
    uint32_t k0, k1;
};

inline philox_root philox_root_make(uint64_t seed, philox_purpose purpose) {
    uint64_t x = (seed ^ (uint64_t)purpose << 56) + 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    x ^= x >> 31;
    return {(uint32_t)x, (uint32_t)(x >> 32)};
}

struct philox_stream {
    philox_root root;
    uint32_t step, item_low, item_high;
};

/* The stream of an image in the iteration that `step` holds. */
__device__ inline philox_stream philox_stream_of(philox_root root, const int32_t *step,
                                                 const image_info *info) {
    return {root, (uint32_t)*step, (uint32_t)info->id_low, (uint32_t)info->id_high};
}

/* Words 4 * index .. 4 * index + 3. */
__device__ inline void philox_words(uint32_t (&out)[4], const philox_stream &s, uint32_t index) {
    uint32_t k0 = s.root.k0, k1 = s.root.k1, c0 = index, c1 = s.step, c2 = s.item_low, c3 = s.item_high;
#pragma unroll
    for (int round = 0; round < 10; round++) {
        uint32_t n0 = __umulhi(0xCD9E8D57u, c2) ^ c1 ^ k0, n2 = __umulhi(0xD2511F53u, c0) ^ c3 ^ k1;
        c1 = 0xCD9E8D57u * c2;
        c3 = 0xD2511F53u * c0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

__device__ inline uint32_t philox_word(const philox_stream &s, uint32_t index) {
    uint32_t words[4];
    philox_words(words, s, index / 4);
    return index % 4 < 2 ? index % 2 ? words[1] : words[0] : index % 2 ? words[3] : words[2];
}

#endif
