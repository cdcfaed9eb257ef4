#include "base/thread_pool.h"

#include "base/check.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_THREADS = 256, SPINS_BEFORE_SLEEP = 2000 };

static struct {
    int size; /* threads including the caller */
    pthread_t threads[MAX_THREADS];
    pthread_mutex_t lock;
    pthread_cond_t wake, done;
    atomic_uint_fast64_t generation; /* one more for each parallel_for; written under lock */
    atomic_bool stopping;
    atomic_int busy; /* helpers still inside the current parallel_for */
    parallel_body body;
    void *context;
    int64_t tiles;
    atomic_int_fast64_t next;
} pool = {.size = 1,
          .lock = PTHREAD_MUTEX_INITIALIZER,
          .wake = PTHREAD_COND_INITIALIZER,
          .done = PTHREAD_COND_INITIALIZER};

static _Thread_local int nested_thread = -1; /* thread number while inside a body, else -1 */

static void run_tiles(int thread) {
    nested_thread = thread;
    for (;;) {
        int64_t tile = atomic_fetch_add(&pool.next, 1);
        if (tile >= pool.tiles) break;
        pool.body(pool.context, tile, thread);
    }
    nested_thread = -1;
}

static void *helper_main(void *argument) {
    int thread = (int)(intptr_t)argument;
    uint64_t seen = 0;
    for (;;) {
        /* Steps are made of many short parallel_for calls: spin a little before going to sleep. */
        for (int spin = 0; spin < SPINS_BEFORE_SLEEP && atomic_load(&pool.generation) == seen; spin++)
            sched_yield();
        pthread_mutex_lock(&pool.lock);
        while (atomic_load(&pool.generation) == seen && !atomic_load(&pool.stopping))
            pthread_cond_wait(&pool.wake, &pool.lock);
        seen = atomic_load(&pool.generation);
        pthread_mutex_unlock(&pool.lock);
        if (atomic_load(&pool.stopping)) return NULL;
        run_tiles(thread);
        if (atomic_fetch_sub(&pool.busy, 1) == 1) {
            pthread_mutex_lock(&pool.lock);
            pthread_cond_signal(&pool.done);
            pthread_mutex_unlock(&pool.lock);
        }
    }
}

void thread_pool_start(int count) {
    CHECK(count >= 1, "thread count %d", count);
    thread_pool_stop();
    if (count > MAX_THREADS) count = MAX_THREADS;
    atomic_store(&pool.stopping, false);
    atomic_store(&pool.generation, 0);
    for (int i = 1; i < count; i++) {
        int failed = pthread_create(&pool.threads[i], NULL, helper_main, (void *)(intptr_t)i);
        CHECK(!failed, "cannot start compute thread %d of %d", i, count);
    }
    pool.size = count;
}

void thread_pool_stop(void) {
    if (pool.size == 1) return;
    pthread_mutex_lock(&pool.lock);
    atomic_store(&pool.stopping, true);
    atomic_fetch_add(&pool.generation, 1);
    pthread_cond_broadcast(&pool.wake);
    pthread_mutex_unlock(&pool.lock);
    for (int i = 1; i < pool.size; i++) pthread_join(pool.threads[i], NULL);
    pool.size = 1;
}

int thread_pool_size(void) {
    return pool.size;
}

/* Cores granted by a cgroup v2 quota, or `otherwise`. */
static int cgroup_cores(int otherwise) {
    FILE *file = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (!file) return otherwise;
    long quota = 0, period = 0;
    int got = fscanf(file, "%ld %ld", &quota, &period);
    fclose(file);
    if (got != 2 || quota <= 0 || period <= 0) return otherwise;
    long cores = (quota + period - 1) / period;
    return cores < otherwise ? (int)cores : otherwise;
}

int thread_pool_usable_cores(void) {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    int cores = cgroup_cores(CPU_COUNT(&set));
    return cores < 1 ? 1 : cores;
}

void parallel_for(int64_t tiles, parallel_body body, void *context) {
    if (tiles <= 0) return;
    if (nested_thread >= 0 || pool.size == 1 || tiles == 1) {
        int thread = nested_thread >= 0 ? nested_thread : 0;
        bool outermost = nested_thread < 0;
        nested_thread = thread;
        for (int64_t tile = 0; tile < tiles; tile++) body(context, tile, thread);
        if (outermost) nested_thread = -1;
        return;
    }
    pool.body = body;
    pool.context = context;
    pool.tiles = tiles;
    atomic_store(&pool.next, 0);
    atomic_store(&pool.busy, pool.size - 1);
    pthread_mutex_lock(&pool.lock);
    atomic_fetch_add(&pool.generation, 1);
    pthread_cond_broadcast(&pool.wake);
    pthread_mutex_unlock(&pool.lock);
    run_tiles(0);
    for (int spin = 0; spin < SPINS_BEFORE_SLEEP && atomic_load(&pool.busy) > 0; spin++) sched_yield();
    pthread_mutex_lock(&pool.lock);
    while (atomic_load(&pool.busy) > 0) pthread_cond_wait(&pool.done, &pool.lock);
    pthread_mutex_unlock(&pool.lock);
}
