/* channel_norm.h on CUDA: passes over channel-last maps that group_norm and sync_batch_norm share. A map x is [slabs, pixels,
 * channels]; the pixels of a slab are normalised together: a slab is an image, or all images.
 *
 * A slab is cut into tiles of pixels by shape. A block takes a tile and up to 32 vectors of channels; a thread stays with its
 * vector and steps through the tile's pixels, so what belongs to a channel lies in registers. Sums run in float within a thread,
 * about a pixel of the slab (so a mean of many deviations costs nothing), and in double from there on:
 *
 *   norm_moments        partial[slab][tile] = {sum of x, sum of x^2} for each channel
 *   norm_gradient_sums  partial[slab][tile] = {sum of g, sum of g * (x - center)}
 *   norm_join           sums[slab] = sum of partial[slab] over its tiles, in order
 *   norm_affine         y = (x - center) * scale + shift, then ReLU if asked for
 *   norm_gradient       d_x = scale * g + slope * (x - center) + shift
 *
 * Between norm_join and the last pass an op makes coefficients of the sums. Slabs that are not valid are neither read nor
 * written. */
#ifndef KERNELS_CHANNEL_NORM_CUH
#define KERNELS_CHANNEL_NORM_CUH

#include "cuda_common.cuh"

constexpr int NORM_THREADS = 256, NORM_SPAN = 32; /* vectors of channels in a block */

struct norm_map {
    row_count images;
    int64_t image_pixels;
    int channels;
    bool by_image; /* a slab is an image; else there is one slab */
    int64_t slabs; /* capacity */
    int64_t tile_pixels;
    int tiles; /* of one slab */

    __device__ bool is_valid(int64_t slab) const { return !by_image || slab < valid_rows(images); }
    __device__ int64_t pixels() const { /* of a valid slab */
        return by_image ? image_pixels : valid_rows(images) * image_pixels;
    }
};

/* Tiles of about 32768 elements of 256 channels, larger ones where that makes more than 2048 blocks. */
inline norm_map norm_map_of(const tensor *x, bool by_image) {
    constexpr int64_t tile_elements = 32768, tile_channels = 256, most_blocks = 2048;
    norm_map m = {};
    m.images = row_count_of(x);
    m.image_pixels = x->shape[1] * x->shape[2];
    m.channels = (int)x->shape[3];
    m.by_image = by_image;
    m.slabs = by_image ? x->shape[0] : 1;
    int64_t pixels = by_image ? m.image_pixels : x->shape[0] * m.image_pixels;
    int64_t wide = m.channels < tile_channels ? m.channels : tile_channels,
            columns = (m.channels + tile_channels - 1) / tile_channels;
    if (pixels == 0 || m.channels == 0 || m.slabs == 0) return m;
    int64_t blocks = most_blocks / (m.slabs * columns),
            tiles = (pixels * wide + tile_elements - 1) / tile_elements;
    if (tiles > blocks) tiles = blocks > 1 ? blocks : 1;
    m.tile_pixels = (pixels + tiles - 1) / tiles;
    m.tiles = (int)((pixels + m.tile_pixels - 1) / m.tile_pixels);
    return m;
}

/* Coefficients of one slab: rows of `channels` floats each. */
enum { NORM_CENTER, NORM_SCALE, NORM_SHIFT, NORM_SLOPE, NORM_ROWS };

/* Memory of the passes, inside a kernel's scratch. */
struct norm_scratch {
    double *sums;    /* [slabs, 2, channels], and behind them the number of pixels of the first slab */
    double *partial; /* [slabs, tiles, 2, channels] */
    float *coefs;    /* [slabs, NORM_ROWS, channels] */
    size_t bytes;
};

inline norm_scratch norm_scratch_at(const norm_map &m, void *scratch) {
    char *at = static_cast<char *>(scratch);
    size_t pair = 2 * (size_t)m.channels * sizeof(double), slabs = (size_t)m.slabs;
    size_t sums = (slabs * pair + sizeof(double) + 63) / 64 * 64;
    size_t partial = (slabs * (size_t)m.tiles * pair + 63) / 64 * 64;
    norm_scratch s = {};
    s.bytes = sums + partial + slabs * NORM_ROWS * (size_t)m.channels * sizeof(float);
    if (!at) return s;
    s.sums = reinterpret_cast<double *>(at);
    s.partial = reinterpret_cast<double *>(at + sums);
    s.coefs = reinterpret_cast<float *>(at + sums + partial);
    return s;
}

