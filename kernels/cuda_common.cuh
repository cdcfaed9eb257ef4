/* What every .cu file starts from: the launch macro, shared memory, vector loads of each storage type, counts of valid rows,
 * reductions. The same source is compiled by nvcc for GPUs and, through tests/cuda_on_cpu/cuda_on_cpu.h, as C++17 for the
 * host; so a .cu file uses nothing of CUDA beyond what that header gives too (add there what is missing).
 *
 *   LAUNCH(kernel, grid, block, shared_bytes, stream, arguments...)   a grid of 0 blocks launches nothing
 *   SHARED_ARRAY(type, name, count);                                  static shared memory, aligned to 16 bytes
 *   DYNAMIC_SHARED(type, name);                                       type *name: the bytes given to LAUNCH
 *
 * Sums are taken in an order that depends on shapes only: no float atomics. nvcc contracts a * b + c to one operation; where a
 * decision hangs on a bit (ties, thresholds), write __fmul_rn and __fadd_rn. Headers of ops are C: include them in
 * extern "C". */
#ifndef KERNELS_CUDA_COMMON_CUH
#define KERNELS_CUDA_COMMON_CUH

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#else
#include "cuda_on_cpu.h"
#endif

extern "C" {
#include "autograd/op.h"
#include "base/check.h"
}

#define LAUNCH(...) cuda_launch(__FILE__, __LINE__, __VA_ARGS__)

#ifdef __CUDACC__
#define SHARED_ARRAY(type, name, count) __shared__ alignas(16) type name[count]
#define DYNAMIC_SHARED(type, name)                                                                           \
    extern __shared__ __align__(16) unsigned char cuda_dynamic_shared[];                                     \
    type *name = reinterpret_cast<type *>(cuda_dynamic_shared)

inline void cuda_require(cudaError_t result, const char *file, int line) {
    CHECK(result == cudaSuccess, "%s:%d: CUDA: %s", file, line, cudaGetErrorString(result));
}

/* A CUDA device's device_stream is a cudaStream_t. */
template <class... P, class... A>
void cuda_launch(const char *file, int line, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes,
                 struct device_stream *stream, A... args) {
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
    /* 48 KiB are there unasked, but for static and dynamic shared memory together. */
    enum { UNASKED = 40 * 1024 };
    if (shared_bytes > UNASKED)
        cuda_require(
            cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared_bytes),
            file, line);
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared_bytes;
    config.stream = reinterpret_cast<cudaStream_t>(stream);
    cuda_require(cudaLaunchKernelEx(&config, kernel, static_cast<P>(args)...), file, line);
}
#endif

constexpr unsigned WARP_ALL = 0xffffffffu;

/* Blocks of a grid that steps through `items` (grid-stride loop); 0 for none. */
inline unsigned cuda_grid(int64_t items, int items_per_block) {
    constexpr int64_t most = 1 << 14;
    int64_t blocks = (items + items_per_block - 1) / items_per_block;
    return (unsigned)(blocks < most ? blocks : most);
}

