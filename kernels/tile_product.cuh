/* Products of matrices, a tile of 64 x 64 sums for each block of 64 threads, which get 8 x 8 of them each. The operands
 * are functors that fetch 16 bytes (or up to that many single elements), so that a matrix need not lie in memory as such: the
 * patches of a convolution do not. While a chunk of 16 products is added up, the next one is on its way to registers.
 * Two operands of the same 16-bit type are multiplied by tensor cores (BF16 needs sm_80), others in float.
 *
 *   sum[i][j] += sum over k of a(first row + tile_row(i), k) * b(first column + tile_column(j), k)
 *
 * An operand has
 *   type                             what it is stored as
 *   ALONG_K                          whether a fetch runs along k, or along the tile's rows (a) or columns (b)
 *   void prepare(int k)              before the chunk from k on is fetched, by every thread; a barrier follows
 *   vector_of<type> fetch(int row, int k)    element (row of the tile, k) and those behind it; 0 outside the matrix */
#ifndef KERNELS_TILE_PRODUCT_CUH
#define KERNELS_TILE_PRODUCT_CUH

#include "cuda_common.cuh"

#include <type_traits>

#ifdef __CUDACC__
#include <mma.h>
#else
#include "mma_on_cpu.h"
#endif

/* TILE_PITCH: from one k to the next in shared memory; the padding spreads a fetch along k over the banks. */
enum { TILE = 64, TILE_CHUNK = 16, TILE_THREADS = 64, TILE_SUMS = 8, TILE_PITCH = TILE + 4 };

template <class T> using vector_of = packed<T, vector_width<T>>;

/* 16 bytes from `address`, or with !wide the first `left` elements of them; the others are 0. left <= 0: nothing is read. */
template <class T> __device__ vector_of<T> fetch_vector(const T *address, int64_t left, bool wide) {
    vector_of<T> v = {};
    if (wide) {
        if (left > 0) v = *reinterpret_cast<const vector_of<T> *>(address);
    } else {
#pragma unroll
        for (int j = 0; j < vector_width<T>; j++)
            if (j < left) v.v[j] = address[j];
    }
    return v;
}

/* Which of the tile's rows or columns a thread has as its i-th: two runs of 4, so that a warp reads shared memory without
 * conflicts. */
__device__ inline int tile_row(int i) {
    return i / 4 * (TILE / 2) + (int)threadIdx.x / 8 * 4 + i % 4;
}
__device__ inline int tile_column(int j) {
    return j / 4 * (TILE / 2) + (int)threadIdx.x % 8 * 4 + j % 4;
}

/* A thread's share of an operand's chunk on its way to shared memory. */
template <class OPERAND> struct staged_chunk {
    using T = typename OPERAND::type;
    static constexpr int WIDTH = vector_width<T>;
    static constexpr int VECTORS =
        (OPERAND::ALONG_K ? TILE_CHUNK : TILE) / WIDTH;  /* in a line of the chunk */
    static constexpr int LINES = TILE_THREADS / VECTORS; /* that all threads fetch at once */
    static constexpr int COUNT = TILE * TILE_CHUNK / WIDTH / TILE_THREADS;
    vector_of<T> v[COUNT];

    __device__ void fetch(const OPERAND &operand, int k) {
        int line = (int)threadIdx.x / VECTORS, element = (int)threadIdx.x % VECTORS * WIDTH;
#pragma unroll
        for (int i = 0; i < COUNT; i++)
            v[i] = OPERAND::ALONG_K ? operand.fetch(line + i * LINES, k + element)
                                    : operand.fetch(element, k + line + i * LINES);
    }

    /* As tensor cores load them: shared[row][k] where fetched along k, else shared[k][row]; PITCH to the next line. */
    static constexpr int PITCH = (OPERAND::ALONG_K ? TILE_CHUNK : TILE) + 8;
    __device__ void store_lines(T *shared) const {
        int line = (int)threadIdx.x / VECTORS, element = (int)threadIdx.x % VECTORS * WIDTH;
#pragma unroll
        for (int i = 0; i < COUNT; i++)
            *reinterpret_cast<vector_of<T> *>(shared + (line + i * LINES) * PITCH + element) = v[i];
    }

    /* shared[k][row] */
    __device__ void store(float *shared) const {
        int line = (int)threadIdx.x / VECTORS, element = (int)threadIdx.x % VECTORS * WIDTH;
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
#pragma unroll
            for (int j = 0; j < WIDTH; j += 4) {
                float four[4];
#pragma unroll
                for (int n = 0; n < 4; n++) four[n] = to_float(v[i].v[j + n]);
                if constexpr (OPERAND::ALONG_K) {
                    float *to = shared + (element + j) * TILE_PITCH + line + i * LINES;
#pragma unroll
                    for (int n = 0; n < 4; n++) to[n * TILE_PITCH] = four[n];
                } else {
                    store_floats<4>(shared + (line + i * LINES) * TILE_PITCH + element + j, four);
                }
            }
        }
    }
};

