#include "device/device_backend.h"

#include "base/check.h"
#include "base/clock.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { LARGE_BYTES = 8 << 20 };

/* Whole pages that hold `bytes`; 0 if that overflows. */
static size_t whole_pages(size_t bytes) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (bytes == 0) return page;
    return bytes > SIZE_MAX - page ? 0 : (bytes + page - 1) / page * page;
}

status host_pages_map(void **out, size_t bytes, const char *what) {
    *out = NULL;
    size_t rounded = whole_pages(bytes);
    void *memory = MAP_FAILED;
    errno = ENOMEM;
    if (rounded)
        memory =
            mmap(NULL, rounded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return error_set(
            STATUS_OS,
            "use smaller images or fewer images per rank, or raise the limit of memory (ulimit -v)",
            "cannot reserve %zu bytes for %s: %s", bytes, what, strerror(errno));
    /* Large pages save address translations: matrix products over such memory took 4 % less time. Only a wish: kernels
     * without them refuse. */
    if (rounded >= LARGE_BYTES) madvise(memory, rounded, MADV_HUGEPAGE);
    *out = memory;
    return STATUS_OK;
}

void host_pages_unmap(void *memory, size_t bytes) {
    int failed = munmap(memory, whole_pages(bytes));
    CHECK(!failed, "cannot unmap %zu bytes at %p: %s", bytes, memory, strerror(errno));
}

static void cpu_close(device *d) {
    free(d);
}

static status cpu_alloc(device *d, void **out, size_t bytes, const char *what) {
    (void)d;
    return host_pages_map(out, bytes, what);
}

static void cpu_release(device *d, void *memory, size_t bytes) {
    (void)d;
    host_pages_unmap(memory, bytes);
}

static status cpu_pin(device *d, void *memory, size_t bytes, const char *what) {
    (void)d, (void)memory, (void)bytes, (void)what;
    return STATUS_OK;
}

static void cpu_unpin(device *d, void *memory, size_t bytes) {
    (void)d, (void)memory, (void)bytes;
}

static void cpu_copy(device *d, device_stream *stream, void *destination, const void *source, size_t bytes) {
    (void)d, (void)stream;
    memcpy(destination, source, bytes);
}

static void cpu_fill(device *d, device_stream *stream, void *memory, int byte, size_t bytes) {
    (void)d, (void)stream;
    memset(memory, byte, bytes);
}

static void cpu_synchronize(device *d, device_stream *stream) {
    (void)d, (void)stream;
}

/* An event: when it was recorded. */
struct device_event {
    double seconds;
};

static status cpu_event_new(device *d, device_event **out, bool timed) {
    (void)d, (void)timed;
    *out = calloc(1, sizeof **out);
    return *out ? STATUS_OK : error_set(STATUS_OS, "free some memory", "no memory for an event");
}

static void cpu_event_free(device *d, device_event *event) {
    (void)d;
    free(event);
}
static void cpu_event_record(device *d, device_event *event, device_stream *stream) {
    (void)d, (void)stream;
    event->seconds = clock_seconds();
}
static void cpu_event_wait(device *d, device_stream *stream, device_event *event) {
    (void)d, (void)stream, (void)event;
}
static void cpu_event_synchronize(device *d, device_event *event) {
    (void)d, (void)event;
}
static bool cpu_event_is_reached(device *d, device_event *event) {
    (void)d, (void)event;
    return true;
}
static double cpu_event_milliseconds(device *d, device_event *from, device_event *to) {
    (void)d;
    return 1e3 * (to->seconds - from->seconds);
}

static const device_ops cpu_ops = {
    .close = cpu_close,
    .alloc = cpu_alloc,
    .release = cpu_release,
    .pin = cpu_pin,
    .unpin = cpu_unpin,
    .copy = cpu_copy,
    .fill = cpu_fill,
    .synchronize = cpu_synchronize,
    .event_new = cpu_event_new,
    .event_free = cpu_event_free,
    .event_record = cpu_event_record,
    .event_wait = cpu_event_wait,
    .event_synchronize = cpu_event_synchronize,
    .event_is_reached = cpu_event_is_reached,
    .event_milliseconds = cpu_event_milliseconds,
};

status device_cpu_open(device **out) {
    *out = calloc(1, sizeof **out);
    if (!*out) return error_set(STATUS_OS, "free some memory", "no memory for the CPU device");
    (*out)->ops = &cpu_ops;
    (*out)->kind = DEVICE_CPU;
    (*out)->host_accessible = true;
    snprintf((*out)->name, sizeof(*out)->name, "cpu");
    return STATUS_OK;
}
