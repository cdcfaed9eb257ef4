#include "bench/process_use.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

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

double process_cpu_seconds(pid_t pid) {
    char path[64], line[1024];
    unsigned long user = 0, system = 0;
    snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
    FILE *f = fopen(path, "re");
    const char *end =
        f && fgets(line, sizeof line, f) ? strrchr(line, ')') : NULL; /* of the program's name */
    if (f) fclose(f);
    if (!end || sscanf(end + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2)
        return 0;
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}
