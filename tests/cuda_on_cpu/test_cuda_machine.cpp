/* The machine that runs CUDA kernels on the CPU: what its operations give, and that it finds the errors it is there for. */
#include "cuda_common.cuh"

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__SANITIZE_THREAD__)
#define WATCHES_THREADS 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define WATCHES_THREADS 1
#endif
#endif
#ifndef WATCHES_THREADS
#define WATCHES_THREADS 0
#endif

static int failures;

#define EXPECT(condition)                                                                                    \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            printf("%s:%d: %s\n", __FILE__, __LINE__, #condition);                                           \
            failures++;                                                                                      \
        }                                                                                                    \
    } while (0)

/* ---- what the operations give --------------------------------------------------------------------------- */

enum { THREADS = 96 };

__global__ void warp_kernel(int *out) {
    int lane = (int)threadIdx.x % 32, *mine = out + threadIdx.x * 8;
    mine[0] = __shfl_xor_sync(WARP_ALL, lane, 5);
    mine[1] = __shfl_down_sync(WARP_ALL, lane, 3);
    mine[2] = __shfl_up_sync(WARP_ALL, lane, 3, 8);
    mine[3] = __shfl_sync(WARP_ALL, lane, 9, 8);
    mine[4] = (int)__ballot_sync(WARP_ALL, lane % 3 == 0);
    mine[5] = __any_sync(WARP_ALL, lane == 7) + 2 * __all_sync(WARP_ALL, lane < 31);
    mine[6] = warp_sum(lane + (int)threadIdx.x / 32);
    if (lane < 16) /* half of the lanes go their own way */
        mine[7] = __shfl_xor_sync(0xffffu, lane, 1);
    else
        mine[7] = __shfl_xor_sync(0xffff0000u, lane, 2);
}

static void check_warps() {
    int out[THREADS * 8];
    LAUNCH(warp_kernel, 1, THREADS, 0, nullptr, out);
    for (int i = 0; i < THREADS; i++) {
        int lane = i % 32, *mine = out + i * 8;
        EXPECT(mine[0] == (lane ^ 5));
        EXPECT(mine[1] == (lane + 3 < 32 ? lane + 3 : lane));
        EXPECT(mine[2] == (lane % 8 >= 3 ? lane - 3 : lane));
        EXPECT(mine[3] == lane / 8 * 8 + 1);
        EXPECT(mine[4] == 0x49249249);
        EXPECT(mine[5] == 1);
        EXPECT(mine[6] == 31 * 16 + i / 32 * 32);
        EXPECT(mine[7] == (lane < 16 ? lane ^ 1 : lane ^ 2));
    }
}

/* Each block: sum of the threads' values through shared memory, twice; the places of the block and its threads. */
__global__ void block_kernel(int *sums, int *places, unsigned *hits) {
    DYNAMIC_SHARED(int, turned);
    int thread = (int)(threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z));
    int threads = (int)(blockDim.x * blockDim.y * blockDim.z);
    int block = (int)(blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z));
    turned[thread] = thread;
    __syncthreads();
    int other = turned[threads - 1 - thread];
    places[block * threads + thread] = other;
    int odd = __syncthreads_count(other % 2);
    bool both = __syncthreads_or(other == 0) && __syncthreads_and(other >= 0);
    atomicAdd(hits, 1u);
    atomicMax(&sums[block], both ? odd : -1);
}

static void check_blocks(int order) {
    cuda_on_cpu_set_order(order);
    int sums[12] = {0}, places[12 * 60];
    unsigned hits = 0;
    LAUNCH(block_kernel, dim3(2, 3, 2), dim3(5, 4, 3), 60 * sizeof(int), nullptr, sums, places, &hits);
    EXPECT(hits == 12 * 60);
    for (int b = 0; b < 12; b++) {
        EXPECT(sums[b] == 30);
        for (int t = 0; t < 60; t++) EXPECT(places[b * 60 + t] == 59 - t);
    }
    cuda_on_cpu_set_order(0);
}

/* Threads that leave early do not hold up the barrier of the others. */
__global__ void leave_kernel(int *out) {
    SHARED_ARRAY(int, values, 64);
    if (threadIdx.x >= 50) return;
    values[threadIdx.x] = (int)threadIdx.x;
    __syncthreads();
    out[threadIdx.x] = values[49 - threadIdx.x];
}

__global__ void fresh_kernel(float *out) {
    SHARED_ARRAY(float, values, 4);
    if (threadIdx.x == 0) out[blockIdx.x] = values[1];
    __syncthreads();
    values[threadIdx.x] = 1;
}

static void check_shared() {
    int out[50];
    LAUNCH(leave_kernel, 1, 64, 0, nullptr, out);
    for (int i = 0; i < 50; i++) EXPECT(out[i] == 49 - i);
    float fresh[3] = {0};
    LAUNCH(fresh_kernel, 0, 4, 0, nullptr, fresh);
    EXPECT(fresh[0] == 0);
    LAUNCH(fresh_kernel, 3, 4, 0, nullptr, fresh);
    for (int i = 0; i < 3; i++) EXPECT(fresh[i] != fresh[i]);
}

template <class T> static void check_type(const float (&values)[6], const float (&stored)[6]) {
    for (int i = 0; i < 6; i++) EXPECT(to_float(from_float<T>(values[i])) == stored[i]);
    EXPECT(to_float(from_float<T>(NAN)) != to_float(from_float<T>(NAN)));
    for (unsigned bits = 0; bits < 65536; bits++) {
        T x, y;
        uint16_t half = (uint16_t)bits;
        memcpy(&x, &half, 2);
        y = from_float<T>(to_float(x));
        EXPECT(to_float(x) != to_float(x) ? to_float(y) != to_float(y) : memcmp(&x, &y, 2) == 0);
    }
}

