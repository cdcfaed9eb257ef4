/* The process's compute threads. Work is cut into tiles by shape, never by the number of threads, and every
 * tile writes its own output; so the number of threads changes speed only, no bit of a result. */
#ifndef BASE_THREAD_POOL_H
#define BASE_THREAD_POOL_H

#include <stdint.h>

/* Starts the pool with `count` >= 1 threads, the caller among them; a second call resizes it. Not
 * thread-safe. */
void thread_pool_start(int count);
void thread_pool_stop(void);

/* Threads that take part in parallel_for; 1 before thread_pool_start. Use it only to size per-thread scratch. */
int thread_pool_size(void);

/* Cores this process may run on (affinity and cgroup quota), at least 1. */
int thread_pool_usable_cores(void);

/* Calls body(context, tile, thread) once for each tile in [0, tiles), in any order; `thread` is in
 * [0, thread_pool_size()) and no two calls run at the same time with the same one. Returns when all are done.
 * Inside a body, a nested parallel_for runs its tiles one after another on the calling thread. */
typedef void (*parallel_body)(void *context, int64_t tile, int thread);
void parallel_for(int64_t tiles, parallel_body body, void *context);

#endif
