/* XXH64 (Collet, "xxHash fast digest algorithm", specification 0.1.1), seed 0: a fast 64-bit digest of
 * files, configurations and names. Not a defence against forgery. */
#ifndef BASE_CONTENT_HASH_H
#define BASE_CONTENT_HASH_H

#include <stddef.h>
#include <stdint.h>

typedef struct content_hash {
    uint64_t lanes[4];
    uint64_t total;
    uint8_t pending[32];
    size_t pending_size;
} content_hash;

void content_hash_init(content_hash *h);
void content_hash_update(content_hash *h, const void *bytes, size_t size);
uint64_t content_hash_digest(const content_hash *h);

uint64_t content_hash_of(const void *bytes, size_t size);

#endif