__device__ inline int64_t global_thread() {
    return (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
}
__device__ inline int64_t global_threads() {
    return (int64_t)gridDim.x * blockDim.x;
}

/* ---- rows ----------------------------------------------------------------------------------------------- */

/* How many leading rows of a tensor are valid, as a kernel's argument: the count may be known on the device only. */
struct row_count {
    const int32_t *count; /* NULL: all are */
    int64_t capacity;
};

inline row_count row_count_of(const tensor *t) {
    return {t->rows ? static_cast<const int32_t *>(t->rows->data) : nullptr, t->rank ? t->shape[0] : 1};
}

__device__ inline int64_t valid_rows(row_count rows) {
    if (!rows.count) return rows.capacity;
    int64_t n = *rows.count;
    return n < 0 ? 0 : n < rows.capacity ? n : rows.capacity;
}

/* ---- storage types -------------------------------------------------------------------------------------- */

/* Kernels store float, __nv_bfloat16 or __half and compute in float. */
__device__ inline float to_float(float x) {
    return x;
}
__device__ inline float to_float(__nv_bfloat16 x) {
    return __bfloat162float(x);
}
__device__ inline float to_float(__half x) {
    return __half2float(x);
}
template <class T> __device__ T from_float(float x);
template <> __device__ inline float from_float<float>(float x) {
    return x;
}
template <> __device__ inline __nv_bfloat16 from_float<__nv_bfloat16>(float x) {
    return __float2bfloat16(x);
}
template <> __device__ inline __half from_float<__half>(float x) {
    return __float2half(x);
}

/* Elements of T in 16 bytes, the widest load: 4 x float, 8 x bf16 or half. */
template <class T> constexpr int vector_width = 16 / sizeof(T);

template <class T, int N> struct alignas(sizeof(T) * N) packed { T v[N]; };

/* One load or store of N elements; the address must be a multiple of their size. */
template <int N, class T> __device__ void load_floats(float (&out)[N], const T *address) {
    packed<T, N> p = *reinterpret_cast<const packed<T, N> *>(address);
#pragma unroll
    for (int i = 0; i < N; i++) out[i] = to_float(p.v[i]);
}
template <int N, class T> __device__ void store_floats(T *address, const float (&in)[N]) {
    packed<T, N> p;
#pragma unroll
    for (int i = 0; i < N; i++) p.v[i] = from_float<T>(in[i]);
    *reinterpret_cast<packed<T, N> *>(address) = p;
}

/* Whether rows of `row_size` elements from this address on can be read in 16-byte vectors. NULL can. */
template <class T> bool is_packable(const T *address, int64_t row_size) {
    return reinterpret_cast<uintptr_t>(address) % 16 == 0 && row_size % vector_width<T> == 0;
}

/* Host: calls body(T()) with the C++ type T of a real tensor, so that a kernel's template is chosen:
 *   dispatch_real(x->type, [&](auto zero) { using T = decltype(zero); LAUNCH(kernel<T>, ..., tensor_as<T>(x)); }); */
template <class F> void dispatch_real(dtype type, F body) {
    if (type == DTYPE_F32)
        body(0.0f);
    else if (type == DTYPE_BF16)
        body(__nv_bfloat16());
    else if (type == DTYPE_F16)
        body(__half());
    else
        CHECK(false, "no CUDA kernel for type %s", dtype_name(type));
}

template <class T> T *tensor_as(const tensor *t) {
    return t ? static_cast<T *>(t->data) : nullptr;
}

/* Where a parameter's gradient goes, whatever type the gradient buffer has: for the last write of a sum. */
struct gradient_sink {
    void *data;
    dtype type;
    bool accumulate;

    template <class T> __device__ void put_as(int64_t i, float value) const {
        T *out = static_cast<T *>(data) + i;
        *out = from_float<T>(accumulate ? to_float(*out) + value : value);
    }
    __device__ void put(int64_t i, float value) const {
        if (type == DTYPE_F32)
            put_as<float>(i, value);
        else if (type == DTYPE_BF16)
            put_as<__nv_bfloat16>(i, value);
        else
            put_as<__half>(i, value);
    }
};

/* The sink of d_in[input], which must be wanted. */
inline gradient_sink gradient_sink_of(const op_call *call, int input) {
    return {call->d_in[input]->data, call->d_in[input]->type, call->accumulate[input]};
}

/* ---- reductions ----------------------------------------------------------------------------------------- */

struct sum_of {
    template <class T> __device__ T operator()(T a, T b) const { return a + b; }
};
struct largest_of {
    template <class T> __device__ T operator()(T a, T b) const { return a < b ? b : a; }
};

/* Over the 32 lanes of a full warp; every lane gets the result. */
template <class T, class F> __device__ T warp_reduce(T value, F combine) {
#pragma unroll
    for (int flip = 16; flip > 0; flip /= 2) value = combine(value, __shfl_xor_sync(WARP_ALL, value, flip));
    return value;
}
template <class T> __device__ T warp_sum(T value) {
    return warp_reduce(value, sum_of());
}
template <class T> __device__ T warp_largest(T value) {
    return warp_reduce(value, largest_of());
}

/* Over a one-dimensional block of THREADS (a multiple of 32) threads; every thread gets the result. */
template <int THREADS, class T, class F> __device__ T block_reduce(T value, F combine) {
    static_assert(THREADS % 32 == 0 && THREADS <= 1024, "whole warps");
    constexpr int warps = THREADS / 32;
    SHARED_ARRAY(T, partial, warps);
    value = warp_reduce(value, combine);
    if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
    __syncthreads();
    value = partial[0];
    for (int w = 1; w < warps; w++) value = combine(value, partial[w]);
    __syncthreads(); /* the next reduction writes the same memory */
    return value;
}
template <int THREADS, class T> __device__ T block_sum(T value) {
    return block_reduce<THREADS>(value, sum_of());
}
template <int THREADS, class T> __device__ T block_largest(T value) {
    return block_reduce<THREADS>(value, largest_of());
}

#endif
