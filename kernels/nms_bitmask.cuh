/* Greedy suppression within many segments at once (image and level), each sorted by rank; all on the device.
 *
 * Three launches for every 2048 boxes of the longest segment that there may be (mostly one round in all):
 *   mask    which boxes of each tile of 64 overlap a box behind them: a word for each pair of tile and box, upper triangle only
 *   reduce  a block per segment, a warp per tile: tile by tile, its warp decides in registers (nms_resolve_tile), then all boxes
 *           behind ask their word of that tile. One barrier per tile; words are loaded a tile ahead.
 *   sweep   boxes behind the 2048 against those that stay (only where there are some) */
#ifndef KERNELS_NMS_BITMASK_CUH
#define KERNELS_NMS_BITMASK_CUH

#include "nms_overlap.cuh"
#include "scratch_cutter.cuh"

constexpr int NMS_CHUNK_TILES = 32, NMS_CHUNK = NMS_CHUNK_TILES * NMS_TILE, NMS_MASK_THREADS = 256,
              NMS_SWEEP_THREADS = 256, NMS_SWEEP_BLOCKS = 256;

struct nms_batch {
    unsigned segments;
    int64_t stride; /* of a segment's rows: its capacity, rounded up to a multiple of 64 */
    int64_t max_keep;
    float threshold;

    /* What the caller has filled in. */
    const int32_t *counts;  /* [segments] */
    const float4 *boxes;    /* [segments, stride] by rank */
    const int32_t *groups;  /* [segments, stride]: only equal ones suppress each other; NULL: all */
    const uint64_t *orders; /* [segments, stride] copied for the boxes that stay */
    uint32_t *dropped;      /* [segments, stride / 32] bits of boxes that are out before; changed */

    /* Results. */
    int32_t *n_kept;       /* [segments], at most max_keep */
    int32_t *kept_rank;    /* [segments, stride] ascending */
    uint64_t *kept_orders; /* [segments, stride] */

    uint64_t *mask; /* [segments, tiles, 64 * tiles] tiles of a chunk */
    uint64_t *stay; /* [segments, NMS_CHUNK_TILES] of the last chunk */

    __device__ float4 box(unsigned segment, int64_t rank) const { return boxes[segment * stride + rank]; }
    __device__ int32_t group(unsigned segment, int64_t rank) const {
        return groups ? groups[segment * stride + rank] : 0;
    }
    __device__ uint32_t *dropped_word(unsigned segment, int64_t rank) const {
        return dropped + (segment * stride + rank) / 32;
    }
};

inline int64_t nms_stride(int64_t capacity) {
    return capacity > 0 ? (capacity + NMS_TILE - 1) / NMS_TILE * NMS_TILE : NMS_TILE;
}

inline int nms_chunk_tiles(const nms_batch &batch) {
    int64_t tiles = batch.stride / NMS_TILE;
    return (int)(tiles < NMS_CHUNK_TILES ? tiles : NMS_CHUNK_TILES);
}

/* Scratch of what only these kernels know, and the results; segments and stride are set. */
inline void nms_batch_cut(nms_batch *batch, scratch_cutter *scratch) {
    int64_t rows = batch->segments * batch->stride, tiles = nms_chunk_tiles(*batch);
    batch->n_kept = scratch->take<int32_t>(batch->segments);
    batch->kept_rank = scratch->take<int32_t>(rows);
    batch->kept_orders = scratch->take<uint64_t>(rows);
    batch->mask = scratch->take<uint64_t>(batch->segments * tiles * tiles * NMS_TILE);
    batch->stay = scratch->take<uint64_t>((int64_t)batch->segments * NMS_CHUNK_TILES);
}

/* 64 boxes in shared memory, for threads that ask them all. */
struct nms_tile {
    float4 *boxes;
    float *areas;
    int32_t *groups;

    /* Threads 0..63 bring `count` boxes, the rest is empty. The block waits before and behind. */
    __device__ void load(const nms_batch &batch, unsigned segment, int64_t rank, int64_t count) const {
        unsigned i = threadIdx.x;
        if (i >= NMS_TILE) return;
        bool there = i < count;
        boxes[i] = there ? batch.box(segment, rank + i) : make_float4(0, 0, 0, 0);
        areas[i] = nms_area(boxes[i]);
        groups[i] = there ? batch.group(segment, rank + i) : 0;
    }
    template <bool GROUPS>
    __device__ bool covers(int i, float4 box, float area, int32_t group, float threshold) const {
        return (!GROUPS || groups[i] == group) && nms_overlaps(boxes[i], areas[i], box, area, threshold);
    }
};

