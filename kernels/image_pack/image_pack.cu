/* image_pack straight from the packed bytes to the canvas: a thread takes a column of TILE_ROWS output pixels and resamples each
 * source row that they need along x once. Antialias: one launch before that makes the tables of weights of all images.
 *
 * Bit for bit what the CPU kernel computes (before y is rounded to its storage type): products that another operation follows are
 * written as such, so that no compiler fuses them. */
#include "cuda_common.cuh"

extern "C" {
#include "image_pack/image_pack.h"
#include "image_pack/resample_axis.h"
}

namespace {

enum { THREADS = 128, TILE_ROWS = 4, TABLE_THREADS = 256, FEW_TAPS = 4 };

/* One axis of an image in scratch. Output pixel i is the sum over j < count[i] of source pixel first[i] + j with the weights
 * from i * tap_stride on. */
struct axis_table {
    int32_t *first, *count, *weights;
};

/* At most this many weights for a pixel; 2 in + 4 out hold them for an axis. */
__device__ int tap_stride(int in, int out) {
    return in > out ? 2 * (in / out) + 3 : FEW_TAPS;
}

size_t axis_bytes(int64_t in, int64_t out) {
    return (size_t)(2 * in + 6 * out) * sizeof(int32_t);
}

struct packing {
    const uint8_t *bytes;
    const image_pack_record *table; /* NULL: there is one image, `single` */
    image_pack_record single;
    int canvas_height, canvas_width;
    float mean[3], std[3];
    int order[3];
    unsigned char *scratch;
    size_t columns_bytes, rows_bytes; /* tables of one image */

