/* What kind of memory an address belongs to: the ranges a device has given out or page-locked. Safe for several threads. */
#ifndef DEVICE_MEMORY_RANGES_H
#define DEVICE_MEMORY_RANGES_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

typedef enum memory_kind { MEMORY_PAGEABLE, MEMORY_DEVICE, MEMORY_PAGE_LOCKED } memory_kind;

typedef struct memory_range {
    uintptr_t from;
    size_t bytes;
    memory_kind kind;
    char what[48]; /* its purpose */
} memory_range;

typedef struct memory_ranges {
    pthread_mutex_t mutex;
    memory_range *all;
    size_t count, capacity;
} memory_ranges;

void memory_ranges_init(memory_ranges *r);
void memory_ranges_release(memory_ranges *r);

void memory_ranges_add(memory_ranges *r, const void *memory, size_t bytes, memory_kind kind,
                       const char *what);

/* CHECKs that the very range is there. */
void memory_ranges_remove(memory_ranges *r, const void *memory, size_t bytes, memory_kind kind);

/* Kind of the range that holds all of these bytes; PAGEABLE: none does. */
memory_kind memory_ranges_find(memory_ranges *r, const void *memory, size_t bytes);

/* The largest range of a kind; its bytes are 0 where there is none. */
memory_range memory_ranges_largest(memory_ranges *r, memory_kind kind);

#endif
