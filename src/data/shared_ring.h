/* Slots of equal size in one shared memory mapping that forked processes write into. The memory is a memfd
 * whose pages are reserved at once (posix_fallocate), so a small /dev/shm does not matter and a full machine
 * is an error at start instead of a bus error in the middle of a run. */
#ifndef DATA_SHARED_RING_H
#define DATA_SHARED_RING_H

#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

typedef struct shared_ring {
    uint8_t *base;
    size_t slot_bytes; /* rounded up to whole pages */
    int slots;
} shared_ring;

/* STATUS_OS when the memory is not to be had. The mapping is inherited by fork; no descriptor stays open. */
status shared_ring_init(shared_ring *ring, int slots, size_t slot_bytes);
void shared_ring_release(shared_ring *ring);

uint8_t *shared_ring_slot(const shared_ring *ring, int slot);

#endif
