/* CUDA's language on the host: with this header a .cu file is C++17 for gcc or clang, so its kernels run under
 * AddressSanitizer, UBSan and ThreadSanitizer. kernels/cuda_common.cuh includes it wherever nvcc does not compile.
 *
 * A block's threads are fibers of one host thread. A fiber runs until it ends or waits (barrier, warp operation); blocks run
 * one after another. What is checked beyond what the sanitizers see:
 *
 * - every thread of a block that still runs must reach the same __syncthreads, and every lane named in a mask the same warp
 *   operation; else the run aborts naming places and threads;
 * - shared memory holds 0xFF bytes (NaN) at the start of each block;
 * - launch limits that every supported GPU has (1024 threads, 99 KiB of shared memory, grid sizes);
 * - under ThreadSanitizer each CUDA thread is a thread of its own that only barriers order: accesses of two threads to the
 *   same bytes between two barriers are reported, in shared and in global memory; threads of different blocks are not
 *   ordered at all;
 * - cuda_on_cpu_set_order changes the order of threads and blocks: results must not change by a bit. */
#ifndef CUDA_ON_CPU_H
#define CUDA_ON_CPU_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <tuple>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) int2 {
    int x, y;
};
struct alignas(16) int4 {
    int x, y, z, w;
};

static inline float2 make_float2(float x, float y) {
    return {x, y};
}
static inline float4 make_float4(float x, float y, float z, float w) {
    return {x, y, z, w};
}
static inline int2 make_int2(int x, int y) {
    return {x, y};
}
static inline int4 make_int4(int x, int y, int z, int w) {
    return {x, y, z, w};
}

extern uint3 threadIdx, blockIdx; /* of the fiber that runs */
extern dim3 blockDim, gridDim;
constexpr int warpSize = 32;

/* ---- launching ------------------------------------------------------------------------------------------ */

/* 0: threads and blocks in rising order; 1: falling; 2: scattered. For the launches to come. */
extern "C" void cuda_on_cpu_set_order(int order);

/* Runs body(context) as every thread of the grid. */
void cuda_on_cpu_run(const char *file, int line, dim3 grid, dim3 block, size_t shared_bytes,
                     void (*body)(const void *context), const void *context);

template <class... P, class... A>
void cuda_launch(const char *file, int line, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes,
                 struct device_stream *, A... args) {
    std::tuple<P...> values(args...);
    auto thread = [kernel, &values] { std::apply(kernel, values); };
    cuda_on_cpu_run(
        file, line, grid, block, shared_bytes,
        [](const void *context) { (*static_cast<const decltype(thread) *>(context))(); }, &thread);
}

/* ---- shared memory -------------------------------------------------------------------------------------- */

/* The bytes given to the launch. */
void *cuda_on_cpu_dynamic_shared();
/* An array's place in this block's shared memory; `seen` belongs to the array: number of the block, offset. */
void *cuda_on_cpu_static_shared(uint64_t seen[2], size_t bytes);

