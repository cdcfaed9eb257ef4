#include "conv2d/conv2d_sparse.cuh"

#include "block_rank.cuh"
#include "conv_patches.cuh"
#include "scratch_cutter.cuh"
#include "slice_sums.cuh"

extern "C" {
#include "conv2d/conv2d.h"
}

namespace {

enum {
    THREADS = 256,
    PIXELS_OF_A_BLOCK = 128, /* that are marked and numbered together */
    BIAS_COLUMNS = 32,
    BIAS_GROUPS = 16
};

/* Sizes in 32 bits, and the arrays in scratch. */
struct sparse_job {
    int images, h, w, c, ho, wo, k, r, s, stride, pad, dilation;
    int taps, depth; /* r s, r s c */
    int capacity, blocks, slices, slice;
    row_count rows;
    uint8_t *marks;      /* [images,ho,wo] whether the pixel is live */
    int *block_counts;   /* [blocks] live pixels of each block */
    int *count;          /* [1] of all, which may be more than the capacity */
    int *list;           /* [capacity] their numbers, rising */
    int *places;         /* [images,ho,wo] where in the list a pixel is; -1: it is not live */
    float *weight_parts; /* [slices,k,r,s,c] */
    float *shares;       /* [capacity,r,s,c] */
};

/* Pixels of y that are valid. */
__device__ int valid_pixels(const sparse_job &job) {
    return (int)valid_rows(job.rows) * job.ho * job.wo;
}

/* Added to every sum over the list: NaN where the list lacks pixels. */
__device__ float complete(const sparse_job &job) {
    return *job.count > job.capacity ? NAN : 0.0f;
}

__device__ int listed(const sparse_job &job) {
    return min(*job.count, job.capacity);
}

/* ---- the list ------------------------------------------------------------------------------------------- */

/* A group of `lanes` lanes (a power of two up to 32) looks at a pixel. y NULL: no ReLU. */
template <int WIDTH, class G>
__global__ void __launch_bounds__(THREADS) mark_kernel(sparse_job job, G *g, const G *y, int lanes) {
    SHARED_ARRAY(int, found, THREADS / 32);
    int lane = (int)threadIdx.x % lanes, groups = THREADS / lanes, group = (int)threadIdx.x / lanes;
    int first = (int)blockIdx.x * PIXELS_OF_A_BLOCK, end = min(first + PIXELS_OF_A_BLOCK, valid_pixels(job));
    unsigned own = (lanes == 32 ? WARP_ALL : (1u << lanes) - 1) << (int)threadIdx.x % 32 / lanes * lanes;
    int live = 0;
    for (int p = first; p < first + PIXELS_OF_A_BLOCK; p += groups) {
        int pixel = p + group;
        G *row = g + (int64_t)pixel * job.k;
        bool some = false;
        for (int i = lane * WIDTH; i < job.k && pixel < end; i += lanes * WIDTH) {
            float d[WIDTH];
            load_floats<WIDTH>(d, row + i);
            bool any = false;
#pragma unroll
            for (int j = 0; j < WIDTH; j++) any |= d[j] != 0;
            if (any && y) {
                float mask[WIDTH];
                load_floats<WIDTH>(mask, y + (int64_t)pixel * job.k + i);
                any = false;
#pragma unroll
                for (int j = 0; j < WIDTH; j++) {
                    if (!(mask[j] > 0)) d[j] = 0;
                    any |= d[j] != 0;
                }
                store_floats<WIDTH>(row + i, d);
            }
            some |= any;
        }
        bool is_live = (__ballot_sync(WARP_ALL, some) & own) != 0;
        if (lane == 0 && pixel < end) {
            job.marks[pixel] = is_live;
            live += is_live;
        }
    }
    live = warp_sum(live);
    if (threadIdx.x % 32 == 0) found[threadIdx.x / 32] = live;
    __syncthreads();
    if (threadIdx.x > 0) return;
    int sum = 0;
    for (int w = 0; w < THREADS / 32; w++) sum += found[w];
    job.block_counts[blockIdx.x] = sum;
}

/* A thread for each of the pixels that the block of mark_kernel had. */
__global__ void __launch_bounds__(PIXELS_OF_A_BLOCK) list_kernel(sparse_job job) {
    int before = 0, total;
    for (int b = (int)threadIdx.x; b < (int)blockIdx.x; b += PIXELS_OF_A_BLOCK) before += job.block_counts[b];
    before = block_sum<PIXELS_OF_A_BLOCK>(before);
    int pixel = (int)(blockIdx.x * PIXELS_OF_A_BLOCK + threadIdx.x);
    bool exists = pixel < valid_pixels(job), live = exists && job.marks[pixel];
    int place = before + block_rank<PIXELS_OF_A_BLOCK>(live, &total);
    if (live && place < job.capacity) job.list[place] = pixel;
    if (exists) job.places[pixel] = live ? place : -1;
    if (threadIdx.x == 0 && (int)blockIdx.x == job.blocks - 1) *job.count = before + total;
}

/* ---- products ------------------------------------------------------------------------------------------- */

/* Rows of the gradient at the pixels of the list: rows of the tile, fetched along k. */
template <class G> struct listed_rows {
    using type = G;
    static constexpr bool ALONG_K = true;
    const G *data;
    const int *list;
    int first_row, end, channels;
    bool wide;

    __device__ void prepare(int) {}
    __device__ vector_of<G> fetch(int row, int k) const {
        row += first_row;
        if (row >= end || k >= channels) return {};
        return fetch_vector(data + (int64_t)list[row] * channels + k, channels - k, wide);
    }
};

/* Their transpose: k counts pixels of the list. */
template <class G> struct listed_columns {
    using type = G;
    static constexpr bool ALONG_K = false;
    const G *data;
    const int *list;
    int first_column, channels, end;
    bool wide;

    __device__ void prepare(int) {}
    __device__ vector_of<G> fetch(int column, int k) const {
        column += first_column;
        if (k >= end || column >= channels) return {};
        return fetch_vector(data + (int64_t)list[k] * channels + column, channels - column, wide);
    }
};

/* Columns are elements of a patch of x, k counts pixels of the list. The table holds two chunks: one is read while the next is
 * written. */
template <class X> struct listed_patches {
    using type = X;
    static constexpr bool ALONG_K = false;
    patches<X> of;
    const int *list;
    tile_pixel *pixels; /* [2 * TILE_CHUNK], shared */
    int first_column, end, ho, wo, stride, pad;

    __device__ void prepare(int k) {
        int i = k + (int)threadIdx.x;
        if (threadIdx.x >= TILE_CHUNK) return;
        tile_pixel at = {0, OUTSIDE, OUTSIDE, -1};
        if (i < end) {
            int pixel = list[i], line = pixel / wo, image = line / ho;
            at = {image * of.h * of.w, (line - image * ho) * stride - pad, (pixel - line * wo) * stride - pad,
                  -1};
        }
        pixels[i % (2 * TILE_CHUNK)] = at;
    }
    __device__ vector_of<X> fetch(int column, int k) const {
        return of.fetch(pixels[k % (2 * TILE_CHUNK)], first_column + column);
    }
};

/* to [rows,columns] = sum + more */
__device__ void put_tile(float *to, const float (&sum)[TILE_SUMS][TILE_SUMS], int first_row, int rows,
                         int first_column, int columns, float more) {
#pragma unroll
    for (int i = 0; i < TILE_SUMS; i++) {
        int row = first_row + tile_row(i);
        if (row >= rows) continue;
#pragma unroll
        for (int j = 0; j < TILE_SUMS; j += 4) {
            int column = first_column + tile_column(j);
            float four[4] = {sum[i][j] + more, sum[i][j + 1] + more, sum[i][j + 2] + more,
                             sum[i][j + 3] + more};
            float *at = to + (int64_t)row * columns + column;
            if (columns % 4 == 0) {
                if (column < columns) store_floats<4>(at, four);
                continue;
            }
#pragma unroll
            for (int n = 0; n < 4; n++)
                if (column + n < columns) at[n] = four[n];
        }
    }
}

/* Grid: (tiles of the patch, tiles of k, slices of the list). */
template <class G, class X>
__global__ void __launch_bounds__(TILE_THREADS)
    weight_kernel(sparse_job job, const G *g, const X *x, bool wide_g, bool wide_x) {
    SHARED_ARRAY(tile_pixel, pixels, 2 * TILE_CHUNK);
    int first_column = (int)blockIdx.x * TILE, first_row = (int)blockIdx.y * TILE, slice = (int)blockIdx.z;
    int first = min(slice * job.slice, listed(job)), end = min(first + job.slice, listed(job));
    listed_columns<G> a = {g, job.list, first_row, job.k, end, wide_g};
    listed_patches<X> b = {{x, job.h, job.w, job.c, job.s, job.dilation, job.depth, wide_x},
                           job.list,
                           pixels,
                           first_column,
                           end,
                           job.ho,
                           job.wo,
                           job.stride,
                           job.pad};
    float sum[TILE_SUMS][TILE_SUMS] = {};
    tile_product(sum, a, b, first, end);
    put_tile(job.weight_parts + (int64_t)slice * job.k * job.depth, sum, first_row, job.k, first_column,
             job.depth, complete(job));
}

/* Grid: (tiles of the patch, tiles of the list). */
template <class G, class T>
__global__ void __launch_bounds__(TILE_THREADS)
    share_kernel(sparse_job job, const G *g, const T *weight, bool wide_g, bool wide_weight) {
    int first_column = (int)blockIdx.x * TILE, first_row = (int)blockIdx.y * TILE, rows = listed(job);
    if (first_row >= rows) return;
    listed_rows<G> a = {g, job.list, first_row, rows, job.k, wide_g};
    matrix_columns<T> b = {weight, first_column, job.depth, job.k, wide_weight};
    float sum[TILE_SUMS][TILE_SUMS] = {};
    tile_product(sum, a, b, 0, job.k);
    put_tile(job.shares, sum, first_row, rows, first_column, job.depth, 0);
}

template <class G>
__global__ void __launch_bounds__(BIAS_COLUMNS *BIAS_GROUPS)
    bias_kernel(sparse_job job, gradient_sink to, const G *g) {
    SHARED_ARRAY(float, sums, BIAS_COLUMNS *BIAS_GROUPS);
    int channel = (int)blockIdx.x * BIAS_COLUMNS + (int)threadIdx.x;
    float sum = 0;
    if (channel < job.k)
        for (int i = (int)threadIdx.y; i < listed(job); i += BIAS_GROUPS)
            sum += to_float(g[(int64_t)job.list[i] * job.k + channel]);
    sums[threadIdx.y * BIAS_COLUMNS + threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y > 0 || channel >= job.k) return;
    for (int group = 1; group < BIAS_GROUPS; group++) sum += sums[group * BIAS_COLUMNS + threadIdx.x];
    to.put(channel, sum + complete(job));
}

/* ---- the gradient of x ---------------------------------------------------------------------------------- */

/* Place in the list of the pixel of y whose tap is the pixel (h, w) of x; negative: none. */
__device__ int place_of(const sparse_job &job, int image, int h, int w, int tap) {
    int down = tap / job.s, across = tap - down * job.s;
    int top = h + job.pad - down * job.dilation, left = w + job.pad - across * job.dilation;
    if (top < 0 || left < 0) return -1;
    int p = top / job.stride, q = left / job.stride;
    if (p * job.stride != top || q * job.stride != left || p >= job.ho || q >= job.wo) return -1;
    return job.places[(image * job.ho + p) * job.wo + q];
}

/* A warp takes a pixel of x after the other: its lanes look up 32 taps, then add the shares of those that are live. */
template <int WIDTH, class T>
__global__ void __launch_bounds__(THREADS) input_kernel(sparse_job job, T *d_x, bool accumulate) {
    int lane = (int)threadIdx.x % 32, warps = (int)gridDim.x * (THREADS / 32);
    int pixels = (int)valid_rows(job.rows) * job.h * job.w;
    for (int pixel = (int)(blockIdx.x * THREADS + threadIdx.x) / 32; pixel < pixels; pixel += warps) {
        int line = pixel / job.w, image = line / job.h, h = line - image * job.h, w = pixel - line * job.w;
        bool touched = false;
        T *to = d_x + (int64_t)pixel * job.c;
        for (int first = 0; first < job.taps; first += 32) {
            int tap = first + lane, place = -1;
            if (tap < job.taps) place = place_of(job, image, h, w, tap);
            touched |= __ballot_sync(WARP_ALL, place >= 0) != 0;
        }
        if (!touched && accumulate) continue; /* the same for the warp */
        for (int base = 0; base < job.c; base += 32 * WIDTH) {
            int channel = base + lane * WIDTH;
            float sum[WIDTH] = {};
            if (accumulate && channel < job.c) load_floats<WIDTH>(sum, to + channel);
            for (int first = 0; first < job.taps && touched; first += 32) {
                int tap = first + lane, place = -1;
                if (tap < job.taps) place = place_of(job, image, h, w, tap);
                unsigned live = __ballot_sync(WARP_ALL, place >= 0);
                while (live) {
                    int next = __ffs((int)live) - 1;
                    live &= live - 1;
                    int from = __shfl_sync(WARP_ALL, place, next);
                    if (channel >= job.c) continue;
                    const float *share =
                        job.shares + (int64_t)from * job.depth + (int64_t)(first + next) * job.c + channel;
#pragma unroll
                    for (int i = 0; i < WIDTH; i++) sum[i] += from < job.capacity ? share[i] : NAN;
                }
            }
            if (channel < job.c) store_floats<WIDTH>(to + channel, sum);
        }
    }
}

/* ---- host ----------------------------------------------------------------------------------------------- */

int slices_of(int64_t tiles, int64_t capacity) {
    enum { BLOCKS = 256, LEAST_PIXELS = 64 }; /* for a GPU to be busy; worth a sum of its own */
    int64_t slices = tiles ? BLOCKS / tiles : 1, most = capacity / LEAST_PIXELS;
    if (slices > most) slices = most;
    return (int)(slices < 1 ? 1 : slices);
}

unsigned tiles_for(int64_t size) {
    return (unsigned)((size + TILE - 1) / TILE);
}

/* With the bytes of scratch in *bytes. */
sparse_job cut_job(const op_call *call, const conv_shape &v, bool counting, size_t *bytes) {
    constexpr int64_t most = (int64_t)1 << 29; /* twice this and what padding adds stay below 2^31 */
    int64_t pixels = v.n * v.ho * v.wo, depth = v.r * v.s * v.c;
    CHECK(pixels <= most && v.n * v.h * v.w <= most && depth <= most && v.k <= most,
          "conv2d: more than 2^29 pixels or weights of a channel");
    int64_t capacity = static_cast<const conv2d_params *>(call->params)->live_pixels;
    if (capacity > pixels) capacity = pixels;
    sparse_job job = {};
    job.images = (int)v.n;
    job.h = (int)v.h;
    job.w = (int)v.w;
    job.c = (int)v.c;
    job.ho = (int)v.ho;
    job.wo = (int)v.wo;
    job.k = (int)v.k;
    job.r = (int)v.r;
    job.s = (int)v.s;
    job.stride = (int)v.stride;
    job.pad = (int)v.pad;
    job.dilation = (int)v.dilation;
    job.taps = (int)(v.r * v.s);
    job.depth = (int)depth;
    job.capacity = (int)capacity;
    job.blocks = (int)((pixels + PIXELS_OF_A_BLOCK - 1) / PIXELS_OF_A_BLOCK);
    if (job.blocks == 0) job.blocks = 1; /* which counts none */
    job.slices = slices_of((int64_t)tiles_for(v.k) * tiles_for(depth), capacity);
    job.slice = (int)((capacity + job.slices - 1) / job.slices + TILE_CHUNK - 1) / TILE_CHUNK * TILE_CHUNK;
    job.rows = row_count_of(call->in[CONV2D_X]);
    scratch_cutter cut = scratch_cutter_of(call, counting);
    job.marks = cut.take<uint8_t>(pixels);
    job.block_counts = cut.take<int>(job.blocks);
    job.count = cut.take<int>(1);
    job.list = cut.take<int>(capacity);
    job.places = cut.take<int>(pixels);
    if (call->d_in[CONV2D_WEIGHT]) job.weight_parts = cut.take<float>(job.slices * v.k * depth);
    if (call->d_in[CONV2D_X]) job.shares = cut.take<float>(capacity * depth);
    *bytes = cut.used;
    return job;
}

template <int WIDTH, class G> void launch_list(const op_call *call, const sparse_job &job, G *g, const G *y) {
    int lanes = 1;
    while (lanes < 32 && lanes * WIDTH < job.k) lanes *= 2;
    LAUNCH(mark_kernel<WIDTH, G>, (unsigned)job.blocks, THREADS, 0, call->stream, job, g, y, lanes);
    LAUNCH(list_kernel, (unsigned)job.blocks, PIXELS_OF_A_BLOCK, 0, call->stream, job);
}

template <class G, class T> void run(const op_call *call, const sparse_job &job) {
    const tensor *d_y = call->d_out[0];
    G *g = tensor_as<G>(d_y);
    bool relu = static_cast<const conv2d_params *>(call->params)->relu;
    const G *y = relu ? tensor_as<G>(call->out[0]) : nullptr;
    bool wide_g = is_packable(g, job.k);
    if (wide_g && is_packable(y, 0))
        launch_list<vector_width<G>, G>(call, job, g, y);
    else
        launch_list<1, G>(call, job, g, y);
    unsigned patch_tiles = tiles_for(job.depth);
    if (call->d_in[CONV2D_WEIGHT]) {
        const T *x = tensor_as<T>(call->in[CONV2D_X]);
        LAUNCH((weight_kernel<G, T>), dim3(patch_tiles, tiles_for(job.k), (unsigned)job.slices), TILE_THREADS,
               0, call->stream, job, g, x, wide_g, is_packable(x, job.c));
        slice_sums(call, gradient_sink_of(call, CONV2D_WEIGHT), job.weight_parts, job.slices,
                   (int64_t)job.k * job.depth);
    }
    if (call->d_in[CONV2D_BIAS])
        LAUNCH(bias_kernel<G>, (unsigned)((job.k + BIAS_COLUMNS - 1) / BIAS_COLUMNS),
               dim3(BIAS_COLUMNS, BIAS_GROUPS), 0, call->stream, job, gradient_sink_of(call, CONV2D_BIAS), g);
    if (!call->d_in[CONV2D_X]) return;
    const T *weight = tensor_as<T>(call->in[CONV2D_WEIGHT]);
    LAUNCH((share_kernel<G, T>), dim3(patch_tiles, tiles_for(job.capacity)), TILE_THREADS, 0, call->stream,
           job, g, weight, wide_g, is_packable(weight, job.depth));
    T *d_x = tensor_as<T>(call->d_in[CONV2D_X]);
    bool accumulate = call->accumulate[CONV2D_X];
    unsigned grid = cuda_grid((int64_t)job.images * job.h * job.w, THREADS / 32);
    if (is_packable(d_x, job.c))
        LAUNCH((input_kernel<vector_width<T>, T>), grid, THREADS, 0, call->stream, job, d_x, accumulate);
    else
        LAUNCH((input_kernel<1, T>), grid, THREADS, 0, call->stream, job, d_x, accumulate);
}

} // namespace

void conv2d_sparse_backward(const op_call *call, const conv_shape &shape) {
    size_t bytes;
    sparse_job job = cut_job(call, shape, false, &bytes);
    const tensor *d_y = call->d_out[0];
    dispatch_real(call->in[CONV2D_X]->type, [&](auto zero) {
        using T = decltype(zero);
        if (d_y->type == call->in[CONV2D_X]->type)
            run<T, T>(call, job);
        else
            run<float, T>(call, job);
    });
}

size_t conv2d_sparse_scratch(const op_call *call, const conv_shape &shape) {
    size_t bytes;
    cut_job(call, shape, true, &bytes);
    return bytes;
}
