/* conv_tiles.cuh: a convolution, its transpose and its weight gradient as products of matrices whose elements are fetched in
 * place.
 *
 *   apply            rows: pixels of y;  columns: k;       products: (tap, c);  a: patches of x;   b: weight
 *   transposed       rows: pixels of x;  columns: c;       products: (tap, k);  a: patches of g;   b: weight
 *   weight gradient  rows: k;            columns: (tap, c);  products: pixels of y;  a: g;  b: patches of x
 *
 * In the transposed product a pixel of x with coordinates (h, w) is reached by the taps r with h + pad - r dilation divisible by
 * stride. Those are the same for all pixels that agree in h and w modulo stride, so each of these classes has tiles of its own,
 * and no product with a zero that the stride put there is taken. */
#include "conv_tiles.cuh"

#include "conv_patches.cuh"
#include "slice_sums.cuh"

namespace {

/* Pixels and elements of a filter; twice this and what padding adds stay below 2^31. */
constexpr int64_t MOST = (int64_t)1 << 29;

/* conv_shape for kernels, and how taps of one class follow each other in the transposed product. */
struct conv_sizes {
    int h, w, c, ho, wo, k, r, s, stride, pad, dilation;
    int next_tap; /* taps r, r + next_tap, ... reach the same pixels of x */
    int next_row; /* and their pixels of y are so many rows apart */
};

/* Rows of the tile are pixels, found in a table. */
template <class T> struct patch_rows {
    using type = T;
    static constexpr bool ALONG_K = true;
    patches<T> of;
    const tile_pixel *pixels; /* [TILE], shared */

    __device__ void prepare(int) {}
    __device__ vector_of<T> fetch(int row, int k) const { return of.fetch(pixels[row], k); }
};

/* Columns of the tile are elements of a patch, k counts pixels of y up to `end`. The table holds two chunks: one is read while
 * the next is written. */
template <class T> struct patch_columns {
    using type = T;
    static constexpr bool ALONG_K = false;
    patches<T> of;
    tile_pixel *pixels; /* [2 * TILE_CHUNK], shared */
    int first_column, end, ho, wo, stride, pad;

    __device__ void prepare(int k) {
        int pixel = k + (int)threadIdx.x;
        if (threadIdx.x >= TILE_CHUNK) return;
        tile_pixel at = {0, OUTSIDE, OUTSIDE, -1};
        if (pixel < end) {
            int line = pixel / wo, image = line / ho;
            at = {image * of.h * of.w, (line - image * ho) * stride - pad, (pixel - line * wo) * stride - pad,
                  -1};
        }
        pixels[pixel % (2 * TILE_CHUNK)] = at;
    }
    __device__ vector_of<T> fetch(int column, int k) const {
        return of.fetch(pixels[k % (2 * TILE_CHUNK)], first_column + column);
    }
};

/* One axis of the picture that a product writes, for one class of pixels. */
struct gather_axis {
    int count, first, stride; /* pixels written: first, first + stride, ... */
    int start, step;          /* coordinate of the first pixel's first tap; from pixel to pixel */
    int taps, first_tap;
};

template <bool TRANSPOSED>
__device__ gather_axis axis_of(const conv_sizes &v, int size, int taps, int offset) {
    if (!TRANSPOSED) return {size, 0, 1, -v.pad, v.stride, taps, 0};
    int tap = 0;
    while (tap < taps && tap < v.next_tap && (offset + v.pad - tap * v.dilation) % v.stride != 0) tap++;
    bool reached = tap < taps && tap < v.next_tap;
    return {(size - offset + v.stride - 1) / v.stride,
            offset,
            v.stride,
            reached ? (offset + v.pad - tap * v.dilation) / v.stride : OUTSIDE,
            1,
            reached ? (taps - tap + v.next_tap - 1) / v.next_tap : 0,
            tap};
}

/* Weights [k,r,s,c] for the transposed product: columns are c, k counts (tap of the class, output channel). */
template <class T> struct weight_columns {
    using type = T;
    static constexpr bool ALONG_K = false;
    const T *data;
    conv_sizes v;
    int first_tap_h, first_tap_w, taps_across, depth, first_column;
    bool wide;

    __device__ void prepare(int) {}
    __device__ vector_of<T> fetch(int column, int k) const {
        column += first_column;
        if (k >= depth) return {};
        int tap = (int)((unsigned)k / (unsigned)v.k), down = (int)((unsigned)tap / (unsigned)taps_across);
        int r = first_tap_h + down * v.next_tap, s = first_tap_w + (tap - down * taps_across) * v.next_tap;
        const T *row = data + (((int64_t)(k - tap * v.k) * v.r + r) * v.s + s) * v.c;
        return fetch_vector(row + column, v.c - column, wide);
    }
};

template <class X, class T, class O> struct gather_job {
    const X *x; /* the picture that patches are taken of */
    const T *weight, *add;
    const float *bias;
    O *dest;
    row_count rows;
    conv_sizes sizes;
    int row_tiles, column_tiles; /* of the largest class */
    bool relu, wide_x, wide_weight, wide_dest;
};

/* Writes N sums beside each other: dest = relu?(sum + bias + add). */
template <int N, class X, class T, class O>
__device__ void finish(const gather_job<X, T, O> &job, int64_t at, int column, float (&v)[N]) {
    float more[N];
    if (job.bias)
#pragma unroll
        for (int j = 0; j < N; j++) v[j] += job.bias[column + j];
    if (job.add) {
        load_floats<N>(more, job.add + at);
#pragma unroll
        for (int j = 0; j < N; j++) v[j] += more[j];
    }
    if (job.relu)
#pragma unroll
        for (int j = 0; j < N; j++)
            if (v[j] < 0) v[j] = 0;
    store_floats<N>(job.dest + at, v);
}

template <class X, class T, class O>
__device__ void finish_tile(const gather_job<X, T, O> &job, float (&sum)[TILE_SUMS][TILE_SUMS],
                            const tile_pixel *pixels, int first_column, int columns) {
#pragma unroll
    for (int i = 0; i < TILE_SUMS; i++) {
        int64_t pixel = pixels[tile_row(i)].dest;
        if (pixel < 0) continue;
#pragma unroll
        for (int j = 0; j < TILE_SUMS; j += 4) {
            int column = first_column + tile_column(j);
            float four[4] = {sum[i][j], sum[i][j + 1], sum[i][j + 2], sum[i][j + 3]};
            if (job.wide_dest) {
                if (column < columns) finish<4>(job, pixel * columns + column, column, four);
                continue;
            }
#pragma unroll
            for (int n = 0; n < 4; n++) {
                float one[1] = {four[n]};
                if (column + n < columns) finish<1>(job, pixel * columns + column + n, column + n, one);
            }
        }
    }
}

/* The row of the tile that this thread looks up. */
__device__ inline tile_pixel locate(const gather_axis &down, const gather_axis &across, int row, int valid,
                                    int picture, int dest_h, int dest_w) {
    if (row >= valid) return {0, OUTSIDE, OUTSIDE, -1};
    int line = row / across.count, j = row - line * across.count;
    int image = line / down.count, i = line - image * down.count;
    return {image * picture, down.start + i * down.step, across.start + j * across.step,
            (image * dest_h + down.first + i * down.stride) * dest_w + across.first + j * across.stride};
}

template <bool TRANSPOSED, class X, class T, class O>
__global__ void __launch_bounds__(TILE_THREADS) gather_kernel(gather_job<X, T, O> job) {
    SHARED_ARRAY(tile_pixel, pixels, TILE);
    const conv_sizes &v = job.sizes;
    int column_tile = (int)(blockIdx.x % (unsigned)job.column_tiles),
        left = (int)(blockIdx.x / (unsigned)job.column_tiles);
    int row_tile = left % job.row_tiles, pixel_class = left / job.row_tiles;
    int classes_across = TRANSPOSED ? min(v.stride, v.w) : 1;
    int dest_h = TRANSPOSED ? v.h : v.ho, dest_w = TRANSPOSED ? v.w : v.wo;
    gather_axis down = axis_of<TRANSPOSED>(v, dest_h, v.r, pixel_class / classes_across);
    gather_axis across = axis_of<TRANSPOSED>(v, dest_w, v.s, pixel_class % classes_across);
    int valid = (int)valid_rows(job.rows) * down.count * across.count;
    if (row_tile * TILE >= valid) return;
    int from_h = TRANSPOSED ? v.ho : v.h, from_w = TRANSPOSED ? v.wo : v.w, channels = TRANSPOSED ? v.k : v.c;
    int depth = down.taps * across.taps * channels, columns = TRANSPOSED ? v.c : v.k,
        first_column = column_tile * TILE;
    pixels[threadIdx.x] =
        locate(down, across, row_tile * TILE + (int)threadIdx.x, valid, from_h * from_w, dest_h, dest_w);
    __syncthreads();
    patch_rows<X> a = {{job.x, from_h, from_w, channels, across.taps, TRANSPOSED ? -v.next_row : v.dilation,
                        depth, job.wide_x},
                       pixels};
    float sum[TILE_SUMS][TILE_SUMS] = {};
    if constexpr (TRANSPOSED) {
        weight_columns<T> b = {job.weight,  v,     down.first_tap, across.first_tap,
                               across.taps, depth, first_column,   job.wide_weight};
        tile_product(sum, a, b, 0, depth);
    } else {
        matrix_rows<T> b = {job.weight, first_column, columns, depth, job.wide_weight};
        tile_product(sum, a, b, 0, depth);
    }
    finish_tile(job, sum, pixels, first_column, columns);
}

template <class G, class X> struct weight_job {
    const G *g;
    const X *x;
    float *partial; /* [slices,k,r,s,c] */
    row_count rows;
    conv_sizes sizes;
    int row_tiles, column_tiles, slice; /* pixels of a slice, a multiple of TILE_CHUNK */
    bool wide_g, wide_x;
};

template <class G, class X>
__global__ void __launch_bounds__(TILE_THREADS) weight_gradient_kernel(weight_job<G, X> job) {
    SHARED_ARRAY(tile_pixel, pixels, 2 * TILE_CHUNK);
    const conv_sizes &v = job.sizes;
    int column_tile = (int)(blockIdx.x % (unsigned)job.column_tiles),
        left = (int)(blockIdx.x / (unsigned)job.column_tiles);
    int first_row = left % job.row_tiles * TILE, slice = left / job.row_tiles,
        first_column = column_tile * TILE;
    int depth = v.r * v.s * v.c, valid = (int)valid_rows(job.rows) * v.ho * v.wo;
    int first = min(slice * job.slice, valid), end = min(first + job.slice, valid);
    matrix_columns<G> a = {job.g, first_row, v.k, end, job.wide_g};
    patch_columns<X> b = {{job.x, v.h, v.w, v.c, v.s, v.dilation, depth, job.wide_x},
                          pixels,
                          first_column,
                          end,
                          v.ho,
                          v.wo,
                          v.stride,
                          v.pad};
    float sum[TILE_SUMS][TILE_SUMS] = {};
    tile_product(sum, a, b, first, end);
    float *partial = job.partial + (int64_t)slice * v.k * depth;
#pragma unroll
    for (int i = 0; i < TILE_SUMS; i++) {
        int row = first_row + tile_row(i);
        if (row >= v.k) continue;
#pragma unroll
        for (int j = 0; j < TILE_SUMS; j += 4) {
            int column = first_column + tile_column(j);
            float four[4] = {sum[i][j], sum[i][j + 1], sum[i][j + 2], sum[i][j + 3]};
            float *to = partial + (int64_t)row * depth + column;
            if (depth % 4 == 0) {
                if (column < depth) store_floats<4>(to, four);
                continue;
            }
#pragma unroll
            for (int n = 0; n < 4; n++)
                if (column + n < depth) to[n] = four[n];
        }
    }
}

/* ---- host ----------------------------------------------------------------------------------------------- */

int64_t tiles_for(int64_t size) {
    return (size + TILE - 1) / TILE;
}

int checked_int(int64_t size, const char *what) {
    CHECK(size <= MOST, "CUDA convolution: %lld %s, more than 2^29", (long long)size, what);
    return (int)size;
}

conv_sizes sizes_of(const conv_shape &v) {
    int64_t images = v.n ? v.n : 1; /* so that each size is checked, too */
    checked_int(images * v.h * v.w, "pixels of x");
    checked_int(images * v.ho * v.wo, "pixels of y");
    checked_int(v.r * v.s * (v.c ? v.c : 1), "weights of an output channel");
    checked_int(v.r * v.s * (v.k ? v.k : 1), "weights of an input channel");
    int64_t a = v.stride, b = v.dilation;
    while (b) { /* greatest common divisor */
        int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return {(int)v.h,
            (int)v.w,
            (int)v.c,
            (int)v.ho,
            (int)v.wo,
            (int)v.k,
            (int)v.r,
            (int)v.s,
            (int)v.stride,
            (int)v.pad,
            (int)v.dilation,
            (int)(v.stride / a),
            (int)(v.dilation / a)};
}

template <bool TRANSPOSED, class X, class T, class O>
void launch_gather(const op_call *call, const conv_shape &v, row_count rows, const tensor *x,
                   const tensor *weight, const conv_tiles_dest &to) {
    int64_t columns = TRANSPOSED ? v.c : v.k, classes = 1, pixels = v.n * v.ho * v.wo;
    if (TRANSPOSED) {
        classes = (v.stride < v.h ? v.stride : v.h) * (v.stride < v.w ? v.stride : v.w);
        pixels = v.n * ((v.h + v.stride - 1) / v.stride) * ((v.w + v.stride - 1) / v.stride);
    }
    gather_job<X, T, O> job = {tensor_as<X>(x),
                               tensor_as<T>(weight),
                               tensor_as<T>(to.add),
                               tensor_as<float>(to.bias),
                               tensor_as<O>(to.dest),
                               rows,
                               sizes_of(v),
                               (int)tiles_for(pixels),
                               (int)tiles_for(columns),
                               to.relu,
                               is_packable(tensor_as<X>(x), TRANSPOSED ? v.k : v.c),
                               is_packable(tensor_as<T>(weight), v.c),
                               columns % 4 == 0 && is_packable(tensor_as<O>(to.dest), 0) &&
                                   is_packable(tensor_as<T>(to.add), 0)};
    int64_t blocks = checked_int(classes * job.row_tiles * job.column_tiles, "tiles");
    LAUNCH(gather_kernel<TRANSPOSED, X, T, O>, (unsigned)blocks, TILE_THREADS, 0, call->stream, job);
}

int slices_of(const conv_shape &v) {
    enum {
        BLOCKS = 2048,
        LEAST_PIXELS = 64
    }; /* enough for a GPU to be busy; enough to be worth a sum of its own */
    int64_t tiles = tiles_for(v.k) * tiles_for(v.r * v.s * v.c), pixels = v.n * v.ho * v.wo;
    int64_t slices = tiles ? BLOCKS / tiles : 1, most = pixels / LEAST_PIXELS;
    if (slices > most) slices = most;
    return (int)(slices < 1 ? 1 : slices);
}

template <class G, class X>
void launch_weight_gradient(const op_call *call, const conv_shape &v, row_count rows, const tensor *x,
                            const tensor *g) {
    int64_t slices = slices_of(v), slice = (v.n * v.ho * v.wo + slices - 1) / slices;
    weight_job<G, X> job = {tensor_as<G>(g),
                            tensor_as<X>(x),
                            static_cast<float *>(call->scratch),
                            rows,
                            sizes_of(v),
                            (int)tiles_for(v.k),
                            (int)tiles_for(v.r * v.s * v.c),
                            (int)((slice + TILE_CHUNK - 1) / TILE_CHUNK * TILE_CHUNK),
                            is_packable(tensor_as<G>(g), v.k),
                            is_packable(tensor_as<X>(x), v.c)};
    int64_t blocks = checked_int(slices * job.row_tiles * job.column_tiles, "tiles");
    LAUNCH(weight_gradient_kernel<G, X>, (unsigned)blocks, TILE_THREADS, 0, call->stream, job);
}

} // namespace

void conv_tiles_apply(const op_call *call, const conv_shape &shape, row_count rows, const tensor *x,
                      const tensor *weight, const conv_tiles_dest &to) {
    dispatch_real(x->type, [&](auto zero) {
        using T = decltype(zero);
        if (to.dest->type == x->type)
            launch_gather<false, T, T, T>(call, shape, rows, x, weight, to);
        else
            launch_gather<false, T, T, float>(call, shape, rows, x, weight, to);
    });
}

void conv_tiles_apply_transposed(const op_call *call, const conv_shape &shape, row_count rows,
                                 const tensor *g, const tensor *weight, const conv_tiles_dest &to) {
    dispatch_real(weight->type, [&](auto zero) {
        using T = decltype(zero);
        if (g->type == weight->type)
            launch_gather<true, T, T, T>(call, shape, rows, g, weight, to);
        else
            launch_gather<true, float, T, T>(call, shape, rows, g, weight, to);
    });
}

void conv_tiles_weight_gradient(const op_call *call, const conv_shape &shape, row_count rows, const tensor *x,
                                const tensor *g, int weight_input) {
    dispatch_real(x->type, [&](auto zero) {
        using T = decltype(zero);
        if (g->type == x->type)
            launch_weight_gradient<T, T>(call, shape, rows, x, g);
        else
            launch_weight_gradient<float, T>(call, shape, rows, x, g);
    });
    slice_sums(call, gradient_sink_of(call, weight_input), static_cast<float *>(call->scratch),
               slices_of(shape), shape.k * shape.r * shape.s * shape.c);
}

size_t conv_tiles_weight_gradient_scratch(const conv_shape &shape) {
    return (size_t)(slices_of(shape) * shape.k * shape.r * shape.s * shape.c) * sizeof(float);
}
