#include "base/host_memory.h"

#include <stdint.h>
#include <stdio.h>
#include <sys/resource.h>

/* A number of bytes that the cgroup tells; SIZE_MAX for "max", or without cgroup v2. */
static size_t cgroup_bytes(const char *path) {
    unsigned long long bytes;
    FILE *file = fopen(path, "re");
    if (!file) return SIZE_MAX;
    int read = fscanf(file, "%llu", &bytes);
    fclose(file);
    return read == 1 ? (size_t)bytes : SIZE_MAX;
}

/* Bytes of /proc/meminfo under this name; 0 where it is not there. */
static size_t meminfo_bytes(const char *name) {
    unsigned long long kib, found = 0;
    char line[256], format[64];
    FILE *file = fopen("/proc/meminfo", "re");
    snprintf(format, sizeof format, "%s: %%llu", name);
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, format, &kib) == 1) found = kib;
    if (file) fclose(file);
    return (size_t)found << 10;
}

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

size_t host_memory_total(void) {
    size_t ram = meminfo_bytes("MemTotal");
    return least(ram ? ram + meminfo_bytes("SwapTotal") : SIZE_MAX,
                 cgroup_bytes("/sys/fs/cgroup/memory.max"));
}

size_t host_memory_free(void) {
    size_t available = meminfo_bytes("MemAvailable"), most = cgroup_bytes("/sys/fs/cgroup/memory.max"),
           used = cgroup_bytes("/sys/fs/cgroup/memory.current");
    size_t left = most == SIZE_MAX || used == SIZE_MAX ? SIZE_MAX : most > used ? most - used : 0;
    return least(available ? available : SIZE_MAX, left);
}

size_t host_memory_peak(void) {
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? (size_t)usage.ru_maxrss * 1024 : 0;
}
