#include "device/memory_ranges.h"

#include "base/check.h"

#include <stdio.h>
#include <stdlib.h>

void memory_ranges_init(memory_ranges *r) {
    pthread_mutex_init(&r->mutex, NULL);
    r->all = NULL;
    r->count = r->capacity = 0;
}

void memory_ranges_release(memory_ranges *r) {
    pthread_mutex_destroy(&r->mutex);
    free(r->all);
}

void memory_ranges_add(memory_ranges *r, const void *memory, size_t bytes, memory_kind kind,
                       const char *what) {
    pthread_mutex_lock(&r->mutex);
    if (r->count == r->capacity) {
        size_t capacity = r->capacity ? 2 * r->capacity : 16;
        memory_range *grown = realloc(r->all, capacity * sizeof *grown);
        CHECK(grown, "no memory for a table of %zu ranges", capacity);
        r->all = grown;
        r->capacity = capacity;
    }
    memory_range *added = &r->all[r->count++];
    *added = (memory_range){.from = (uintptr_t)memory, .bytes = bytes, .kind = kind};
    snprintf(added->what, sizeof added->what, "%s", what);
    pthread_mutex_unlock(&r->mutex);
}

void memory_ranges_remove(memory_ranges *r, const void *memory, size_t bytes, memory_kind kind) {
    pthread_mutex_lock(&r->mutex);
    size_t i = 0;
    while (i < r->count && !(r->all[i].from == (uintptr_t)memory && r->all[i].kind == kind)) i++;
    CHECK(i < r->count, "%p was not allocated or pinned here", memory);
    CHECK(r->all[i].bytes == bytes, "%p: %zu bytes given back, it has %zu", memory, bytes, r->all[i].bytes);
    r->all[i] = r->all[--r->count];
    pthread_mutex_unlock(&r->mutex);
}

memory_kind memory_ranges_find(memory_ranges *r, const void *memory, size_t bytes) {
    memory_kind kind = MEMORY_PAGEABLE;
    uintptr_t at = (uintptr_t)memory;
    pthread_mutex_lock(&r->mutex);
    for (size_t i = 0; i < r->count && kind == MEMORY_PAGEABLE; i++) {
        const memory_range *range = &r->all[i];
        if (at >= range->from && bytes <= range->bytes && at - range->from <= range->bytes - bytes)
            kind = range->kind;
    }
    pthread_mutex_unlock(&r->mutex);
    return kind;
}

memory_range memory_ranges_largest(memory_ranges *r, memory_kind kind) {
    memory_range largest = {.kind = kind};
    pthread_mutex_lock(&r->mutex);
    for (size_t i = 0; i < r->count; i++)
        if (r->all[i].kind == kind && r->all[i].bytes > largest.bytes) largest = r->all[i];
    pthread_mutex_unlock(&r->mutex);
    return largest;
}
