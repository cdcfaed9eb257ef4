/* RoIAlign on CUDA, shared by roi_align (one level) and roi_align_fpn (P2..P5, all in one launch).
 *
 * Forward: a warp takes one row of bins of one region, its lanes the channels in 16-byte vectors. Weights of map rows lie in
 * shared memory; along x the warp meets the samples in order and keeps the weighted sums of the last two map columns, so each
 * pixel is read once for a row of bins, however many samples it serves.
 *
 * Backward: roi_tiles.cuh. The block makes the weights of some regions for its 8 rows and 8 columns at a time; then each
 * warp sums, for its row of pixels, the bin rows and from those the pixels. */
#ifndef KERNELS_ROI_ALIGN_CUH
#define KERNELS_ROI_ALIGN_CUH

#include "roi_bins.cuh"
#include "roi_tiles.cuh"

template <class T> struct roi_align_level {
    const T *x; /* forward */
    T *d_x;     /* backward; NULL: not wanted */
    roi_tiling tiling;
    float scale;
    bool accumulate;
};

template <class T> struct roi_align_job {
    roi_align_level<T> level[ROI_LEVELS];
    int levels; /* 1, or ROI_LEVELS: then roi_level chooses */
    float level_eps;
    roi_sampling sampling;
    int images, channels;
    const float *rois;
    row_count rows;
    T *y;              /* forward */
    const T *d_y;      /* backward; NULL: zero */
    roi_place *places; /* backward: scratch */
    int batch;         /* backward: regions whose weights are made together */
};

enum { ROI_ALIGN_MAX_WARPS = 8 };

/* ---- forward -------------------------------------------------------------------------------------------- */

/* What a warp notes of its row of bins in shared memory: the samples on y, and up to 32 rows of the map with their weights. */
struct roi_bin_row {
    roi_axis y;
    int p, first, end; /* samples first .. end - 1 of bin p */
    int low, chunks;   /* first map row that has a weight; chunks of 32 rows to the last one */
    int height, width;
    int pixel[32]; /* first one of the map row */
    float weight[32];
};

/* The whole warp calls it. */
__device__ inline void roi_find_rows(roi_bin_row *r, roi_axis y, int p, int height, int width) {
    int first, end, lowest = INT32_MAX, highest = -1;
    roi_samples_within(y, p, -1.0f, (float)height, &first, &end);
#pragma unroll 1
    for (int i = first + (int)threadIdx.x % 32; i < end; i += 32) {
        int low, high;
        float upper;
        if (!roi_neighbours(roi_sample_at(y, p, i), height, &low, &high, &upper)) continue;
        lowest = low < lowest ? low : lowest;
        highest = high > highest ? high : highest;
    }
    lowest = -warp_largest(-lowest);
    highest = warp_largest(highest);
    __syncwarp(); /* the row before has been read */
    if (threadIdx.x % 32 == 0) {
        r->y = y;
        r->p = p;
        r->first = first;
        r->end = end;
        r->low = lowest;
        r->chunks = highest < 0 ? 0 : (highest - lowest) / 32 + 1;
        r->height = height;
        r->width = width;
    }
    __syncwarp();
}

/* Sets pixel and weight to the rows of a chunk that have a weight; returns how many. The whole warp calls it. */
__device__ inline int roi_fill_rows(roi_bin_row *r, int chunk) {
    int lane = (int)threadIdx.x % 32, row = r->low + 32 * chunk + lane;
    float sum = 0;
#pragma unroll 1
    for (int i = r->first; i < r->end; i++) {
        int low, high;
        float upper;
        if (!roi_neighbours(roi_sample_at(r->y, r->p, i), r->height, &low, &high, &upper)) continue;
        sum += (low == row ? 1.0f - upper : 0.0f) + (high == row ? upper : 0.0f);
    }
    unsigned used = __ballot_sync(WARP_ALL, sum != 0);
    __syncwarp(); /* the chunk before has been read */
    if (used >> lane & 1) {
        int at = __popc(used & ((1u << lane) - 1));
        r->pixel[at] = row * r->width;
        r->weight[at] = sum / (float)r->y.samples;
    }
    __syncwarp();
    return __popc(used);
}