__device__ inline void load_tile_line(float (&out)[TILE_SUMS], const float *shared) {
    float low[4], high[4];
    load_floats<4>(low, shared);
    load_floats<4>(high, shared + TILE / 2);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        out[i] = low[i];
        out[4 + i] = high[i];
    }
}

template <class A, class B>
__device__ void tile_product_in_float(float (&sum)[TILE_SUMS][TILE_SUMS], A &a, B &b, int first, int end) {
    SHARED_ARRAY(float, a_chunk, TILE_CHUNK *TILE_PITCH);
    SHARED_ARRAY(float, b_chunk, TILE_CHUNK *TILE_PITCH);
    staged_chunk<A> next_a;
    staged_chunk<B> next_b;
    a.prepare(first);
    b.prepare(first);
    __syncthreads();
    next_a.fetch(a, first);
    next_b.fetch(b, first);
    for (int k = first; k < end; k += TILE_CHUNK) {
        next_a.store(a_chunk);
        next_b.store(b_chunk);
        a.prepare(k + TILE_CHUNK);
        b.prepare(k + TILE_CHUNK);
        __syncthreads();
        if (k + TILE_CHUNK < end) {
            next_a.fetch(a, k + TILE_CHUNK);
            next_b.fetch(b, k + TILE_CHUNK);
        }
#pragma unroll 4
        for (int i = 0; i < TILE_CHUNK; i++) {
            float row[TILE_SUMS], column[TILE_SUMS];
            load_tile_line(row, a_chunk + i * TILE_PITCH + tile_row(0));
            load_tile_line(column, b_chunk + i * TILE_PITCH + tile_column(0));
#pragma unroll
            for (int m = 0; m < TILE_SUMS; m++)
#pragma unroll
                for (int n = 0; n < TILE_SUMS; n++) sum[m][n] += row[m] * column[n];
        }
        __syncthreads();
    }
}