/* ---- where a thread works ------------------------------------------------------------------------------- */

/* Its slab, tile and vector of channels; its pixels first, first + step, ... before `end`. */
template <int WIDTH> struct norm_place {
    int64_t slab, first, end, tile_count; /* tile_count: pixels of the whole tile */
    int64_t base;                         /* of the slab's first pixel, in elements */
    int tile, span, row, step, c, block_c;
    bool works; /* has a vector; a thread without one has no pixels */

    __device__ explicit norm_place(const norm_map &m) {
        int vectors = m.channels / WIDTH, columns = (vectors + NORM_SPAN - 1) / NORM_SPAN;
        unsigned rest = blockIdx.x / (unsigned)m.tiles;
        tile = (int)(blockIdx.x - rest * (unsigned)m.tiles);
        slab = rest / (unsigned)columns;
        int column = (int)(rest - (unsigned)slab * (unsigned)columns);
        span = vectors < NORM_SPAN ? vectors : NORM_SPAN;
        step = NORM_THREADS / span;
        row = (int)threadIdx.x / span;
        int vector = column * NORM_SPAN + (int)threadIdx.x - row * span;
        block_c = column * NORM_SPAN * WIDTH;
        c = vector * WIDTH;
        works = row < step && vector < vectors;
        base = m.by_image ? slab * m.image_pixels * m.channels : 0;
        int64_t begin = tile * m.tile_pixels, pixels = m.is_valid(slab) ? m.pixels() : 0;
        end = begin + m.tile_pixels < pixels ? begin + m.tile_pixels : pixels;
        tile_count = end > begin ? end - begin : 0;
        first = works ? begin + row : end;
    }
};

template <int WIDTH> dim3 norm_grid(const norm_map &m) {
    int64_t columns = (m.channels / WIDTH + NORM_SPAN - 1) / NORM_SPAN, blocks = m.slabs * columns * m.tiles;
    CHECK(blocks <= INT32_MAX, "a map of %lld slabs", (long long)m.slabs);
    return dim3((unsigned)blocks);
}

template <int WIDTH, class T> __device__ packed<T, WIDTH> norm_load(const T *address) {
    return *reinterpret_cast<const packed<T, WIDTH> *>(address);
}

/* Adds up a block's threads and writes the two sums of its channels; a and b are about `shift`: of x - shift and (x - shift)^2. */
template <int WIDTH>
__device__ void norm_write_sums(double *partial, const norm_map &m, const norm_place<WIDTH> &at,
                                const float (&a)[WIDTH], const float (&b)[WIDTH],
                                const float (&shift)[WIDTH]) {
    SHARED_ARRAY(float, part, NORM_THREADS * 2 * WIDTH);
    SHARED_ARRAY(float, about, NORM_SPAN *WIDTH);
    int vector = (int)threadIdx.x - at.row * at.span, channels = at.span * WIDTH;
#pragma unroll
    for (int i = 0; i < WIDTH; i++) {
        if (at.row >= at.step) continue;
        part[(at.row * 2 * WIDTH + i) * at.span + vector] = a[i];
        part[(at.row * 2 * WIDTH + WIDTH + i) * at.span + vector] = b[i];
        if (at.row == 0) about[vector * WIDTH + i] = shift[i];
    }
    __syncthreads();
    int k = (int)threadIdx.x, c = at.block_c + k;
    if (k >= channels || c >= m.channels) return;
    double sum = 0, square = 0, n = (double)at.tile_count, center = about[k];
    for (int r = 0; r < at.step; r++) {
        sum += (double)part[(r * 2 * WIDTH + k % WIDTH) * at.span + k / WIDTH];
        square += (double)part[(r * 2 * WIDTH + WIDTH + k % WIDTH) * at.span + k / WIDTH];
    }
    double *out = partial + (at.slab * m.tiles + at.tile) * 2 * m.channels + c;
    out[0] = sum + n * center;
    out[m.channels] = square + center * (2 * sum + n * center);
}

/* ---- forward -------------------------------------------------------------------------------------------- */