/* The two map columns that were met last, summed over the rows of the bin; the next bin starts in one of them or behind. */
template <int WIDTH> struct roi_columns {
    int x[2];
    float sum[2][WIDTH];
    int chunk, count; /* which rows roi_bin_row holds, -1: none yet; how many */
};

/* Moves on to column x. `image` is moved to the lane's channels; inactive lanes have none. */
template <int WIDTH, class T>
__device__ void roi_next_column(roi_columns<WIDTH> *columns, roi_bin_row *r, const T *image, int channels,
                                bool active, int x) {
    columns->x[0] = columns->x[1];
    columns->x[1] = x;
#pragma unroll
    for (int c = 0; c < WIDTH; c++) {
        columns->sum[0][c] = columns->sum[1][c];
        columns->sum[1][c] = 0;
    }
#pragma unroll 1
    for (int chunk = 0; chunk < r->chunks; chunk++) {
        if (chunk != columns->chunk) columns->count = roi_fill_rows(r, chunk);
        columns->chunk = chunk;
        int count = active ? columns->count : 0;
#pragma unroll 4
        for (int t = 0; t < count; t++) {
            float v[WIDTH], weight = r->weight[t];
            load_floats<WIDTH>(v, image + (int64_t)(r->pixel[t] + x) * channels);
#pragma unroll
            for (int c = 0; c < WIDTH; c++) columns->sum[1][c] += weight * v[c];
        }
    }
}

/* One row of bins; `y` is its first one, moved to the lane's channels. Lanes work out up to 32 samples at a time: those of
 * several whole bins, or a part of one. */
template <int WIDTH, class T>
__device__ void roi_align_row(T *y, roi_bin_row *r, const T *image, int channels, bool active, roi_axis axis,
                              int output_size) {
    int lane = (int)threadIdx.x % 32, n = axis.samples, group = n >= 1 && n <= 32 ? 32 / n : 1;
    int lane_bin = group > 1 ? lane / n : 0, lane_sample = lane - lane_bin * n;
    float acc[WIDTH] = {}, share = 1.0f / (float)(n > 0 ? n : 1);
    roi_columns<WIDTH> columns = {{-1, -1}, {}, -1, 0};
#pragma unroll 1
    for (int q0 = 0; q0 < output_size; q0 += group) {
        int from, end, bins = group < output_size - q0 ? group : output_size - q0;
        roi_samples_within(axis, q0, -1.0f, (float)r->width, &from, &end);
#pragma unroll 1
        do {
            int low = -1, high = -1, count = end - from < 32 ? end - from : 32;
            float upper = 0;
            if (lane_bin < bins && lane_sample < count)
                roi_neighbours(roi_sample_at(axis, q0 + lane_bin, from + lane_sample), r->width, &low, &high,
                               &upper);
            from += 32;
#pragma unroll 1
            for (int b = 0; b < bins; b++) {
#pragma unroll 1
                for (int step = 0; step < 2 * count; step++) {
                    int lane_of = b * n + step / 2;
                    int x = __shfl_sync(WARP_ALL, step % 2 ? high : low, lane_of);
                    float weight = __shfl_sync(WARP_ALL, upper, lane_of);
                    weight = step % 2 ? weight : 1.0f - weight;
                    if (x < 0 || weight == 0) continue;
                    if (x != columns.x[0] && x != columns.x[1])
                        roi_next_column<WIDTH>(&columns, r, image, channels, active, x);
                    bool older = x == columns.x[0];
#pragma unroll
                    for (int c = 0; c < WIDTH; c++)
                        acc[c] += weight * share * (older ? columns.sum[0][c] : columns.sum[1][c]);
                }
                if (from < end) break; /* the bin goes on */
                if (active) store_floats<WIDTH>(y + (int64_t)(q0 + b) * channels, acc);
#pragma unroll
                for (int c = 0; c < WIDTH; c++) acc[c] = 0;
            }
        } while (from < end);
    }
}

