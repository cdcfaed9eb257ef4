/* data/mask_polygon.h on CUDA: a block walks an outline together and fills columns of bits, with exactly its pixels. No operation
 * is fused, so every rounding to the fine grid is the CPU's. */
#ifndef KERNELS_POLYGON_WALK_CUH
#define KERNELS_POLYGON_WALK_CUH

#include "cuda_common.cuh"

constexpr int FINE = 5, FINE_LEFT = 2, FINE_RIGHT = 3;

/* A point's way to the pixels that are drawn: scaled and shifted, then seen from (low_x, low_y) and scaled once more; in this
 * order, because the roundings show. */
struct polygon_place {
    double scale_x, shift_x, scale_y, shift_y;
    double low_x, ratio_x, low_y, ratio_y;
};

__device__ inline int fine_round(double pixels) {
    constexpr double most = 1e8;
    pixels = pixels < -most ? -most : pixels > most ? most : pixels;
    return (int)__dadd_rn(__dmul_rn(FINE, pixels), 0.5);
}

__device__ inline int2 fine_place(const float *xy, const polygon_place &p) {
    double x = __dadd_rn(__dmul_rn(xy[0], p.scale_x), p.shift_x);
    double y = __dadd_rn(__dmul_rn(xy[1], p.scale_y), p.shift_y);
    return make_int2(fine_round(__dmul_rn(__dadd_rn(x, -p.low_x), p.ratio_x)),
                     fine_round(__dmul_rn(__dadd_rn(y, -p.low_y), p.ratio_y)));
}

/* start + slope * t on the grid. */
__device__ inline int fine_step(int start, double slope, int t) {
    return (int)__dadd_rn(__dadd_rn(start, __dmul_rn(slope, t)), 0.5);
}

/* The first and the last column whose centre line lies between the fine columns low <= high. */
__device__ inline int first_crossed(int low) {
    return low <= FINE_LEFT ? 0 : (low - FINE_LEFT + FINE - 1) / FINE;
}
__device__ inline int last_crossed(int high, int width) {
    return high < FINE_RIGHT ? -1 : min((high - FINE_RIGHT) / FINE, width - 1);
}

/* Pixel row below which inside and outside change places. */
__device__ inline int crossed_row(int fine_row) {
    return fine_row <= FINE_LEFT ? 0 : (fine_row + FINE - 1 - FINE_LEFT) / FINE;
}

/* Row of the crossing of column c with an edge higher than wide, a.y <= b.y. */
__device__ inline int steep_crossing(int2 a, int rows, double slope, bool rising, int c) {
    int u = FINE * c + FINE_LEFT; /* after the step x > u when rising, x <= u when falling */
    double guess = ((double)u + 0.5 - a.x) / slope;
    int t = guess < 1 ? 1 : guess > rows ? rows : (int)guess;
    while (t > 1 && (fine_step(a.x, slope, t - 1) > u) == rising) t--;
    while (t < rows && (fine_step(a.x, slope, t) > u) != rising) t++;
    return crossed_row(a.y + t - 1);
}

/* Calls cross(column, row) for the crossings of one edge with the centre lines of columns 0..width-1; `lanes` threads share
 * them, this one is `lane`. Rows may lie below the image. */
template <class F> __device__ void walk_edge(int2 a, int2 b, int width, int lane, int lanes, F cross) {
    int dx = b.x - a.x, dy = b.y - a.y;
    if (dx == 0) return;
    bool flat = abs(dx) >= abs(dy);
    if (flat ? dx < 0 : dy < 0) {
        int2 swapped = a;
        a = b;
        b = swapped;
        dx = -dx;
        dy = -dy;
    }
    double slope = flat ? (double)dy / dx : (double)dx / dy;
    int start = flat ? a.x : fine_step(a.x, slope, 0), end = flat ? b.x : fine_step(a.x, slope, dy);
    bool rising = end > start;
    int last = last_crossed(rising ? end : start, width);
    for (int c = first_crossed(rising ? start : end) + lane; c <= last; c += lanes) {
        if (flat) {
            int t = FINE * c + FINE_LEFT - a.x;
            cross(c, crossed_row(min(fine_step(a.y, slope, t), fine_step(a.y, slope, t + 1))));
        } else {
            cross(c, steep_crossing(a, dy, slope, rising, c));
        }
    }
}

/* The block walks one closed outline xy [points,2], so many points at a time as it has threads. Ends with a barrier. */
template <int THREADS, class F>
__device__ void walk_outline(const float *xy, int points, const polygon_place &place, int width, F cross) {
    constexpr int lanes = 8; /* threads for an edge */
    SHARED_ARRAY(int2, placed, THREADS + 1);
    for (int base = 0; base < points; base += THREADS) {
        int edges = min(points - base, THREADS);
        for (int k = (int)threadIdx.x; k <= edges; k += THREADS)
            placed[k] = fine_place(xy + 2 * (int64_t)(base + k < points ? base + k : 0), place);
        __syncthreads();
        for (int k = (int)threadIdx.x / lanes; k < edges; k += THREADS / lanes)
            walk_edge(placed[k], placed[k + 1], width, (int)threadIdx.x % lanes, lanes, cross);
        __syncthreads();
    }
}

/* ---- columns of bits ---------------------------------------------------------------------------------------- */

/* Pixel (x, y) is bit y % 32 of word x * words + y / 32. */
struct bit_columns {
    unsigned *drawn,
        *changes; /* [columns * words]; changes: inside and outside change places from this pixel on */
    int columns, words;

    __device__ bool at(int x, int y) const { return drawn[x * words + y / 32] >> y % 32 & 1; }
    __device__ void change(int x, int y) const { atomicXor(&changes[x * words + y / 32], 1u << y % 32); }
};

__host__ __device__ inline int bit_words(int rows) {
    return (rows + 31) / 32;
}

/* The block clears all; ends with a barrier. */
__device__ inline void clear_bits(const bit_columns &bits) {
    for (int i = (int)threadIdx.x; i < bits.columns * bits.words; i += (int)blockDim.x)
        bits.drawn[i] = bits.changes[i] = 0;
    __syncthreads();
}

/* The block draws what lies inside an outline and clears its changes; ends with a barrier. */
__device__ inline void fill_bits(const bit_columns &bits) {
    for (int column = (int)threadIdx.x; column < bits.columns; column += (int)blockDim.x) {
        unsigned inside = 0; /* all ones: at the end of the word above */
        for (int i = column * bits.words; i < (column + 1) * bits.words; i++) {
            unsigned word = bits.changes[i];
#pragma unroll
            for (int by = 1; by < 32; by *= 2) word ^= word << by;
            word ^= inside;
            inside = word >> 31 ? ~0u : 0u;
            bits.drawn[i] |= word;
            bits.changes[i] = 0;
        }
    }
    __syncthreads();
}

#endif