template <int WIDTH, class T>
__global__ void __launch_bounds__(NORM_THREADS)
    norm_moments_kernel(double *partial, const T *__restrict__ x, norm_map m) {
    constexpr int batch = 4;
    norm_place<WIDTH> at(m);
    if (!m.is_valid(at.slab)) return;
    float shift[WIDTH] = {}, sum[WIDTH] = {}, square[WIDTH] = {};
    const T *from = x + at.base + at.c;
    if (at.first < at.end) load_floats<WIDTH>(shift, from + m.pixels() / 2 * m.channels);
    for (int64_t p = at.first; p < at.end; p += batch * at.step) {
        packed<T, WIDTH> v[batch] = {};
#pragma unroll
        for (int k = 0; k < batch; k++)
            if (p + k * at.step < at.end) v[k] = norm_load<WIDTH>(from + (p + k * at.step) * m.channels);
#pragma unroll
        for (int k = 0; k < batch; k++) {
            bool inside = p + k * at.step < at.end;
#pragma unroll
            for (int i = 0; i < WIDTH; i++) {
                float d = inside ? to_float(v[k].v[i]) - shift[i] : 0.0f;
                sum[i] += d;
                square[i] += d * d;
            }
        }
    }
    /* The thread of row 0 holds the shift wherever the tile has pixels; where it has none, the sums are 0. */
    norm_write_sums(partial, m, at, sum, square, shift);
}

template <int WIDTH, class T>
__global__ void __launch_bounds__(NORM_THREADS)
    norm_affine_kernel(T *__restrict__ y, const T *__restrict__ x, const float *__restrict__ coefs,
                       norm_map m, bool relu) {
    constexpr int batch = 4;
    norm_place<WIDTH> at(m);
    if (at.first >= at.end) return;
    const float *row = coefs + at.slab * NORM_ROWS * m.channels + at.c;
    float center[WIDTH], scale[WIDTH], shift[WIDTH], least = relu ? 0.0f : -INFINITY;
    load_floats<WIDTH>(center, row + NORM_CENTER * m.channels);
    load_floats<WIDTH>(scale, row + NORM_SCALE * m.channels);
    load_floats<WIDTH>(shift, row + NORM_SHIFT * m.channels);
    for (int64_t p = at.first; p < at.end; p += batch * at.step) {
        int64_t e = at.base + at.c + p * m.channels, step = (int64_t)at.step * m.channels;
        packed<T, WIDTH> v[batch];
#pragma unroll
        for (int k = 0; k < batch; k++)
            if (p + k * at.step < at.end) v[k] = norm_load<WIDTH>(x + e + k * step);
#pragma unroll
        for (int k = 0; k < batch; k++) {
            if (p + k * at.step >= at.end) continue;
            float out[WIDTH];
#pragma unroll
            for (int i = 0; i < WIDTH; i++) {
                float value = (to_float(v[k].v[i]) - center[i]) * scale[i] + shift[i];
                out[i] = value < least ? least : value;
            }
            store_floats<WIDTH>(y + e + k * step, out);
        }
    }
}

/* ---- backward ------------------------------------------------------------------------------------------- */

/* The maps of a norm's gradient; y is NULL where there is no ReLU (else g counts only where y > 0). */
template <class T> struct norm_gradient_maps {
    T *d_x;
    const T *g, *y, *x;
    bool accumulate;
};

/* Where the center of channel c in a slab stands. */
struct norm_centers {
    const float *data;
    int64_t slab_stride;
    int width; /* channels that share one */
    __device__ float operator()(int64_t slab, int c) const { return data[slab * slab_stride + c / width]; }
};