/* A block for each region. */
template <int WIDTH, class T>
__global__ void __launch_bounds__(32 * ROI_ALIGN_MAX_WARPS, 2)
    roi_align_forward_kernel(roi_align_job<T> job) {
    SHARED_ARRAY(roi_bin_row, bin_rows, ROI_ALIGN_MAX_WARPS);
    int64_t region = (int64_t)blockIdx.x;
    if (region >= valid_rows(job.rows)) return;
    const float *roi = job.rois + 5 * region;
    const roi_align_level<T> &level = job.level[job.levels > 1 ? roi_level(roi, job.level_eps) : 0];
    const int bins = job.sampling.output_size, channels = job.channels, warp = (int)threadIdx.x / 32;
    const int height = level.tiling.height, width = level.tiling.width;
    const int chunks = (channels + 32 * WIDTH - 1) / (32 * WIDTH), warps = (int)blockDim.x / 32;
    roi_axis x_axis = roi_axis_make(roi, 1, level.scale, job.sampling);
#pragma unroll 1
    for (int item = warp; item < bins * chunks; item += warps) {
        int p = item / chunks, channel = (item % chunks * 32 + (int)threadIdx.x % 32) * WIDTH;
        roi_find_rows(&bin_rows[warp], roi_axis_make(roi, 0, level.scale, job.sampling), p, height, width);
        roi_align_row<WIDTH>(job.y + (region * bins + p) * bins * channels + channel, &bin_rows[warp],
                             level.x + (int64_t)roi[0] * height * width * channels + channel, channels,
                             channel < channels, x_axis, bins);
    }
}

/* ---- backward ------------------------------------------------------------------------------------------- */

template <class T> __global__ void roi_align_places_kernel(roi_align_job<T> job) {
    int64_t rows = valid_rows(job.rows);
    for (int64_t i = global_thread(); i < rows; i += global_threads()) {
        const float *roi = job.rois + 5 * i;
        int level = job.levels > 1 ? roi_level(roi, job.level_eps) : 0;
        roi_place place = {level * job.images + (int)roi[0], 0, 0};
        unsigned *ranges[2] = {&place.rows, &place.cols};
        for (int axis = 0; axis < 2; axis++) {
            const roi_tiling &t = job.level[level].tiling;
            roi_axis a = roi_axis_make(roi, axis, job.level[level].scale, job.sampling);
            float end = a.start + a.bin * (float)job.sampling.output_size;
            /* By 2 pixels more: neighbours, and the rounding of samples. */
            *ranges[axis] =
                roi_tile_range(fminf(a.start, end) - 2, fmaxf(a.start, end) + 2, axis ? t.width : t.height);
        }
        job.places[i] = place;
    }
}

/* weights[8]: of one bin at pixels first .. first + 7 of an axis. */
__device__ inline void roi_fill_weights(float *weights, roi_axis axis, int bin, int first, int size) {
    const float zeros[4] = {};
    store_floats<4>(weights, zeros);
    store_floats<4>(weights + 4, zeros);
    int i, end;
    roi_samples_within(axis, bin, (float)(first - 1), (float)(first + ROI_TILE), &i, &end);
    float share = 1.0f / (float)(axis.samples > 0 ? axis.samples : 1);
#pragma unroll 1
    for (; i < end; i++) {
        int low, high;
        float upper;
        if (!roi_neighbours(roi_sample_at(axis, bin, i), size, &low, &high, &upper)) continue;
        low -= first;
        high -= first;
        if (low >= 0 && low < ROI_TILE) weights[low] += (1.0f - upper) * share;
        if (high >= 0 && high < ROI_TILE) weights[high] += upper * share;
    }
}

template <int WIDTH> using roi_pixels = float[ROI_TILE][WIDTH];

/* Adds one region to the pixels of the warp's row. y_weights, x_weights: [P,8]; d_y: of the region, moved to the lane's
 * channels. Two bins are loaded together. */
