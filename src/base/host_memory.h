/* How much memory there is, so that a request that cannot be met is refused instead of waking the kernel's killer; and how
 * much this process took. */
#ifndef BASE_HOST_MEMORY_H
#define BASE_HOST_MEMORY_H

#include <stddef.h>

/* Bytes of RAM and swap, at most what a cgroup v2 grants; SIZE_MAX where the system does not tell. */
size_t host_memory_total(void);

/* Bytes that can be taken now without swapping, at most what the cgroup has left; SIZE_MAX where the system does not tell. */
size_t host_memory_free(void);

/* Most memory that this process ever held at once (resident set), in bytes; 0 where the system does not tell. */
size_t host_memory_peak(void);

#endif