template <int WIDTH, class T>
__global__ void __launch_bounds__(NORM_THREADS)
    norm_gradient_sums_kernel(double *partial, norm_gradient_maps<T> maps, norm_centers centers, norm_map m) {
    constexpr int batch = 2;
    norm_place<WIDTH> at(m);
    if (!m.is_valid(at.slab)) return;
    float center[WIDTH] = {}, sum[WIDTH] = {}, product[WIDTH] = {}, none[WIDTH] = {};
#pragma unroll
    for (int i = 0; i < WIDTH; i++)
        if (at.first < at.end) center[i] = centers(at.slab, at.c + i);
    for (int64_t p = at.first; p < at.end; p += batch * at.step) {
        int64_t e = at.base + at.c + p * m.channels, step = (int64_t)at.step * m.channels;
        packed<T, WIDTH> g[batch] = {}, x[batch] = {}, y[batch] = {};
#pragma unroll
        for (int k = 0; k < batch; k++) {
            if (p + k * at.step >= at.end) continue;
            g[k] = norm_load<WIDTH>(maps.g + e + k * step);
            x[k] = norm_load<WIDTH>(maps.x + e + k * step);
            if (maps.y) y[k] = norm_load<WIDTH>(maps.y + e + k * step);
        }
#pragma unroll
        for (int k = 0; k < batch; k++) { /* a pixel that is not there has g = 0 */
#pragma unroll
            for (int i = 0; i < WIDTH; i++) {
                float value = maps.y && !(to_float(y[k].v[i]) > 0) ? 0.0f : to_float(g[k].v[i]);
                sum[i] += value;
                product[i] += value * (to_float(x[k].v[i]) - center[i]);
            }
        }
    }
    norm_write_sums(partial, m, at, sum, product, none);
}

template <int WIDTH, class T>
__global__ void __launch_bounds__(NORM_THREADS)
    norm_gradient_kernel(norm_gradient_maps<T> maps, const float *__restrict__ coefs, norm_map m) {
    constexpr int batch = 2;
    norm_place<WIDTH> at(m);
    if (at.first >= at.end) return;
    const float *row = coefs + at.slab * NORM_ROWS * m.channels + at.c;
    float center[WIDTH], scale[WIDTH], shift[WIDTH], slope[WIDTH];
    load_floats<WIDTH>(center, row + NORM_CENTER * m.channels);
    load_floats<WIDTH>(scale, row + NORM_SCALE * m.channels);
    load_floats<WIDTH>(shift, row + NORM_SHIFT * m.channels);
    load_floats<WIDTH>(slope, row + NORM_SLOPE * m.channels);
    for (int64_t p = at.first; p < at.end; p += batch * at.step) {
        int64_t e = at.base + at.c + p * m.channels, step = (int64_t)at.step * m.channels;
        packed<T, WIDTH> g[batch] = {}, x[batch] = {}, y[batch] = {}, d[batch] = {};
#pragma unroll
        for (int k = 0; k < batch; k++) {
            if (p + k * at.step >= at.end) continue;
            g[k] = norm_load<WIDTH>(maps.g + e + k * step);
            x[k] = norm_load<WIDTH>(maps.x + e + k * step);
            if (maps.y) y[k] = norm_load<WIDTH>(maps.y + e + k * step);
            if (maps.accumulate) d[k] = norm_load<WIDTH>(maps.d_x + e + k * step);
        }
#pragma unroll
        for (int k = 0; k < batch; k++) {
            if (p + k * at.step >= at.end) continue;
            float out[WIDTH];
#pragma unroll
            for (int i = 0; i < WIDTH; i++) {
                float value = maps.y && !(to_float(y[k].v[i]) > 0) ? 0.0f : to_float(g[k].v[i]);
                value = value * scale[i] + slope[i] * (to_float(x[k].v[i]) - center[i]) + shift[i];
                out[i] = maps.accumulate ? to_float(d[k].v[i]) + value : value;
            }
            store_floats<WIDTH>(maps.d_x + e + k * step, out);
        }
    }
}

/* ---- sums ----------------------------------------------------------------------------------------------- */

/* Over a block of COLUMNS x ROWS threads (column: the lower part of threadIdx.x): the sum of load(k) for k < count, taken by the
 * rows in turns and joined in their order. Every thread calls it; row 0 gets the result. */
template <int COLUMNS, int ROWS, class F> __device__ double norm_column_sum(int64_t count, F load) {
    SHARED_ARRAY(double, part, COLUMNS *ROWS);
    int row = (int)threadIdx.x / COLUMNS, column = (int)threadIdx.x % COLUMNS;
    double sum = 0;
#pragma unroll 8
    for (int64_t k = row; k < count; k += ROWS) sum += load(k);
    if (ROWS == 1) return sum;
    part[threadIdx.x] = sum;
    __syncthreads();
    for (int r = 1; row == 0 && r < ROWS; r++) sum += part[r * COLUMNS + column];
    __syncthreads(); /* the next sum writes the same memory */
    return sum;
}