template <int WIDTH, class T>
__device__ void roi_gather(roi_pixels<WIDTH> &acc, const T *d_y, const float *y_weights,
                           const float *x_weights, int row, int output_size, int channels, bool active) {
    int lane = (int)threadIdx.x % 32;
    for (int p0 = 0; p0 < output_size; p0 += 32) {
        bool used = p0 + lane < output_size && y_weights[(p0 + lane) * ROI_TILE + row] != 0;
        unsigned rows = __ballot_sync(WARP_ALL, used);
        for (int q0 = 0; rows && q0 < output_size; q0 += 32) {
            used = false;
            for (int x = 0; q0 + lane < output_size && x < ROI_TILE; x++)
                used = used || x_weights[(q0 + lane) * ROI_TILE + x] != 0;
            unsigned cols = __ballot_sync(WARP_ALL, used);
            while (active && cols) {
                int q[2] = {q0 + __ffs((int)cols) - 1, -1};
                cols &= cols - 1;
                if (cols) q[1] = q0 + __ffs((int)cols) - 1;
                cols &= cols - 1;
                float sum[2][WIDTH] = {};
#pragma unroll 1
                for (unsigned left = rows; left; left &= left - 1) {
                    int p = p0 + __ffs((int)left) - 1;
                    float weight = y_weights[p * ROI_TILE + row];
                    packed<T, WIDTH> v[2];
#pragma unroll
                    for (int i = 0; i < 2; i++)
                        if (q[i] >= 0)
                            v[i] = *reinterpret_cast<const packed<T, WIDTH> *>(
                                d_y + (unsigned)(p * output_size + q[i]) * (unsigned)channels);
#pragma unroll
                    for (int i = 0; i < 2; i++) {
                        if (q[i] < 0) continue;
#pragma unroll
                        for (int c = 0; c < WIDTH; c++) sum[i][c] += weight * to_float(v[i].v[c]);
                    }
                }
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    if (q[i] < 0) continue;
#pragma unroll
                    for (int x = 0; x < ROI_TILE; x++) {
                        float weight = x_weights[q[i] * ROI_TILE + x];
                        if (weight == 0) continue;
#pragma unroll
                        for (int c = 0; c < WIDTH; c++) acc[x][c] += weight * sum[i][c];
                    }
                }
            }
        }
    }
}

/* A block for each tile and chunk of channels; the coarse levels, whose tiles have the longest lists, come first. */
template <int WIDTH, class T>
__global__ void __launch_bounds__(ROI_TILE_THREADS, 2) roi_align_backward_kernel(roi_align_job<T> job) {
    SHARED_ARRAY(int, list, ROI_WINDOW);
    SHARED_ARRAY(int, counts, ROI_TILE_WARPS);
    DYNAMIC_SHARED(float, weights); /* [batch, axis, P, 8] */
    int level_index = 0, row = (int)threadIdx.x / 32, bins = job.sampling.output_size,
        channels = job.channels;
    while (level_index < job.levels - 1 &&
           (!job.level[level_index].d_x || blockIdx.x < job.level[level_index].tiling.first))
        level_index++;
    const roi_align_level<T> &level = job.level[level_index];
    const unsigned chunks = (unsigned)((channels + 32 * WIDTH - 1) / (32 * WIDTH));
    roi_tile tile = roi_tile_of(level.tiling, blockIdx.x - level.tiling.first, chunks);
    int channel = (tile.chunk * 32 + (int)threadIdx.x % 32) * WIDTH,
        map = level_index * job.images + tile.image;
    bool active = channel < channels;
    roi_pixels<WIDTH> acc = {};
    int64_t rows = job.d_y ? valid_rows(job.rows) : 0;
    for (int64_t window = 0; window < rows; window += ROI_WINDOW) {
        int n = roi_tile_collect(list, counts, job.places, window, rows, map, tile);
        for (int first = 0; first < n; first += job.batch) {
            int batch = n - first < job.batch ? n - first : job.batch;
            __syncthreads(); /* the last batch's weights have been read */
            for (int i = (int)threadIdx.x; i < batch * 2 * bins; i += ROI_TILE_THREADS) {
                int pair = i / bins, axis = pair % 2;
                const float *roi = job.rois + 5 * (window + list[first + pair / 2]);
                roi_fill_weights(weights + i * ROI_TILE, roi_axis_make(roi, axis, level.scale, job.sampling),
                                 i % bins, (axis ? tile.col : tile.row) * ROI_TILE,
                                 axis ? level.tiling.width : level.tiling.height);
            }
            __syncthreads();
            for (int k = 0; k < batch; k++) {
                const float *y_weights = weights + 2 * k * bins * ROI_TILE;
                roi_gather<WIDTH>(acc,
                                  job.d_y + (window + list[first + k]) * bins * bins * channels + channel,
                                  y_weights, y_weights + bins * ROI_TILE, row, bins, channels, active);
            }
        }
    }
    int y = tile.row * ROI_TILE + row, x = tile.col * ROI_TILE;
    if (!active || y >= level.tiling.height) return;
    T *out = level.d_x +
             (((int64_t)tile.image * level.tiling.height + y) * level.tiling.width + x) * channels + channel;
#pragma unroll
    for (int i = 0; i < ROI_TILE; i++) {
        if (x + i >= level.tiling.width) break;
        float old[WIDTH] = {};
        if (level.accumulate) load_floats<WIDTH>(old, out + (int64_t)i * channels);
#pragma unroll
        for (int c = 0; c < WIDTH; c++) acc[i][c] += old[c];
        store_floats<WIDTH>(out + (int64_t)i * channels, acc[i]);
    }
}

