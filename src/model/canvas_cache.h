/* Which graph of which canvas lies in which slot: the least recently used one makes room. The graphs themselves are kept
 * by the caller, by slot number. */
#ifndef MODEL_CANVAS_CACHE_H
#define MODEL_CANVAS_CACHE_H

#include <stdbool.h>
#include <stdint.h>

enum { CANVAS_CACHE_SIZE = 32 };

typedef struct canvas_cache {
    struct canvas_slot {
        int64_t height, width, used; /* used: when, by count of lookups; 0: the slot is free */
        int kind;
    } slots[CANVAS_CACHE_SIZE];
    int64_t clock;
} canvas_cache;

/* The slot of a canvas and of a kind of graph, {0} being an empty cache. *is_new: it was not there; the slot is now its
 * own, and what the caller kept in it has to go. */
int canvas_cache_slot(canvas_cache *cache, int64_t height, int64_t width, int kind, bool *is_new);

#endif
