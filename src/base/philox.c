#include "base/philox.h"

#include <math.h>

static uint64_t mix64(uint64_t x) {
    /* splitmix64's finaliser: spreads neighbouring seeds and purposes over the key space. */
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

void philox_block(const philox_key *key, uint32_t index, uint32_t out[4]) {
    uint64_t k = mix64(key->seed ^ ((uint64_t)key->purpose << 56));
    uint32_t k0 = (uint32_t)k, k1 = (uint32_t)(k >> 32);
    uint32_t c0 = index, c1 = key->step, c2 = (uint32_t)key->item, c3 = (uint32_t)(key->item >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
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

uint32_t philox_u32(const philox_key *key, uint64_t index) {
    uint32_t block[4];
    philox_block(key, (uint32_t)(index / 4), block);
    return block[index % 4];
}

float philox_uniform(const philox_key *key, uint64_t index) {
    return (float)(philox_u32(key, index) >> 8) * 0x1p-24f;
}

uint32_t philox_below(const philox_key *key, uint64_t index, uint32_t n) {
    return (uint32_t)(((uint64_t)philox_u32(key, index) * n) >> 32);
}

static float box_muller(const uint32_t pair[2]) {
    double u = ((double)pair[0] + 0.5) * 0x1p-32, v = ((double)pair[1] + 0.5) * 0x1p-32;
    return (float)(sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v));
}

float philox_normal(const philox_key *key, uint64_t index) {
    uint32_t block[4];
    philox_block(key, (uint32_t)(index / 2), block);
    return box_muller(block + 2 * (index % 2));
}

void philox_normals(float *out, const philox_key *key, uint64_t first, int64_t count) {
    uint32_t block[4] = {0};
    for (int64_t i = 0; i < count; i++) {
        uint64_t index = first + (uint64_t)i;
        if (i == 0 || index % 2 == 0) philox_block(key, (uint32_t)(index / 2), block);
        out[i] = box_muller(block + 2 * (index % 2));
    }
}