/* ---- launches: the job comes with levels' maps and scales, level_eps and sampling ------------------------------- */

template <class T> void roi_align_describe(roi_align_job<T> *job, const op_call *call, const tensor *rois) {
    for (int i = 0; i < job->levels; i++) job->level[i].tiling = roi_tiling_of(call->in[i]);
    job->images = (int)call->in[0]->shape[0];
    job->channels = (int)call->in[0]->shape[3];
    job->rois = tensor_f32(rois);
    job->rows = row_count_of(rois);
}

template <class T>
void roi_align_cuda_forward(roi_align_job<T> job, const op_call *call, const tensor *rois) {
    roi_align_describe(&job, call, rois);
    job.y = tensor_as<T>(call->out[0]);
    bool wide = is_packable(job.y, job.channels);
    for (int i = 0; i < job.levels; i++) {
        job.level[i].x = tensor_as<T>(call->in[i]);
        wide = wide && is_packable(job.level[i].x, 0);
    }
    int width = wide ? vector_width<T> : 1;
    int64_t items = (job.channels + 32 * width - 1) / (32 * width) * job.sampling.output_size,
            rounds = (items + ROI_ALIGN_MAX_WARPS - 1) / ROI_ALIGN_MAX_WARPS;
    if (items == 0) return;
    unsigned threads = 32 * (unsigned)((items + rounds - 1) / rounds);
    auto kernel = roi_align_forward_kernel<1, T>;
    if (wide) kernel = roi_align_forward_kernel<vector_width<T>, T>;
    LAUNCH(kernel, (unsigned)rois->shape[0], threads, 0, call->stream, job);
}

template <class T>
void roi_align_cuda_backward(roi_align_job<T> job, const op_call *call, const tensor *rois) {
    roi_align_describe(&job, call, rois);
    job.d_y = tensor_as<T>(call->d_out[0]);
    job.places = static_cast<roi_place *>(call->scratch);
    bool wide = is_packable(job.d_y, job.channels);
    for (int i = 0; i < job.levels; i++) {
        job.level[i].d_x = tensor_as<T>(call->d_in[i]);
        job.level[i].accumulate = call->accumulate[i];
        wide = wide && is_packable(job.level[i].d_x, 0);
    }
    int width = wide ? vector_width<T> : 1, bins = job.sampling.output_size;
    int64_t chunks = (job.channels + 32 * width - 1) / (32 * width), blocks = 0;
    for (int i = job.levels - 1; i >= 0; i--) {
        roi_tiling *t = &job.level[i].tiling;
        t->first = (unsigned)blocks;
        if (job.level[i].d_x) blocks += (int64_t)t->rows * t->cols * job.images * chunks;
    }
    if (blocks == 0) return;
    job.batch = bins < 7 ? 16 : bins > 112 ? 1 : 112 / bins;
    LAUNCH(roi_align_places_kernel<T>, job.d_y ? cuda_grid(rois->shape[0], 128) : 0, 128, 0, call->stream,
           job);
    auto kernel = roi_align_backward_kernel<1, T>;
    if (wide) kernel = roi_align_backward_kernel<vector_width<T>, T>;
    LAUNCH(kernel, (unsigned)blocks, ROI_TILE_THREADS,
           (size_t)(job.batch * 2 * bins * ROI_TILE) * sizeof(float), call->stream, job);
}

#endif
