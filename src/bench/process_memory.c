#include "bench/process_memory.h"

#include <stdio.h>

process_memory process_memory_of(pid_t pid) {
    process_memory m = {0};
    char path[64], line[256];
    size_t kib;
    snprintf(path, sizeof path, "/proc/%ld/smaps_rollup", (long)pid);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "Rss: %zu kB", &kib) == 1) m.rss = kib << 10;
        if (sscanf(line, "Pss: %zu kB", &kib) == 1) m.share = kib << 10;
        if (sscanf(line, "Private_Clean: %zu kB", &kib) == 1) m.private_bytes += kib << 10;
        if (sscanf(line, "Private_Dirty: %zu kB", &kib) == 1) m.private_bytes += kib << 10;
    }
    if (f) fclose(f);
    return m;
}