static void check_types() {
    check_type<__nv_bfloat16>({1.00390625f, 1.01171875f, -3.3895314e38f, 3.4e38f, 1e-40f, 0.0f},
                              {1.0f, 1.015625f, -3.3895314e38f, INFINITY, 9.1835496e-41f, 0.0f});
    check_type<__half>({65519.0f, 65520.0f, 1.00048828125f, 5.9604645e-8f, 2.9802322e-8f, 6.1035156e-5f},
                       {65504.0f, INFINITY, 1.0f, 5.9604645e-8f, 0.0f, 6.1035156e-5f});
    alignas(16) __nv_bfloat16 x[8];
    float in[8] = {1, 2, 3, 4, 5, 6, 7, 8}, out[8];
    store_floats<8>(x, in);
    load_floats<8>(out, x);
    EXPECT(memcmp(in, out, sizeof in) == 0);
}

/* ---- what it finds -------------------------------------------------------------------------------------- */

__global__ void half_a_barrier(int *) {
    if (threadIdx.x < 32)
        __syncthreads();
    else
        __syncthreads(); /* another line */
}

__global__ void barrier_against_warp(int *) {
    if (threadIdx.x == 0)
        __syncthreads();
    else
        __syncwarp();
}

__global__ void lane_gone(int *out) {
    if (threadIdx.x == 3) return;
    out[threadIdx.x] = __shfl_xor_sync(WARP_ALL, 1, 1);
}

__global__ void beyond_shared(int *out) {
    DYNAMIC_SHARED(int, values);
    values[threadIdx.x] = 1;
    __syncthreads();
    out[threadIdx.x] = values[threadIdx.x + 1];
}

__global__ void no_barrier(int *out) {
    SHARED_ARRAY(int, values, 64);
    values[threadIdx.x] = (int)threadIdx.x;
    out[threadIdx.x] = values[63 - threadIdx.x];
}

__global__ void no_barrier_in_warp(int *out) {
    SHARED_ARRAY(int, values, 32);
    values[threadIdx.x] = (int)threadIdx.x;
    int one = __shfl_xor_sync(WARP_ALL, 1, 1); /* orders no memory */
    out[threadIdx.x] = values[31 - threadIdx.x] + one;
}

__global__ void warp_barrier(int *out) {
    SHARED_ARRAY(int, values, 64);
    values[threadIdx.x] = (int)threadIdx.x;
    __syncwarp();
    out[blockIdx.x * 64 + threadIdx.x] = values[threadIdx.x ^ 31];
}

__global__ void two_blocks_one_place(int *out) {
    SHARED_ARRAY(int, values, 32);
    values[threadIdx.x] = (int)blockIdx.x;
    __syncthreads();
    out[(threadIdx.x + blockIdx.x) % 32] = values[31 - threadIdx.x];
}

__global__ void both_kinds_of_shared(int *out) {
    SHARED_ARRAY(int, values, 9 * 256);
    DYNAMIC_SHARED(int, others);
    values[threadIdx.x] = others[threadIdx.x] = 1;
    out[threadIdx.x] = values[threadIdx.x] + others[threadIdx.x];
}

/* Whether a process that launches this kernel ends well. */
static bool runs(void (*kernel)(int *), dim3 grid, dim3 block, size_t shared_bytes) {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        static int out[1024];
        if (!freopen("/dev/null", "w", stderr)) _exit(3);
        LAUNCH(kernel, grid, block, shared_bytes, nullptr, out);
        exit(0);
    }
    int state = 0;
    return child > 0 && waitpid(child, &state, 0) == child && WIFEXITED(state) && WEXITSTATUS(state) == 0;
}

static void check_findings() {
    EXPECT(!runs(half_a_barrier, 1, 64, 0));
    EXPECT(!runs(barrier_against_warp, 1, 32, 0));
    EXPECT(!runs(lane_gone, 1, 32, 0));
    EXPECT(!runs(warp_barrier, 1, 1025, 0));
    EXPECT(!runs(warp_barrier, 1, 64, 100 * 1024));
    EXPECT(!runs(warp_barrier, 1, 48, 0)); /* a mask of 32 lanes in a warp of 16 */
    EXPECT(runs(both_kinds_of_shared, 1, 32, 39 * 1024));
    EXPECT(!runs(both_kinds_of_shared, 1, 32, 40 * 1024)); /* 49 KiB in all, 48 of them unasked */
    EXPECT(runs(both_kinds_of_shared, 1, 32, 41 * 1024));
    EXPECT(runs(warp_barrier, 5, 64, 0));
    EXPECT(runs(no_barrier, 1, 64, 0) == !WATCHES_THREADS);
    EXPECT(runs(no_barrier_in_warp, 1, 32, 0) == !WATCHES_THREADS);
    EXPECT(runs(two_blocks_one_place, 2, 32, 0) == !WATCHES_THREADS);
    EXPECT(runs(beyond_shared, 1, 32, 32 * sizeof(int)) == WATCHES_THREADS); /* AddressSanitizer sees it */
}

int main() {
    check_findings(); /* first: after a fork with fibers ThreadSanitizer watches no more */
    check_warps();
    for (int order = 0; order < 3; order++) check_blocks(order);
    check_shared();
    check_types();
    printf("%d failures\n", failures);
    return failures > 0;
}
