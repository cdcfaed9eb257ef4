/* Memory and time of a running process, as the kernel tells it. */
#ifndef BENCH_PROCESS_USE_H
#define BENCH_PROCESS_USE_H

#include <stddef.h>
#include <sys/types.h>

typedef struct process_memory {
    size_t rss;           /* resident, shared pages included */
    size_t private_bytes; /* resident and of this process alone: what it costs */
    size_t share;         /* private, and its part of what it shares with others */
} process_memory;

/* Zeros where the system does not tell (no smaps_rollup, or another user's process). */
process_memory process_memory_of(pid_t pid);

/* Seconds that its threads have computed, in steps of the kernel's clock (often 10 ms); 0 where the system does not tell. */
double process_cpu_seconds(pid_t pid);

#endif