    __device__ image_pack_record record(unsigned n) const { return table ? table[n] : single; }
    /* Axis 0: columns, 1: rows. */
    __device__ axis_table axis(unsigned n, int index) const {
        unsigned char *at = scratch + n * (columns_bytes + rows_bytes) + (index ? columns_bytes : 0);
        int64_t out = index ? canvas_height : canvas_width;
        int32_t *first = reinterpret_cast<int32_t *>(at);
        return {first, first + out, first + 2 * out};
    }
    __device__ const uint8_t *image(const image_pack_record &r) const {
        return bytes + (int64_t)r.offset * IMAGE_PACK_ALIGNMENT;
    }
};

/* ---- the tables of the antialiasing filter -------------------------------------------------------------- */

/* triangle_tap_of, operation by operation. */
__device__ triangle_tap make_taps(int32_t *weights, int i, int in, int out) {
    double scale = (double)in / out, support = scale < 1 ? 1 : scale, center = __dmul_rn(i + 0.5, scale),
           sum = 0, narrow = 1.0 / support;
    int first = (int)(center - support + 0.5), end = (int)(center + support + 0.5);
    if (first < 0) first = 0;
    if (end > in) end = in;
    for (int x = first; x < end; x++) {
        double distance = fabs(__dmul_rn(x - center + 0.5, narrow));
        sum += distance < 1 ? 1 - distance : 0;
    }
    for (int x = first; x < end; x++) {
        double distance = fabs(__dmul_rn(x - center + 0.5, narrow)), w = distance < 1 ? 1 - distance : 0;
        if (sum != 0) w /= sum;
        weights[x - first] = (int32_t)(0.5 + __dmul_rn(w, 1 << TRIANGLE_BITS));
    }
    return {first, end - first};
}

/* blockIdx.y: the axis; blockIdx.z: the image. */
__global__ void __launch_bounds__(TABLE_THREADS) tables_kernel(packing k) {
    image_pack_record r = k.record(blockIdx.z);
    int i = (int)global_thread(), in = blockIdx.y ? r.height : r.width,
        out = blockIdx.y ? r.resized_height : r.resized_width;
    if (i >= out) return;
    axis_table t = k.axis(blockIdx.z, (int)blockIdx.y);
    triangle_tap tap = make_taps(t.weights + (int64_t)i * tap_stride(in, out), i, in, out);
    t.first[i] = tap.first;
    t.count[i] = tap.count;
}

/* ---- pixels --------------------------------------------------------------------------------------------- */

/* A thread's column of the canvas, and its rows [first_row, end_row) of the resized image. Rows and columns behind the image are
 * cleared when this is made. */
template <class T> struct column_tile {
    image_pack_record r;
    const uint8_t *image;
    T *y; /* pixel of row first_row */
    int64_t y_stride;
    int x, first_row, end_row; /* x: column of the resized image, before flipping */

    __device__ column_tile(const packing &k, T *canvas) : r(k.record(blockIdx.z)), image(k.image(r)) {
        int column = (int)(blockIdx.x * THREADS + threadIdx.x);
        first_row = (int)blockIdx.y * TILE_ROWS;
        end_row = first_row;
        x = r.flip ? r.resized_width - 1 - column : column;
        if (column >= k.canvas_width) return;
        int canvas_end = first_row + TILE_ROWS < k.canvas_height ? first_row + TILE_ROWS : k.canvas_height;
        y_stride = (int64_t)k.canvas_width * 3;
        y = canvas + ((int64_t)blockIdx.z * k.canvas_height + first_row) * y_stride + (int64_t)column * 3;
        if (column < r.resized_width) end_row = canvas_end < r.resized_height ? canvas_end : r.resized_height;
        for (int row = end_row > first_row ? end_row : first_row; row < canvas_end; row++)
            for (int c = 0; c < 3; c++) y[(row - first_row) * y_stride + c] = from_float<T>(0.0f);
    }

    __device__ const uint8_t *source(int row, int column) const {
        return image + ((int64_t)row * r.width + column) * 3;
    }

    __device__ void write(const packing &k, int row, const float (&v)[3]) const {
#pragma unroll
        for (int c = 0; c < 3; c++) {
            float value = k.order[c] == 0 ? v[0] : k.order[c] == 1 ? v[1] : v[2];
            y[(row - first_row) * y_stride + c] =
                from_float<T>(__fdiv_rn(__fsub_rn(value, k.mean[c]), k.std[c]));
        }
    }
};

__device__ int rounded(int32_t sum) {
    int v = sum >> TRIANGLE_BITS;
    return v < 0 ? 0 : v > 255 ? 255 : v;
}

/* The pixel of one source row, along x. */
__device__ void filter_row(int (&v)[3], const uint8_t *pixel, const int32_t *weights, int count) {
    int32_t sum[3] = {TRIANGLE_HALF, TRIANGLE_HALF, TRIANGLE_HALF};
    if (count <= FEW_TAPS) { /* unless the image shrinks */
#pragma unroll
        for (int i = 0; i < FEW_TAPS; i++) {
            int32_t w = i < count ? weights[i] : 0;
#pragma unroll
            for (int c = 0; c < 3; c++) sum[c] += i < count ? pixel[3 * i + c] * w : 0;
        }
    } else {
        for (int i = 0; i < count; i++) {
            int32_t w = weights[i];
#pragma unroll
            for (int c = 0; c < 3; c++) sum[c] += pixel[3 * i + c] * w;
        }
    }
#pragma unroll
    for (int c = 0; c < 3; c++) v[c] = rounded(sum[c]);
}

template <class T> __global__ void __launch_bounds__(THREADS) antialias_kernel(T *y, packing k) {
    column_tile<T> tile(k, y);
    if (tile.first_row >= tile.end_row) return;
    axis_table columns = k.axis(blockIdx.z, 0), rows = k.axis(blockIdx.z, 1);
    const int32_t *across =
        columns.weights + (int64_t)tile.x * tap_stride(tile.r.width, tile.r.resized_width);
    int first_column = columns.first[tile.x], taps = columns.count[tile.x],
        stride = tap_stride(tile.r.height, tile.r.resized_height), last = tile.end_row - 1;
    int sum[TILE_ROWS][3], first[TILE_ROWS], count[TILE_ROWS];
#pragma unroll
    for (int i = 0; i < TILE_ROWS; i++) {
        bool there = tile.first_row + i < tile.end_row;
        first[i] = there ? rows.first[tile.first_row + i] : 0;
        count[i] = there ? rows.count[tile.first_row + i] : 0;
#pragma unroll
        for (int c = 0; c < 3; c++) sum[i][c] = TRIANGLE_HALF;
    }
    int end = rows.first[last] + rows.count[last];
    for (int row = first[0]; row < end; row++) {
        int v[3];
        filter_row(v, tile.source(row, first_column), across, taps);
#pragma unroll
        for (int i = 0; i < TILE_ROWS; i++) { /* the same way for all threads of the block */
            int tap = row - first[i];
            if (tap < 0 || tap >= count[i]) continue;
            int32_t w = rows.weights[(int64_t)(tile.first_row + i) * stride + tap];
#pragma unroll
            for (int c = 0; c < 3; c++) sum[i][c] += v[c] * w;
        }
    }
#pragma unroll
    for (int i = 0; i < TILE_ROWS; i++) {
        if (tile.first_row + i >= tile.end_row) continue;
        const float v[3] = {(float)rounded(sum[i][0]), (float)rounded(sum[i][1]), (float)rounded(sum[i][2])};
        tile.write(k, tile.first_row + i, v);
    }
}

/* bilinear_tap_of, operation by operation. */
__device__ bilinear_tap make_tap(int i, int in, int out) {
    double s = __dmul_rn(i + 0.5, (double)in / out) - 0.5;
    if (s < 0) s = 0;
    int lower = (int)s;
    if (lower > in - 1) lower = in - 1;
    return {lower, lower + 1 < in ? lower + 1 : lower, s - lower};
}

__device__ float between(float lower, float upper, float w) {
    return __fadd_rn(__fmul_rn(__fsub_rn(1.0f, w), lower), __fmul_rn(w, upper));
}

/* A source row at the thread's column. */
struct resampled_row {
    int row;
    float v[3];
    template <class T> __device__ void read(const column_tile<T> &tile, const bilinear_tap &h, int row_) {
        row = row_;
        const uint8_t *lower = tile.source(row, h.lower), *upper = tile.source(row, h.upper);
#pragma unroll
        for (int c = 0; c < 3; c++) v[c] = between((float)lower[c], (float)upper[c], (float)h.upper_weight);
    }
};

template <class T> __global__ void __launch_bounds__(THREADS) bilinear_kernel(T *y, packing k) {
    column_tile<T> tile(k, y);
    if (tile.first_row >= tile.end_row) return;
    bilinear_tap h = make_tap(tile.x, tile.r.width, tile.r.resized_width);
    resampled_row lower = {-1, {}}, upper = {-1, {}};
    for (int row = tile.first_row; row < tile.end_row; row++) {
        bilinear_tap tap = make_tap(row, tile.r.height, tile.r.resized_height);
        if (tap.lower == upper.row)
            lower = upper;
        else if (tap.lower != lower.row)
            lower.read(tile, h, tap.lower);
        if (tap.upper == lower.row)
            upper = lower;
        else if (tap.upper != upper.row)
            upper.read(tile, h, tap.upper);
        float v[3];
#pragma unroll
        for (int c = 0; c < 3; c++) v[c] = between(lower.v[c], upper.v[c], (float)tap.upper_weight);
        tile.write(k, row, v);
    }
}

/* ---- launches ------------------------------------------------------------------------------------------- */

packing packing_of(const op_call *call) {
    const auto *p = static_cast<const image_pack_params *>(call->params);
    const tensor *image = call->in[IMAGE_PACK_IMAGE], *table = call->in[IMAGE_PACK_TABLE];
    packing k = {};
    k.bytes = tensor_as<uint8_t>(image);
    if (table)
        k.table = tensor_as<image_pack_record>(table); /* on the device */
    else
        k.single = image_pack_record_of(call, 0);
    k.canvas_height = table ? p->canvas_height : p->height;
    k.canvas_width = table ? p->canvas_width : p->width;
    for (int c = 0; c < 3; c++) {
        k.mean[c] = (float)p->mean[c];
        k.std[c] = (float)p->std[c];
        k.order[c] = (int)p->order[c];
    }
    k.scratch = static_cast<unsigned char *>(call->scratch);
    const int64_t most = IMAGE_PACK_MAX_SIDE; /* with a table only the device knows the sizes */
    k.columns_bytes = axis_bytes(table ? most : image->shape[1], k.canvas_width);
    k.rows_bytes = axis_bytes(table ? most : image->shape[0], k.canvas_height);
    return k;
}

size_t scratch_bytes(const op_call *call, bool) {
    if (!static_cast<const image_pack_params *>(call->params)->antialias) return 0;
    packing k = packing_of(call);
    return (k.columns_bytes + k.rows_bytes) * (size_t)image_pack_count(call);
}

void forward(const op_call *call) {
    packing k = packing_of(call);
    bool antialias = static_cast<const image_pack_params *>(call->params)->antialias;
    int64_t images = image_pack_count(call);
    CHECK(images <= UINT16_MAX, "image_pack: %lld images", (long long)images);
    int longer = k.canvas_height > k.canvas_width ? k.canvas_height : k.canvas_width;
    if (antialias)
        LAUNCH(tables_kernel, dim3(cuda_grid(longer, TABLE_THREADS), 2, (unsigned)images), TABLE_THREADS, 0,
               call->stream, k);
    dim3 grid((unsigned)(k.canvas_width + THREADS - 1) / THREADS,
              (unsigned)(k.canvas_height + TILE_ROWS - 1) / TILE_ROWS, (unsigned)images);
    dispatch_real(call->out[0]->type, [&](auto zero) {
        using T = decltype(zero);
        LAUNCH((antialias ? antialias_kernel<T> : bilinear_kernel<T>), grid, THREADS, 0, call->stream,
               tensor_as<T>(call->out[0]), k);
    });
}

const op_kernel columns = {"cuda_columns", forward, nullptr, scratch_bytes};

} // namespace

extern "C" const op_kernel *const image_pack_cuda[] = {&columns, nullptr};
