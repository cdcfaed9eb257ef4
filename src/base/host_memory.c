#include "base/host_memory.h"

#include <stdint.h>
#include <stdio.h>

/* Bytes that the cgroup may use; SIZE_MAX without a limit ("max") or without cgroup v2. */
static size_t cgroup_limit(void) {
    unsigned long long bytes;
    FILE *file = fopen("/sys/fs/cgroup/memory.max", "re");
    if (!file) return SIZE_MAX;
    int read = fscanf(file, "%llu", &bytes);
    fclose(file);
    return read == 1 ? (size_t)bytes : SIZE_MAX;
}

size_t host_memory_total(void) {
    unsigned long long kib, ram = 0, swap = 0;
    FILE *file = fopen("/proc/meminfo", "re");
    if (!file) return SIZE_MAX;
    for (char line[256]; fgets(line, sizeof line, file);) {
        if (sscanf(line, "MemTotal: %llu", &kib) == 1) ram = kib;
        if (sscanf(line, "SwapTotal: %llu", &kib) == 1) swap = kib;
    }
    fclose(file);
    size_t total = ram ? (size_t)(ram + swap) << 10 : SIZE_MAX, limit = cgroup_limit();
    return limit < total ? limit : total;
}
