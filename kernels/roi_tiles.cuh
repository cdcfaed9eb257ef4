/* Gradients of feature maps from gradients of regions, as a gather: a block owns a tile of 8 x 8 pixels, collects the regions
 * that may touch it in rising order and sums them, so every pixel is written once and always in the same order.
 *
 * A first kernel of the op writes a roi_place for each region. What the block must hold of the list is bounded: regions are
 * collected in windows of ROI_WINDOW. */
#ifndef KERNELS_ROI_TILES_CUH
#define KERNELS_ROI_TILES_CUH

#include "cuda_common.cuh"

constexpr int ROI_TILE = 8, ROI_TILE_THREADS = 256, ROI_TILE_WARPS = ROI_TILE_THREADS / 32, ROI_WINDOW = 1024;
static_assert(ROI_TILE_WARPS == ROI_TILE, "a warp for each row of a tile");

/* Ranges of tiles, low | end << 16, of one map (level * images + image). */
struct alignas(16) roi_place {
    int map;
    unsigned rows, cols;
};

inline size_t roi_places_bytes(const tensor *rois) {
    return (size_t)rois->shape[0] * sizeof(roi_place);
}

/* Tiles that pixels floor(low) .. ceil(high) may lie in, on an axis of `size` pixels; NaN gives none. */
__device__ inline unsigned roi_tile_range(float low, float high, int size) {
    float first = floorf(low), end = ceilf(high) + 1;
    if (!(first < (float)size && end > 0)) return 0;
    int from = first > 0 ? (int)first : 0, to = end < (float)size ? (int)end : size;
    return (unsigned)(from / ROI_TILE) | (unsigned)((to + ROI_TILE - 1) / ROI_TILE) << 16;
}

__device__ inline bool roi_tile_inside(unsigned range, int tile) {
    return tile >= (int)(range & 0xffff) && tile < (int)(range >> 16);
}

/* The tiles of one map size, in the order of blocks. */
struct roi_tiling {
    int height, width;   /* of the map */
    unsigned rows, cols; /* tiles */
    unsigned first;      /* number of the first block, behind those of the other levels */
};

/* Host: tiles of `images` maps; nothing of a map may lie beyond 2^16 tiles. */
inline roi_tiling roi_tiling_of(const tensor *map) {
    int64_t rows = (map->shape[1] + ROI_TILE - 1) / ROI_TILE,
            cols = (map->shape[2] + ROI_TILE - 1) / ROI_TILE;
    CHECK(rows < 1 << 16 && cols < 1 << 16, "a map of %lld x %lld pixels", (long long)map->shape[1],
          (long long)map->shape[2]);
    return {(int)map->shape[1], (int)map->shape[2], (unsigned)rows, (unsigned)cols, 0};
}

/* What a block works on. */
struct roi_tile {
    int image, row, col; /* in tiles */
    int chunk;           /* of channels */
};

__device__ inline roi_tile roi_tile_of(const roi_tiling &t, unsigned block, unsigned chunks) {
    unsigned tile = block / chunks, line = tile / t.cols;
    return {(int)(line / t.rows), (int)(line % t.rows), (int)(tile % t.cols), (int)(block % chunks)};
}

/* Regions first .. first + ROI_WINDOW - 1 below `rows` that may touch the tile, into list[ROI_WINDOW] in rising order, counted
 * from `first`; returns how many. All threads of the block call it; `counts` is shared memory too. */
__device__ inline int roi_tile_collect(int *list, int (&counts)[ROI_TILE_WARPS], const roi_place *places,
                                       int64_t first, int64_t rows, int map, const roi_tile &tile) {
    constexpr int each = ROI_WINDOW / ROI_TILE_THREADS;
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, own = 0;
    unsigned touched[each];
#pragma unroll
    for (int i = 0; i < each; i++) {
        int64_t r = first + (warp * each + i) * 32 + lane;
        bool touches = false;
        if (r < rows) {
            roi_place place = places[r];
            touches = place.map == map && roi_tile_inside(place.rows, tile.row) &&
                      roi_tile_inside(place.cols, tile.col);
        }
        touched[i] = __ballot_sync(WARP_ALL, touches);
        own += __popc(touched[i]);
    }
    __syncthreads(); /* the last window's list and counts have been read */
    if (lane == 0) counts[warp] = own;
    __syncthreads();
    int at = 0, total = 0;
    for (int w = 0; w < ROI_TILE_WARPS; w++) {
        if (w == warp) at = total;
        total += counts[w];
    }
#pragma unroll
    for (int i = 0; i < each; i++) {
        if (touched[i] >> lane & 1)
            list[at + __popc(touched[i] & ((1u << lane) - 1))] = (warp * each + i) * 32 + lane;
        at += __popc(touched[i]);
    }
    __syncthreads();
    return total;
}

#endif
