#include "data/shared_ring.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "base/check.h"

static const char less_memory[] =
    "use fewer loader workers or a smaller batch, or leave out the largest images";

/* What the node can still give, as the kernel estimates it; SIZE_MAX where it does not say. */
static size_t available_memory(void) {
    FILE *file = fopen("/proc/meminfo", "re");
    if (!file) return SIZE_MAX;
    char line[128];
    size_t kib = SIZE_MAX / 1024;
    while (fgets(line, sizeof line, file))
        if (sscanf(line, "MemAvailable: %zu kB", &kib) == 1) break;
    fclose(file);
    return kib * 1024;
}

status shared_ring_init(shared_ring *ring, int slots, size_t slot_bytes) {
    CHECK(slots >= 1 && slot_bytes >= 1, "%d slots of %zu bytes", slots, slot_bytes);
    *ring = (shared_ring){.slots = slots};
    size_t page = (size_t)sysconf(_SC_PAGESIZE), bytes;
    if (__builtin_add_overflow(slot_bytes, page - 1, &ring->slot_bytes)) ring->slot_bytes = SIZE_MAX;
    ring->slot_bytes &= ~(page - 1);
    if (__builtin_mul_overflow(ring->slot_bytes, (size_t)slots, &bytes) || bytes > PTRDIFF_MAX)
        return error_set(STATUS_OS, less_memory,
                         "the loader needs %d slots of %zu bytes: more than there can be", slots, slot_bytes);
    /* Shared memory cannot be taken back by killing one process: never let a wrong size in an annotation file fill the
     * node. The other ranks of the node take as much at the same time. */
    size_t available = available_memory();
    if (bytes > available / 4)
        return error_set(STATUS_OS, less_memory,
                         "the loader needs %d slots of %zu MB, but may take at most a quarter of the %zu MB "
                         "of memory that are free",
                         slots, ring->slot_bytes >> 20, available >> 20);
    int fd = memfd_create("loader-ring", MFD_CLOEXEC);
    if (fd < 0)
        return error_set(STATUS_OS, "raise the limit of open files", "memfd_create: %s", strerror(errno));
    int failed;
    do failed = posix_fallocate(fd, 0, (off_t)bytes);
    while (failed == EINTR);
    void *base = failed ? MAP_FAILED : mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (!failed && base == MAP_FAILED) failed = errno;
    close(fd);
    if (failed)
        return error_set(STATUS_OS, less_memory, "no memory for the loader: %d slots of %zu bytes: %s", slots,
                         ring->slot_bytes, strerror(failed));
    ring->base = base;
    return STATUS_OK;
}

void shared_ring_release(shared_ring *ring) {
    if (ring->base) munmap(ring->base, ring->slot_bytes * (size_t)ring->slots);
    *ring = (shared_ring){0};
}

uint8_t *shared_ring_slot(const shared_ring *ring, int slot) {
    CHECK(slot >= 0 && slot < ring->slots, "slot %d of %d", slot, ring->slots);
    return ring->base + (size_t)slot * ring->slot_bytes;
}