/* sums[slab] from partial[slab]; a block for each COLUMNS numbers of a slab. */
template <int COLUMNS, int ROWS>
__global__ void __launch_bounds__(COLUMNS *ROWS) norm_join_kernel(norm_scratch s, norm_map m) {
    unsigned numbers = 2 * (unsigned)m.channels, blocks = (numbers + COLUMNS - 1) / COLUMNS;
    int64_t slab = blockIdx.x / blocks;
    unsigned k = (blockIdx.x - (unsigned)slab * blocks) * COLUMNS + threadIdx.x % COLUMNS;
    if (!m.is_valid(slab)) return;
    const double *partial = s.partial + slab * m.tiles * numbers + k;
    double sum = norm_column_sum<COLUMNS, ROWS>(k < numbers ? m.tiles : 0,
                                                [&](int64_t t) { return partial[t * numbers]; });
    if (threadIdx.x < COLUMNS && k < numbers) s.sums[slab * numbers + k] = sum;
    if (blockIdx.x == 0 && threadIdx.x == 0) s.sums[m.slabs * numbers] = (double)m.pixels();
}

inline void norm_join(const op_call *call, const norm_map &m, const norm_scratch &s) {
    constexpr int few = 8;
    int64_t numbers = 2 * (int64_t)m.channels, columns = m.tiles <= few ? 256 : 32;
    unsigned grid = (unsigned)(m.slabs * ((numbers + columns - 1) / columns));
    if (m.tiles <= few)
        LAUNCH(norm_join_kernel<256, 1>, grid, 256, 0, call->stream, s, m);
    else
        LAUNCH(norm_join_kernel<32, 32>, grid, 1024, 0, call->stream, s, m);
}

/* ---- launches ------------------------------------------------------------------------------------------- */

/* The passes for one width of vectors. */
template <int WIDTH, class T> struct norm_passes {
    static void moments(const op_call *call, const norm_map &m, const norm_scratch &s, const T *x) {
        LAUNCH(norm_moments_kernel<WIDTH, T>, norm_grid<WIDTH>(m), NORM_THREADS, 0, call->stream, s.partial,
               x, m);
        norm_join(call, m, s);
    }
    static void affine(const op_call *call, const norm_map &m, const norm_scratch &s, T *y, const T *x,
                       bool relu) {
        LAUNCH(norm_affine_kernel<WIDTH, T>, norm_grid<WIDTH>(m), NORM_THREADS, 0, call->stream, y, x,
               s.coefs, m, relu);
    }
    static void gradient_sums(const op_call *call, const norm_map &m, const norm_scratch &s,
                              const norm_gradient_maps<T> &maps, const norm_centers &centers) {
        LAUNCH(norm_gradient_sums_kernel<WIDTH, T>, norm_grid<WIDTH>(m), NORM_THREADS, 0, call->stream,
               s.partial, maps, centers, m);
        norm_join(call, m, s);
    }
    static void gradient(const op_call *call, const norm_map &m, const norm_scratch &s,
                         const norm_gradient_maps<T> &maps) {
        LAUNCH(norm_gradient_kernel<WIDTH, T>, norm_grid<WIDTH>(m), NORM_THREADS, 0, call->stream, maps,
               s.coefs, m);
    }
};

/* Calls run(norm_passes) with the widest vectors that the maps allow; NULL counts as allowing. */
template <class T, class F>
void norm_choose(int channels, const T *a, const T *b, const T *c, const T *d, F run) {
    if (is_packable(a, channels) && is_packable(b, 0) && is_packable(c, 0) && is_packable(d, 0))
        run(norm_passes<vector_width<T>, T>());
    else
        run(norm_passes<1, T>());
}

/* Blocks of `threads` threads that give each of `count` items a thread. */
inline unsigned norm_blocks(int64_t count, int threads) {
    return (unsigned)((count + threads - 1) / threads);
}

/* The sink of a parameter's gradient; `data` is NULL where that is not wanted. */
inline gradient_sink norm_sink(const op_call *call, int input) {
    return call->d_in[input] ? gradient_sink_of(call, input) : gradient_sink{nullptr, DTYPE_F32, false};
}

#endif