/* On tensor cores: each of the two warps has 2 x 4 squares of 16 x 16 sums; they go through shared memory to the threads. */
template <class A, class B>
__device__ void tile_product_in_squares(float (&sum)[TILE_SUMS][TILE_SUMS], A &a, B &b, int first, int end) {
    using namespace nvcuda;
    using T = typename A::type;
    constexpr int side = 16, down = TILE / 2 / side, across = TILE / side;
    constexpr int a_pitch = staged_chunk<A>::PITCH, b_pitch = staged_chunk<B>::PITCH;
    constexpr int a_step = A::ALONG_K ? side * a_pitch : side, b_step = B::ALONG_K ? side * b_pitch : side;
    constexpr int a_size = (A::ALONG_K ? TILE : TILE_CHUNK) * a_pitch;
    constexpr int b_size = (B::ALONG_K ? TILE : TILE_CHUNK) * b_pitch;
    static_assert(a_size % 16 == 0 && (a_size + b_size) * sizeof(T) <= TILE * TILE_PITCH * sizeof(float),
                  "fits");
    using a_layout = std::conditional_t<A::ALONG_K, wmma::row_major, wmma::col_major>;
    using b_layout = std::conditional_t<B::ALONG_K, wmma::col_major, wmma::row_major>;
    SHARED_ARRAY(float, memory, TILE *TILE_PITCH + 4); /* the chunks, then the sums */
    float *shared = memory + (reinterpret_cast<uintptr_t>(memory) & 16) / sizeof(float); /* mma.h: 32 bytes */
    T *a_chunk = reinterpret_cast<T *>(shared), *b_chunk = a_chunk + a_size;
    int first_down = (int)threadIdx.x / 32 * down;
    wmma::fragment<wmma::accumulator, side, side, side, float> squares[down][across];
#pragma unroll
    for (int m = 0; m < down; m++)
#pragma unroll
        for (int n = 0; n < across; n++) wmma::fill_fragment(squares[m][n], 0.0f);
    staged_chunk<A> next_a;
    staged_chunk<B> next_b;
    a.prepare(first);
    b.prepare(first);
    __syncthreads();
    next_a.fetch(a, first);
    next_b.fetch(b, first);
    for (int k = first; k < end; k += TILE_CHUNK) {
        next_a.store_lines(a_chunk);
        next_b.store_lines(b_chunk);
        a.prepare(k + TILE_CHUNK);
        b.prepare(k + TILE_CHUNK);
        __syncthreads();
        if (k + TILE_CHUNK < end) {
            next_a.fetch(a, k + TILE_CHUNK);
            next_b.fetch(b, k + TILE_CHUNK);
        }
        wmma::fragment<wmma::matrix_a, side, side, side, T, a_layout> rows[down];
#pragma unroll
        for (int m = 0; m < down; m++)
            wmma::load_matrix_sync(rows[m], a_chunk + (first_down + m) * a_step, a_pitch);
#pragma unroll
        for (int n = 0; n < across; n++) {
            wmma::fragment<wmma::matrix_b, side, side, side, T, b_layout> columns;
            wmma::load_matrix_sync(columns, b_chunk + n * b_step, b_pitch);
#pragma unroll
            for (int m = 0; m < down; m++) wmma::mma_sync(squares[m][n], rows[m], columns, squares[m][n]);
        }
        __syncthreads();
    }
#pragma unroll
    for (int m = 0; m < down; m++)
#pragma unroll
        for (int n = 0; n < across; n++)
            wmma::store_matrix_sync(shared + (first_down + m) * side * TILE_PITCH + n * side, squares[m][n],
                                    TILE_PITCH, wmma::mem_row_major);
    __syncthreads();
#pragma unroll
    for (int m = 0; m < TILE_SUMS; m++) {
        float line[TILE_SUMS];
        load_tile_line(line, shared + tile_row(m) * TILE_PITCH + tile_column(0));
#pragma unroll
        for (int n = 0; n < TILE_SUMS; n++) sum[m][n] += line[n];
    }
}

/* Products `first` to `end` - 1; every thread of the block calls it. */
template <class A, class B>
__device__ void tile_product(float (&sum)[TILE_SUMS][TILE_SUMS], A &a, B &b, int first, int end) {
    using T = typename A::type;
    if constexpr (sizeof(T) == 2 && std::is_same<T, typename B::type>::value)
        tile_product_in_squares(sum, a, b, first, end);
    else
        tile_product_in_float(sum, a, b, first, end);
}

/* ---- operands ------------------------------------------------------------------------------------------- */

/* A matrix [rows,depth] in memory, fetched along k. */
template <class T> struct matrix_rows {
    using type = T;
    static constexpr bool ALONG_K = true;
    const T *data;
    int first_row, rows, depth;
    bool wide;

    __device__ void prepare(int) {}
    __device__ vector_of<T> fetch(int row, int k) const {
        row += first_row;
        return fetch_vector(data + (int64_t)row * depth + k, row < rows ? depth - k : 0, wide);
    }
};

/* The transpose of a matrix [depth,columns] in memory: k counts its rows. */
template <class T> struct matrix_columns {
    using type = T;
    static constexpr bool ALONG_K = false;
    const T *data;
    int first_column, columns, depth;
    bool wide;

    __device__ void prepare(int) {}
    __device__ vector_of<T> fetch(int column, int k) const {
        column += first_column;
        return fetch_vector(data + (int64_t)k * columns + column, k < depth ? columns - column : 0, wide);
    }
};

#endif
