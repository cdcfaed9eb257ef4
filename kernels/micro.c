#include "micro.h"

#include <pthread.h>
#include <stddef.h>

extern const micro_kernels micro_generic, micro_avx2, micro_avx512;

static const micro_kernels *fastest, *chosen;

int micro_available(const micro_kernels *out[3]) {
    int count = 0;
    out[count++] = &micro_generic;
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) out[count++] = &micro_avx2;
    if (__builtin_cpu_supports("avx512f")) out[count++] = &micro_avx512;
#endif
    return count;
}

static void find_fastest(void) {
    const micro_kernels *all[3];
    fastest = all[micro_available(all) - 1];
}

const micro_kernels *micro_best(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    if (chosen) return chosen;
    pthread_once(&once, find_fastest);
    return fastest;
}

void micro_choose(const micro_kernels *kernels) {
    chosen = kernels;
}
