/* Sorts many lists at once. What is sorted is an `order`: a key of 32 bits above an index of 32 bits, so all are different and
 * any way of sorting gives the same result: equal keys by rising index.
 *
 * Tiles of 2048 are sorted in shared memory (bitonic); where a list may be longer, runs are merged, each element finding its
 * place by a binary search in the neighbouring run. How many merges there are follows from the capacity. */
#ifndef KERNELS_SEGMENT_SORT_CUH
#define KERNELS_SEGMENT_SORT_CUH

#include "cuda_common.cuh"

/* ---- orders --------------------------------------------------------------------------------------------- */

/* As radix_key_descending: ascending keys are descending floats; both zeros are equal, NaN comes last. */
__device__ inline uint32_t order_key_descending(float value) {
    if (value != value) return UINT32_MAX;
    uint32_t bits = __float_as_uint(value == 0.0f ? 0.0f : value);
    return bits & 0x80000000u ? bits : ~(bits | 0x80000000u);
}

__device__ inline uint64_t order_make(uint32_t key, uint32_t index) {
    return (uint64_t)key << 32 | index;
}
__device__ inline uint32_t order_key(uint64_t order) {
    return (uint32_t)(order >> 32);
}
__device__ inline int32_t order_index(uint64_t order) {
    return (int32_t)(uint32_t)order;
}

/* ---- lists ---------------------------------------------------------------------------------------------- */

struct sort_segments {
    unsigned segments;
    int64_t capacity;      /* of one list, at most 2^31 - 1 */
    int64_t stride;        /* list s starts at s * stride, */
    const int32_t *first;  /* or at first[s], if this is not NULL */
    const int32_t *counts; /* [segments] */

    __device__ int64_t start(unsigned segment) const { return first ? first[segment] : segment * stride; }
};

constexpr int SORT_TILE = 2048, SORT_SMALLEST_TILE = 64, SORT_MERGE_THREADS = 256, SORT_MERGE_BLOCKS = 64;

/* `size` (a power of two, at least 64) keys by size / 2 or more threads, a pair each; a warp's pairs at a distance of up to 32
 * lie within the same 64 keys, so then only the warp waits. */
__device__ inline void sort_bitonic(uint64_t *keys, unsigned size) {
    for (unsigned run = 2; run <= size; run *= 2) {
        for (unsigned distance = run / 2; distance > 0; distance /= 2) {
            unsigned t = threadIdx.x, low = (t & ~(distance - 1)) * 2 | (t & (distance - 1)),
                     high = low | distance, next = distance > 1 ? distance / 2 : run;
            if (high < size) {
                uint64_t a = keys[low], b = keys[high];
                if ((a > b) == !(low & run)) {
                    keys[low] = b;
                    keys[high] = a;
                }
            }
            if (distance > 32 || next > 32)
                __syncthreads();
            else
                __syncwarp();
        }
    }
}

/* A block sorts a tile in its place. */
template <int THREADS>
__global__ void __launch_bounds__(THREADS)
    segment_sort_tile_kernel(uint64_t *data, sort_segments list, unsigned tiles, int tile_size) {
    DYNAMIC_SHARED(uint64_t, keys);
    unsigned segment = blockIdx.x / tiles;
    int64_t first = (int64_t)(blockIdx.x % tiles) * tile_size, left = list.counts[segment] - first;
    if (left <= 0) return;
    unsigned count = (unsigned)min(left, (int64_t)tile_size), size = SORT_SMALLEST_TILE;
    while (size < count) size *= 2;
    uint64_t *tile = data + list.start(segment) + first;
    for (unsigned i = threadIdx.x; i < size; i += blockDim.x) keys[i] = i < count ? tile[i] : UINT64_MAX;
    __syncthreads();
    sort_bitonic(keys, size);
    for (unsigned i = threadIdx.x; i < count; i += blockDim.x) tile[i] = keys[i];
}

/* How many of the ascending values are below `value`. */
__device__ inline int64_t count_below(const uint64_t *values, int64_t count, uint64_t value) {
    int64_t low = 0, high = count;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (values[middle] < value)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Runs of `run` (a power of two) become runs of twice that. */
template <int THREADS>
__global__ void __launch_bounds__(THREADS)
    segment_merge_kernel(uint64_t *out, const uint64_t *in, sort_segments list, unsigned blocks,
                         int64_t run) {
    unsigned segment = blockIdx.x / blocks;
    int64_t count = list.counts[segment], start = list.start(segment);
    in += start;
    out += start;
    for (int64_t i = (int64_t)(blockIdx.x % blocks) * THREADS + threadIdx.x; i < count;
         i += (int64_t)blocks * THREADS) {
        bool second = (i & run) != 0;
        int64_t own = i & ~(run - 1), other = own ^ run, length = count - other;
        length = length < 0 ? 0 : min(length, run);
        int64_t below = count_below(in + other, length, in[i]);
        out[i - (second ? run : 0) + below] = in[i];
    }
}

/* Sorts data; `spare` holds as much. Returns which of the two has the result. */
inline uint64_t *segment_sort(uint64_t *data, uint64_t *spare, const sort_segments &list,
                              device_stream *stream) {
    int tile = SORT_SMALLEST_TILE;
    while (tile < SORT_TILE && tile < list.capacity) tile *= 2;
    unsigned tiles = (unsigned)((list.capacity + tile - 1) / tile);
    LAUNCH(segment_sort_tile_kernel<SORT_TILE / 2>, list.segments * tiles, (unsigned)tile / 2,
           (size_t)tile * sizeof(uint64_t), stream, data, list, tiles, tile);
    unsigned blocks = cuda_grid(list.capacity, SORT_MERGE_THREADS);
    if (blocks > SORT_MERGE_BLOCKS) blocks = SORT_MERGE_BLOCKS;
    for (int64_t run = tile; run < list.capacity; run *= 2) {
        LAUNCH(segment_merge_kernel<SORT_MERGE_THREADS>, list.segments * blocks, SORT_MERGE_THREADS, 0,
               stream, spare, data, list, blocks, run);
        uint64_t *sorted = spare;
        spare = data;
        data = sorted;
    }
    return data;
}

#endif
