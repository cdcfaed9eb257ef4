#include "base/content_hash.h"

#include <string.h>

#define PRIME_1 0x9E3779B185EBCA87u
#define PRIME_2 0xC2B2AE3D27D4EB4Fu
#define PRIME_3 0x165667B19E3779F9u
#define PRIME_4 0x85EBCA77C2B2AE63u
#define PRIME_5 0x27D4EB2F165667C5u

static inline uint64_t rotate(uint64_t x, int by) {
    return (x << by) | (x >> (64 - by));
}

static inline uint64_t read_64(const uint8_t *p) {
    uint64_t x;
    memcpy(&x, p, sizeof x);
    return x;
}

static inline uint64_t mix(uint64_t lane, uint64_t input) {
    return rotate(lane + input * PRIME_2, 31) * PRIME_1;
}

static inline uint64_t merge(uint64_t h, uint64_t lane) {
    return (h ^ mix(0, lane)) * PRIME_1 + PRIME_4;
}

void content_hash_init(content_hash *h) {
    memset(h, 0, sizeof *h);
    h->lanes[0] = PRIME_1 + PRIME_2;
    h->lanes[1] = PRIME_2;
    h->lanes[3] = 0 - PRIME_1;
}

static const uint8_t *mix_stripes(content_hash *h, const uint8_t *p, size_t stripes) {
    uint64_t a = h->lanes[0], b = h->lanes[1], c = h->lanes[2], d = h->lanes[3];
    for (size_t i = 0; i < stripes; i++, p += 32) {
        a = mix(a, read_64(p));
        b = mix(b, read_64(p + 8));
        c = mix(c, read_64(p + 16));
        d = mix(d, read_64(p + 24));
    }
    h->lanes[0] = a;
    h->lanes[1] = b;
    h->lanes[2] = c;
    h->lanes[3] = d;
    return p;
}

void content_hash_update(content_hash *h, const void *bytes, size_t size) {
    const uint8_t *p = bytes;
    h->total += size;
    if (h->pending_size) {
        size_t missing = sizeof h->pending - h->pending_size, take = size < missing ? size : missing;
        if (take) memcpy(h->pending + h->pending_size, p, take);
        h->pending_size += take;
        p += take;
        size -= take;
        if (h->pending_size < sizeof h->pending) return;
        mix_stripes(h, h->pending, 1);
        h->pending_size = 0;
    }
    p = mix_stripes(h, p, size / 32);
    size %= 32;
    if (size) memcpy(h->pending, p, size);
    h->pending_size = size;
}

uint64_t content_hash_digest(const content_hash *h) {
    const uint64_t *v = h->lanes;
    uint64_t x = PRIME_5;
    if (h->total >= 32) {
        x = rotate(v[0], 1) + rotate(v[1], 7) + rotate(v[2], 12) + rotate(v[3], 18);
        for (int i = 0; i < 4; i++) x = merge(x, v[i]);
    }
    x += h->total;
    const uint8_t *p = h->pending, *end = p + h->pending_size;
    for (; end - p >= 8; p += 8) x = rotate(x ^ mix(0, read_64(p)), 27) * PRIME_1 + PRIME_4;
    if (end - p >= 4) {
        uint32_t word;
        memcpy(&word, p, sizeof word);
        x = rotate(x ^ word * PRIME_1, 23) * PRIME_2 + PRIME_3;
        p += 4;
    }
    for (; p < end; p++) x = rotate(x ^ *p * PRIME_5, 11) * PRIME_1;
    x = (x ^ (x >> 33)) * PRIME_2;
    x = (x ^ (x >> 29)) * PRIME_3;
    return x ^ (x >> 32);
}

uint64_t content_hash_of(const void *bytes, size_t size) {
    content_hash h;
    content_hash_init(&h);
    content_hash_update(&h, bytes, size);
    return content_hash_digest(&h);
}
