/* roi_pool: forward a block per region, a thread for each channel of a bin. Backward finds the largest pixels again, notes them
 * in scratch, and gathers over tiles of the map (roi_tiles.cuh). */
#include "roi_tiles.cuh"

extern "C" {
#include "roi_pool/roi_pool.h"
}

namespace {

enum { THREADS = 256 };

struct pool_job {
    const float *rois;
    row_count rows;
    roi_tiling tiling;
    float scale;
    int bins, channels; /* bins per axis */
};

/* One axis (0: y, 1: x) of a region, in pixels of the map. */
struct pool_axis {
    int low;
    float bin;
};

__device__ int to_pixel(float value) {
    float rounded = roundf(value);
    return rounded < -2147483648.0f ? -INT32_MAX : rounded >= 2147483648.0f ? INT32_MAX : (int)rounded;
}

__device__ pool_axis axis_of(const float *roi, int axis, const pool_job &job) {
    int low = to_pixel(__fmul_rn(roi[2 - axis], job.scale));
    int64_t size = (int64_t)to_pixel(__fmul_rn(roi[4 - axis], job.scale)) - low + 1;
    return {low, __fdiv_rn((float)(size > 1 ? size : 1), (float)job.bins)};
}

/* Pixels x .. y - 1 of bin p on an axis of `length` pixels. */
__device__ int2 bin_range(pool_axis a, int p, int length) {
    int64_t first = (int64_t)floorf(__fmul_rn((float)p, a.bin)) + a.low,
            end = (int64_t)ceilf(__fmul_rn((float)(p + 1), a.bin)) + a.low;
    return {(int)(first < 0        ? 0
                  : first > length ? length
                                   : first),
            (int)(end < 0        ? 0
                  : end > length ? length
                                 : end)};
}

/* Forward writes y; backward writes into `largest` the pixel (of the image) that each bin took, -1 for none. */
template <class T>
__global__ void __launch_bounds__(THREADS) pool_kernel(T *y, int32_t *largest, const T *x, pool_job job) {
    int64_t region = (int64_t)blockIdx.x, out = region * job.bins * job.bins * job.channels;
    if (region >= valid_rows(job.rows)) return;
    const float *roi = job.rois + 5 * region;
    pool_axis axes[2] = {axis_of(roi, 0, job), axis_of(roi, 1, job)};
    const T *image = x + (int64_t)roi[0] * job.tiling.height * job.tiling.width * job.channels;
    int chunks = (job.channels + 31) / 32;
    for (int item = (int)threadIdx.x / 32; item < job.bins * job.bins * chunks; item += THREADS / 32) {
        int bin = item / chunks, c = item % chunks * 32 + (int)threadIdx.x % 32;
        if (c >= job.channels) continue;
        int2 rows = bin_range(axes[0], bin / job.bins, job.tiling.height),
             cols = bin_range(axes[1], bin % job.bins, job.tiling.width);
        int best = -1;
        float most = 0;
        for (int i = rows.x; i < rows.y; i++)
            for (int k = cols.x; k < cols.y; k++) {
                int pixel = i * job.tiling.width + k;
                float value = to_float(image[(int64_t)pixel * job.channels + c]);
                if (best >= 0 && !(value > most)) continue;
                best = pixel;
                most = value;
            }
        int64_t at = out + (int64_t)bin * job.channels + c;
        if (largest)
            largest[at] = best;
        else
            y[at] = from_float<T>(most);
    }
}

__global__ void __launch_bounds__(THREADS) places_kernel(roi_place *places, pool_job job) {
    int64_t rows = valid_rows(job.rows);
    for (int64_t i = global_thread(); i < rows; i += global_threads()) {
        const float *roi = job.rois + 5 * i;
        unsigned ranges[2];
        for (int axis = 0; axis < 2; axis++) {
            pool_axis a = axis_of(roi, axis, job);
            ranges[axis] = roi_tile_range((float)a.low - 1, (float)a.low + a.bin * (float)job.bins + 1,
                                          axis ? job.tiling.width : job.tiling.height);
        }
        places[i] = {(int)roi[0], ranges[0], ranges[1]};
    }
}

/* Which of the bins p0 .. p0 + 31 of an axis share pixels with first .. end - 1. The whole warp calls it. */
__device__ unsigned bins_at(pool_axis a, int p0, int bins, int first, int end, int length) {
    int p = p0 + (int)threadIdx.x % 32;
    int2 range = bin_range(a, p, length);
    return __ballot_sync(WARP_ALL, p < bins && range.x < end && range.y > first);
}

/* Adds to the pixels first .. first + 7 of the map what the bins of one region that took them got; the lane's channel. */
template <class T>
__device__ void gather(float (&acc)[ROI_TILE], const T *d_y, const int32_t *largest, pool_axis y_axis,
                       pool_axis x_axis, int y, int x, const pool_job &job, bool active) {
    int first = y * job.tiling.width + x;
    for (int p0 = 0; p0 < job.bins; p0 += 32) {
        unsigned rows = bins_at(y_axis, p0, job.bins, y, y + 1, job.tiling.height);
        for (int q0 = 0; rows && q0 < job.bins; q0 += 32) {
            unsigned cols = bins_at(x_axis, q0, job.bins, x, x + ROI_TILE, job.tiling.width);
            for (unsigned up = active ? rows : 0; up; up &= up - 1)
                for (unsigned across = cols; across; across &= across - 1) {
                    int bin = (p0 + __ffs((int)up) - 1) * job.bins + q0 + __ffs((int)across) - 1;
                    unsigned at = (unsigned)bin * (unsigned)job.channels;
                    int taken = largest[at] - first;
                    float value = to_float(d_y[at]);
#pragma unroll
                    for (int i = 0; i < ROI_TILE; i++)
                        if (taken == i && x + i < job.tiling.width) acc[i] += value;
                }
        }
    }
}

/* A block for each tile and 32 channels; d_y is NULL where no gradient arrived. */
template <class T>
__global__ void __launch_bounds__(ROI_TILE_THREADS)
    gather_kernel(T *d_x, const T *d_y, const int32_t *largest, const roi_place *places, pool_job job,
                  bool accumulate) {
    SHARED_ARRAY(int, list, ROI_WINDOW);
    SHARED_ARRAY(int, counts, ROI_TILE_WARPS);
    roi_tile tile = roi_tile_of(job.tiling, blockIdx.x, (unsigned)((job.channels + 31) / 32));
    int c = tile.chunk * 32 + (int)threadIdx.x % 32, y = tile.row * ROI_TILE + (int)threadIdx.x / 32;
    int x = tile.col * ROI_TILE;
    float acc[ROI_TILE] = {};
    int64_t rows = d_y ? valid_rows(job.rows) : 0, size = (int64_t)job.bins * job.bins * job.channels;
    for (int64_t window = 0; window < rows; window += ROI_WINDOW) {
        int n = roi_tile_collect(list, counts, places, window, rows, tile.image, tile);
        for (int k = 0; k < n; k++) {
            int64_t region = window + list[k];
            const float *roi = job.rois + 5 * region;
            gather(acc, d_y + region * size + c, largest + region * size + c, axis_of(roi, 0, job),
                   axis_of(roi, 1, job), y, x, job, c < job.channels);
        }
    }
    if (c >= job.channels || y >= job.tiling.height) return;
    T *out = d_x + (((int64_t)tile.image * job.tiling.height + y) * job.tiling.width + x) * job.channels + c;
#pragma unroll
    for (int i = 0; i < ROI_TILE; i++) {
        if (x + i >= job.tiling.width) break;
        T *pixel = out + (int64_t)i * job.channels;
        *pixel = from_float<T>(accumulate ? to_float(*pixel) + acc[i] : acc[i]);
    }
}

pool_job job_of(const op_call *call) {
    const auto *p = static_cast<const roi_pool_params *>(call->params);
    const tensor *x = call->in[ROI_POOL_X], *rois = call->in[ROI_POOL_ROIS];
    return {tensor_f32(rois),        row_count_of(rois), roi_tiling_of(x),
            (float)p->spatial_scale, p->output_size,     (int)x->shape[3]};
}

/* Backward: places, then the pixel that each element of y took. */
size_t places_bytes(const op_call *call) {
    return (roi_places_bytes(call->in[ROI_POOL_ROIS]) + 63) / 64 * 64;
}

size_t scratch_bytes(const op_call *call, bool backward) {
    pool_job job = job_of(call);
    size_t row = (size_t)(job.bins * job.bins) * (size_t)job.channels * sizeof(int32_t);
    return backward ? places_bytes(call) + (size_t)job.rows.capacity * row : 0;
}

void forward(const op_call *call) {
    if (tensor_count(call->out[0]) == 0) return;
    dispatch_real(op_storage_type(call), [&](auto zero) {
        using T = decltype(zero);
        LAUNCH(pool_kernel<T>, (unsigned)call->out[0]->shape[0], THREADS, 0, call->stream,
               tensor_as<T>(call->out[0]), nullptr, tensor_as<T>(call->in[ROI_POOL_X]), job_of(call));
    });
}

template <class T> void launch_backward(const op_call *call) {
    const tensor *x = call->in[ROI_POOL_X], *rois = call->in[ROI_POOL_ROIS];
    pool_job job = job_of(call);
    auto *places = static_cast<roi_place *>(call->scratch);
    auto *largest = reinterpret_cast<int32_t *>(static_cast<char *>(call->scratch) + places_bytes(call));
    unsigned regions = call->d_out[0] && job.channels > 0 ? (unsigned)rois->shape[0] : 0;
    LAUNCH(places_kernel, cuda_grid(regions, THREADS), THREADS, 0, call->stream, places, job);
    LAUNCH(pool_kernel<T>, regions, THREADS, 0, call->stream, nullptr, largest, tensor_as<T>(x), job);
    int64_t tiles = (int64_t)job.tiling.rows * job.tiling.cols * x->shape[0] * ((job.channels + 31) / 32);
    LAUNCH(gather_kernel<T>, (unsigned)tiles, ROI_TILE_THREADS, 0, call->stream,
           tensor_as<T>(call->d_in[ROI_POOL_X]), tensor_as<T>(call->d_out[0]), largest, places, job,
           call->accumulate[ROI_POOL_X]);
}

void backward(const op_call *call) {
    if (!call->d_in[ROI_POOL_X]) return;
    dispatch_real(op_storage_type(call), [&](auto zero) { launch_backward<decltype(zero)>(call); });
}

const op_kernel tiles = {"cuda_tiles", forward, backward, scratch_bytes};

} // namespace

extern "C" const op_kernel *const roi_pool_cuda[] = {&tiles, nullptr};
