/* Tensor cores on the host, what mma.h offers of them for squares of 16 x 16 x 16 elements of 16 bits with sums in float. How a
 * square is spread over a warp's lanes is not said there, so kernels cannot depend on it; here a lane has 8 sums of a row, loads
 * what they need and adds products in rising order (the hardware has an order of its own). Alignment is checked; that all lanes
 * of a warp come is checked where a square is stored. */
#ifndef MMA_ON_CPU_H
#define MMA_ON_CPU_H

#include "cuda_on_cpu.h"

#include <stdlib.h>

namespace nvcuda {
namespace wmma {

struct matrix_a;
struct matrix_b;
struct accumulator;
struct row_major;
struct col_major;
enum layout_t { mem_row_major };

inline float as_float(__nv_bfloat16 x) {
    return __bfloat162float(x);
}
inline float as_float(__half x) {
    return __half2float(x);
}

/* The lane's row and the first of its columns. */
inline int lane_row() {
    return cuda_on_cpu_lane() / 2;
}
inline int lane_column() {
    return cuda_on_cpu_lane() % 2 * 8;
}

inline void require_alignment(const void *address, size_t line_bytes) {
    if (reinterpret_cast<uintptr_t>(address) % 32 != 0 || line_bytes % 16 != 0) abort();
}

template <class USE, int M, int N, int K, class T, class LAYOUT = void> struct fragment;
template <class T, class LAYOUT> struct fragment<matrix_a, 16, 16, 16, T, LAYOUT> { float x[16]; };
template <class T, class LAYOUT> struct fragment<matrix_b, 16, 16, 16, T, LAYOUT> { float x[16][8]; };
template <> struct fragment<accumulator, 16, 16, 16, float> { float x[8]; };

using sums = fragment<accumulator, 16, 16, 16, float>;

inline void fill_fragment(sums &f, float value) {
    for (float &x : f.x) x = value;
}

template <class T, class LAYOUT>
void load_matrix_sync(fragment<matrix_a, 16, 16, 16, T, LAYOUT> &f, const T *from, unsigned pitch) {
    constexpr bool rows = std::is_same<LAYOUT, row_major>::value;
    require_alignment(from, pitch * sizeof(T));
    for (int k = 0; k < 16; k++)
        f.x[k] = as_float(rows ? from[lane_row() * pitch + k] : from[k * pitch + lane_row()]);
}

template <class T, class LAYOUT>
void load_matrix_sync(fragment<matrix_b, 16, 16, 16, T, LAYOUT> &f, const T *from, unsigned pitch) {
    constexpr bool rows = std::is_same<LAYOUT, row_major>::value;
    require_alignment(from, pitch * sizeof(T));
    int first = lane_column();
    for (int k = 0; k < 16; k++)
        for (int j = 0; j < 8; j++)
            f.x[k][j] = as_float(rows ? from[k * pitch + first + j] : from[(first + j) * pitch + k]);
}

template <class T, class A, class B>
void mma_sync(sums &d, const fragment<matrix_a, 16, 16, 16, T, A> &a,
              const fragment<matrix_b, 16, 16, 16, T, B> &b, const sums &c) {
    for (int j = 0; j < 8; j++) d.x[j] = c.x[j];
    for (int k = 0; k < 16; k++)
        for (int j = 0; j < 8; j++) d.x[j] += a.x[k] * b.x[k][j];
}

inline void store_matrix_sync(float *to, const sums &f, unsigned pitch, layout_t) {
    require_alignment(to, pitch * sizeof(float));
    for (int j = 0; j < 8; j++) to[lane_row() * pitch + lane_column() + j] = f.x[j];
    __syncwarp();
}

} // namespace wmma
} // namespace nvcuda

#endif