#define NMS_TILE_ARRAY(name)                                                                                 \
    SHARED_ARRAY(float4, name##_boxes, NMS_TILE);                                                            \
    SHARED_ARRAY(float, name##_areas, NMS_TILE);                                                             \
    SHARED_ARRAY(int32_t, name##_groups, NMS_TILE);                                                          \
    nms_tile name = {name##_boxes, name##_areas, name##_groups}

/* A block takes one tile of the chunk from rank `first` on, and as many boxes as it has threads. */
template <bool GROUPS, int THREADS>
__global__ void __launch_bounds__(THREADS) nms_mask_kernel(nms_batch batch, int64_t first, unsigned tiles) {
    NMS_TILE_ARRAY(tile);
    unsigned columns = (tiles * NMS_TILE + blockDim.x - 1) / blockDim.x;
    unsigned segment = blockIdx.x / (tiles * columns), place = blockIdx.x % (tiles * columns);
    int number = (int)(place / columns), column = (int)(place % columns * blockDim.x),
        j = column + (int)threadIdx.x;
    int count = (int)min(batch.counts[segment] - first, (int64_t)tiles * NMS_TILE);
    int in_front = number * NMS_TILE;
    if (column >= count || in_front >= column + (int)blockDim.x) return;
    tile.load(batch, segment, first + in_front, count - in_front);
    __syncthreads();
    if (j >= count || j < in_front) return;
    float4 box = batch.box(segment, first + j);
    float area = nms_area(box);
    int32_t group = batch.group(segment, first + j);
    int before = min(j - in_front, NMS_TILE);
    uint64_t bits = 0;
#pragma unroll
    for (int i = 0; i < NMS_TILE; i++)
        bits |= (uint64_t)tile.covers<GROUPS>(i, box, area, group, batch.threshold) << i;
    if (before < NMS_TILE) bits &= ((uint64_t)1 << before) - 1;
    batch.mask[((int64_t)segment * tiles + number) * tiles * NMS_TILE + j] = bits;
}

/* What a lane of a warp of nms_reduce_kernel knows of its two boxes, which are 32 apart. */
struct nms_pair {
    uint64_t by_low, by_high; /* boxes of one tile that overlap them */

    __device__ static nms_pair load(const uint64_t *words, int low, int count) {
        return {low < count ? words[low] : 0, low + 32 < count ? words[low + 32] : 0};
    }
};

/* A block of `tiles` warps per segment. */
template <int MOST_THREADS>
__global__ void __launch_bounds__(MOST_THREADS) nms_reduce_kernel(nms_batch batch, int64_t first, int tiles) {
    SHARED_ARRAY(uint64_t, stay, NMS_CHUNK_TILES);
    unsigned segment = blockIdx.x;
    int warp = (int)threadIdx.x / 32, low = warp * NMS_TILE + (int)threadIdx.x % 32;
    int count = (int)min(batch.counts[segment] - first, (int64_t)tiles * NMS_TILE);
    int64_t before = first > 0 ? batch.n_kept[segment] : 0, kept = before;
    if (first > 0 && (count <= 0 || before >= batch.max_keep)) return;
    int used = count > 0 ? (count + NMS_TILE - 1) / NMS_TILE : 0;
    const uint64_t *mask = batch.mask + (int64_t)segment * tiles * tiles * NMS_TILE;
    int64_t row = (int64_t)tiles * NMS_TILE;
    const uint32_t *dropped = batch.dropped_word(segment, first + warp * NMS_TILE);
    bool gone_low = low >= count || (dropped[0] >> threadIdx.x % 32 & 1u),
         gone_high = low + 32 >= count || (dropped[1] >> threadIdx.x % 32 & 1u);
    if (threadIdx.x < NMS_CHUNK_TILES) stay[threadIdx.x] = 0;
    __syncthreads();
    nms_pair next = nms_pair::load(mask, low, count);
    for (int t = 0; t < used && kept < batch.max_keep; t++) {
        nms_pair now = next;
        if (t + 1 < used && t < warp) next = nms_pair::load(mask + (t + 1) * row, low, count);
        if (t == warp) {
            uint64_t word = nms_resolve_tile(now.by_low, now.by_high, gone_low, gone_high);
            if (threadIdx.x % 32 == 0) stay[t] = word;
        }
        __syncthreads();
        uint64_t word = stay[t];
        gone_low |= (now.by_low & word) != 0;
        gone_high |= (now.by_high & word) != 0;
        kept += __popcll(word);
    }
    if (threadIdx.x < NMS_CHUNK_TILES)
        batch.stay[(int64_t)segment * NMS_CHUNK_TILES + threadIdx.x] = stay[threadIdx.x];
    if (threadIdx.x == 0) batch.n_kept[segment] = (int32_t)min(kept, batch.max_keep);
    int64_t place = before;
    for (int t = 0; t < warp; t++) place += __popcll(stay[t]);
    for (int half = 0; half < 2; half++) {
        int bit = (int)threadIdx.x % 32 + 32 * half;
        int64_t at = place + __popcll(stay[warp] & ((1ull << bit) - 1)), rank = first + low + 32 * half;
        if (!(stay[warp] >> bit & 1) || at >= batch.max_keep) continue;
        batch.kept_rank[segment * batch.stride + at] = (int32_t)rank;
        batch.kept_orders[segment * batch.stride + at] = batch.orders[segment * batch.stride + rank];
    }
}

/* `blocks` per segment; a thread takes a box behind the chunk. */
template <int THREADS>
__global__ void __launch_bounds__(THREADS) nms_sweep_kernel(nms_batch batch, int64_t first, unsigned blocks) {
    NMS_TILE_ARRAY(tile);
    unsigned segment = blockIdx.x / blocks;
    int64_t count = batch.counts[segment], step = (int64_t)blocks * THREADS;
    if (batch.n_kept[segment] >= batch.max_keep) return;
    for (int64_t start = first + NMS_CHUNK + (int64_t)(blockIdx.x % blocks) * THREADS; start < count;
         start += step) {
        int64_t rank = start + threadIdx.x, mine = rank < count ? rank : start;
        float4 box = batch.box(segment, mine);
        float area = nms_area(box);
        int32_t group = batch.group(segment, mine);
        bool gone = false;
        for (int t = 0; t < NMS_CHUNK_TILES; t++) {
            uint64_t word = batch.stay[(int64_t)segment * NMS_CHUNK_TILES + t];
            if (!word) continue;
            __syncthreads();
            tile.load(batch, segment, first + t * NMS_TILE, NMS_TILE);
            __syncthreads();
            for (; word && !gone; word &= word - 1)
                gone = tile.covers<true>(__ffsll((long long)word) - 1, box, area, group, batch.threshold);
        }
        uint32_t bits = __ballot_sync(WARP_ALL, gone);
        if (threadIdx.x % 32 == 0 && rank < count) *batch.dropped_word(segment, rank) |= bits;
    }
}

/* Rows behind a segment's max_keep or last box are left as they are. */
inline void nms_batch_run(const nms_batch &batch, device_stream *stream) {
    unsigned tiles = (unsigned)nms_chunk_tiles(batch),
             sweep_blocks = cuda_grid(batch.stride, NMS_SWEEP_THREADS);
    unsigned mask_threads = min(tiles * NMS_TILE, (unsigned)NMS_MASK_THREADS);
    unsigned columns = (tiles * NMS_TILE + mask_threads - 1) / mask_threads;
    if (sweep_blocks > NMS_SWEEP_BLOCKS) sweep_blocks = NMS_SWEEP_BLOCKS;
    for (int64_t first = 0; first == 0 || first < batch.stride; first += NMS_CHUNK) {
        LAUNCH(batch.groups ? nms_mask_kernel<true, NMS_MASK_THREADS>
                            : nms_mask_kernel<false, NMS_MASK_THREADS>,
               batch.segments * tiles * columns, mask_threads, 0, stream, batch, first, tiles);
        LAUNCH(nms_reduce_kernel<NMS_CHUNK / 2>, batch.segments, tiles * 32, 0, stream, batch, first,
               (int)tiles);
        if (first + NMS_CHUNK < batch.stride)
            LAUNCH(nms_sweep_kernel<NMS_SWEEP_THREADS>, batch.segments * sweep_blocks, NMS_SWEEP_THREADS, 0,
                   stream, batch, first, sweep_blocks);
    }
}

#endif