#define SHARED_ARRAY(type, name, count)                                                                      \
    static uint64_t name##_seen[2];                                                                          \
    auto &name = *static_cast<type(*)[count]>(cuda_on_cpu_static_shared(name##_seen, sizeof(type) * (count)))
#define DYNAMIC_SHARED(type, name) type *name = static_cast<type *>(cuda_on_cpu_dynamic_shared())

/* ---- barriers and warps --------------------------------------------------------------------------------- */

/* Returns in how many threads of the block `predicate` is true; *threads: how many there are. */
int cuda_on_cpu_sync_block(const char *file, int line, bool predicate, int *threads);

/* Waits for the lanes in `mask`, then returns what each of the 32 lanes brought (0 for lanes outside the mask).
 * Valid until the thread's next warp operation. */
const uint64_t *cuda_on_cpu_sync_warp(const char *file, int line, unsigned mask, uint64_t value,
                                      bool orders_memory);
int cuda_on_cpu_lane();

static inline int cuda_on_cpu_sync_all(const char *file, int line, bool predicate) {
    int threads;
    return cuda_on_cpu_sync_block(file, line, predicate, &threads) == threads;
}

template <class T> uint64_t cuda_on_cpu_pack(T value) {
    static_assert(sizeof(T) <= 8 && std::is_trivially_copyable<T>::value,
                  "warp operations move up to 8 bytes");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    return bits;
}

/* The value of lane `source` of the segment; the thread's own where that leaves the segment. */
template <class T>
T cuda_on_cpu_shuffle(const char *file, int line, unsigned mask, T value, int source, bool inside) {
    const uint64_t *values = cuda_on_cpu_sync_warp(file, line, mask, cuda_on_cpu_pack(value), false);
    if (inside) memcpy(&value, &values[source], sizeof value);
    return value;
}
template <class T>
T cuda_on_cpu_shfl(const char *file, int line, unsigned mask, T value, int source, int width = 32) {
    int first = cuda_on_cpu_lane() & ~(width - 1);
    return cuda_on_cpu_shuffle(file, line, mask, value, first + (source & (width - 1)), true);
}
template <class T>
T cuda_on_cpu_shfl_xor(const char *file, int line, unsigned mask, T value, int flip, int width = 32) {
    int lane = cuda_on_cpu_lane(), source = lane ^ flip, end = (lane & ~(width - 1)) + width;
    return cuda_on_cpu_shuffle(file, line, mask, value, source, source < end);
}
template <class T>
T cuda_on_cpu_shfl_down(const char *file, int line, unsigned mask, T value, int by, int width = 32) {
    int lane = cuda_on_cpu_lane(), end = (lane & ~(width - 1)) + width;
    return cuda_on_cpu_shuffle(file, line, mask, value, lane + by, lane + by < end);
}
template <class T>
T cuda_on_cpu_shfl_up(const char *file, int line, unsigned mask, T value, int by, int width = 32) {
    int lane = cuda_on_cpu_lane(), first = lane & ~(width - 1);
    return cuda_on_cpu_shuffle(file, line, mask, value, lane - by, lane - by >= first);
}
static inline unsigned cuda_on_cpu_ballot(const char *file, int line, unsigned mask, bool predicate) {
    const uint64_t *values = cuda_on_cpu_sync_warp(file, line, mask, predicate, false);
    unsigned bits = 0;
    for (int lane = 0; lane < 32; lane++) bits |= (unsigned)values[lane] << lane;
    return bits;
}

struct cuda_on_cpu_warp_barrier {
    const char *file;
    int line;
    void operator()(unsigned mask = 0xffffffffu) const { cuda_on_cpu_sync_warp(file, line, mask, 0, true); }
};

#define __syncthreads() ((void)cuda_on_cpu_sync_block(__FILE__, __LINE__, false, nullptr))
#define __syncthreads_count(predicate) cuda_on_cpu_sync_block(__FILE__, __LINE__, predicate, nullptr)
#define __syncthreads_or(predicate) (cuda_on_cpu_sync_block(__FILE__, __LINE__, predicate, nullptr) > 0)
#define __syncthreads_and(predicate) cuda_on_cpu_sync_all(__FILE__, __LINE__, predicate)
#define __syncwarp                                                                                           \
    cuda_on_cpu_warp_barrier {                                                                               \
        __FILE__, __LINE__                                                                                   \
    }
#define __shfl_sync(...) cuda_on_cpu_shfl(__FILE__, __LINE__, __VA_ARGS__)
#define __shfl_xor_sync(...) cuda_on_cpu_shfl_xor(__FILE__, __LINE__, __VA_ARGS__)
#define __shfl_down_sync(...) cuda_on_cpu_shfl_down(__FILE__, __LINE__, __VA_ARGS__)
#define __shfl_up_sync(...) cuda_on_cpu_shfl_up(__FILE__, __LINE__, __VA_ARGS__)
#define __ballot_sync(mask, predicate) cuda_on_cpu_ballot(__FILE__, __LINE__, mask, predicate)
#define __any_sync(mask, predicate) (cuda_on_cpu_ballot(__FILE__, __LINE__, mask, predicate) != 0)
#define __all_sync(mask, predicate) (cuda_on_cpu_ballot(__FILE__, __LINE__, mask, !(predicate)) == 0)

/* ---- atomics: relaxed, like CUDA's ---------------------------------------------------------------------- */

template <class T, class F> T cuda_on_cpu_update(T *address, F update) {
    T before, after;
    __atomic_load(address, &before, __ATOMIC_RELAXED);
    do after = update(before);
    while (!__atomic_compare_exchange(address, &before, &after, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return before;
}
template <class T> using cuda_on_cpu_same = typename std::common_type<T>::type; /* not deduced */

template <class T> T atomicAdd(T *address, cuda_on_cpu_same<T> value) {
    return cuda_on_cpu_update(address, [value](T old) { return (T)(old + value); });
}
template <class T> T atomicMax(T *address, cuda_on_cpu_same<T> value) {
    return cuda_on_cpu_update(address, [value](T old) { return old > value ? old : value; });
}
template <class T> T atomicMin(T *address, cuda_on_cpu_same<T> value) {
    return cuda_on_cpu_update(address, [value](T old) { return old < value ? old : value; });
}
template <class T> T atomicOr(T *address, cuda_on_cpu_same<T> value) {
    return cuda_on_cpu_update(address, [value](T old) { return (T)(old | value); });
}
template <class T> T atomicAnd(T *address, cuda_on_cpu_same<T> value) {
    return cuda_on_cpu_update(address, [value](T old) { return (T)(old & value); });
}
template <class T> T atomicXor(T *address, cuda_on_cpu_same<T> value) {
    return cuda_on_cpu_update(address, [value](T old) { return (T)(old ^ value); });
}
template <class T> T atomicExch(T *address, cuda_on_cpu_same<T> value) {
    return cuda_on_cpu_update(address, [value](T) { return value; });
}
template <class T> T atomicCAS(T *address, cuda_on_cpu_same<T> expected, cuda_on_cpu_same<T> value) {
    return cuda_on_cpu_update(address, [expected, value](T old) { return old == expected ? value : old; });
}
static inline void __threadfence() {
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}
static inline void __threadfence_block() {
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* ---- loads, bits, arithmetic ---------------------------------------------------------------------------- */

template <class T> T __ldg(const T *address) {
    return *address;
}
static inline int __popc(unsigned x) {
    return __builtin_popcount(x);
}
static inline int __popcll(unsigned long long x) {
    return __builtin_popcountll(x);
}
static inline int __ffs(int x) {
    return __builtin_ffs(x);
}
static inline int __ffsll(long long x) {
    return __builtin_ffsll(x);
}
static inline int __clz(int x) {
    return x ? __builtin_clz((unsigned)x) : 32;
}
static inline int __clzll(long long x) {
    return x ? __builtin_clzll((unsigned long long)x) : 64;
}
static inline unsigned __umulhi(unsigned a, unsigned b) {
    return (unsigned)((uint64_t)a * b >> 32);
}
static inline int __float_as_int(float x) {
    int bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
static inline unsigned __float_as_uint(float x) {
    return (unsigned)__float_as_int(x);
}
static inline float __int_as_float(int bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
static inline float __uint_as_float(unsigned bits) {
    return __int_as_float((int)bits);
}
template <class T> constexpr T min(T a, T b) {
    return b < a ? b : a;
}
template <class T> constexpr T max(T a, T b) {
    return a < b ? b : a;
}
static inline float rsqrtf(float x) {
    return 1.0f / sqrtf(x);
}
#define __expf(x) expf(x) /* libm has functions of these names */
#define __logf(x) logf(x)
static inline float __fdividef(float a, float b) {
    return a / b;
}
static inline float __saturatef(float x) {
    return x > 0 ? (x < 1 ? x : 1.0f) : 0.0f;
}
static inline float __fadd_rn(float a, float b) {
    return a + b;
}
static inline float __fsub_rn(float a, float b) {
    return a - b;
}
static inline float __fmul_rn(float a, float b) {
    return a * b;
}
static inline float __fdiv_rn(float a, float b) {
    return a / b;
}
static inline float __fsqrt_rn(float x) {
    return sqrtf(x);
}
static inline float __fmaf_rn(float a, float b, float c) {
    return fmaf(a, b, c);
}
static inline double __dadd_rn(double a, double b) {
    return a + b;
}
static inline double __dmul_rn(double a, double b) {
    return a * b;
}

/* ---- 16-bit floats: round to nearest even; NaN stays NaN ------------------------------------------------ */

struct __nv_bfloat16 {
    uint16_t bits;
};
struct __half {
    uint16_t bits;
};
float __bfloat162float(__nv_bfloat16 x);
__nv_bfloat16 __float2bfloat16(float x);
float __half2float(__half x);
__half __float2half(float x);

#endif
