/* Random choice without replacement as a function: of all candidates, the `capacity` ones with the smallest
 * keys, ties by index. So the choice depends on (seed, iteration, image, index) only: not on order, threads
 * or ranks. */
#ifndef KERNELS_SAMPLE_HEAP_H
#define KERNELS_SAMPLE_HEAP_H

#include <stdint.h>

typedef struct sample {
    uint64_t order; /* key << 32 | index */
    int32_t index;
    int32_t match; /* whatever belongs to the candidate */
} sample;

static inline sample sample_make(uint32_t key, int64_t index, int32_t match) {
    return (sample){.order = (uint64_t)key << 32 | (uint32_t)index, .index = (int32_t)index, .match = match};
}

/* The largest order is items[0]. */
typedef struct sample_heap {
    sample *items; /* [capacity] */
    int64_t count, capacity;
} sample_heap;

/* Keeps `s` if it belongs to the `capacity` smallest so far. */
void sample_heap_push(sample_heap *heap, sample s);

/* Drops the largest orders until `count` are left. */
void sample_heap_shrink(sample_heap *heap, int64_t count);

/* Sorts the kept samples by rising index; afterwards it is no heap any more. */
void sample_heap_sort_by_index(sample_heap *heap);

#endif
