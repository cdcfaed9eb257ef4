/* The k largest finite floats of many rows at once (each map of each image), as orders (segment_sort.cuh): equal floats by rising
 * index. What comes out is not sorted yet.
 *
 * Five launches: clear; three counting passes over the digits of the keys (11, 11 and 10 bits), spread over all rows in chunks
 * of 4096 floats; compact. Each pass first finds, from the counts of the one before, the digit of the k-th key. The counts of a
 * chunk in the last pass stay: they tell how many floats that equal the k-th lie in the chunks before, and only as many as
 * belong to the k are taken. Time depends on the number of floats, hardly on their values. */
#ifndef KERNELS_RADIX_TOPK_CUH
#define KERNELS_RADIX_TOPK_CUH

#include "block_rank.cuh"
#include "scratch_cutter.cuh"
#include "segment_sort.cuh"

constexpr int TOPK_MAX_MAPS = 8, TOPK_THREADS = 256, TOPK_ITEMS = 16, TOPK_CHUNK = TOPK_THREADS * TOPK_ITEMS,
              TOPK_BINS = 2048, TOPK_LAST_BINS = 1024, TOPK_PASSES = 3;

/* Segment s is map s % maps of image s / maps. */
struct topk_batch {
    unsigned maps, images;
    const float *values[TOPK_MAX_MAPS]; /* [images, sizes] */
    int32_t sizes[TOPK_MAX_MAPS], k[TOPK_MAX_MAPS];
    int64_t stride;    /* of `orders`: at least the largest k */
    uint64_t *orders;  /* [segments, stride] */
    int32_t *n_orders; /* [segments]: k, or fewer where fewer floats are finite */

    int32_t first_chunk[TOPK_MAX_MAPS + 1]; /* of an image's */
    int32_t *counts;                        /* [segments, TOPK_PASSES, TOPK_BINS] */
    int32_t *last_counts;                   /* [images, chunks, TOPK_LAST_BINS] */
    struct topk_state *states;              /* [segments, TOPK_PASSES] */
    int32_t *cursors;                       /* [segments] places taken for keys below the k-th */

    unsigned segments() const { return maps * images; }
    __device__ int32_t *counts_of(unsigned segment, int pass) const {
        return counts + ((int64_t)segment * TOPK_PASSES + pass) * TOPK_BINS;
    }
};

/* What is known of the k-th key after a pass. */
struct topk_state {
    uint32_t prefix; /* its leading digits, the rest 0 */
    int32_t rank;    /* its rank among the keys with that prefix, from 1 */
    int32_t k;       /* how many are wanted; 0: none, and the rest is not set */
};

/* Sets chunks and cuts scratch; maps, images, sizes and k are set. */
inline void topk_batch_cut(topk_batch *batch, scratch_cutter *scratch) {
    batch->first_chunk[0] = 0;
    for (unsigned m = 0; m < batch->maps; m++)
        batch->first_chunk[m + 1] =
            batch->first_chunk[m] + (int32_t)(((int64_t)batch->sizes[m] + TOPK_CHUNK - 1) / TOPK_CHUNK);
    int64_t chunks = (int64_t)batch->images * batch->first_chunk[batch->maps];
    batch->counts = scratch->take<int32_t>((int64_t)batch->segments() * TOPK_PASSES * TOPK_BINS);
    batch->last_counts = scratch->take<int32_t>(chunks * TOPK_LAST_BINS);
    batch->states = scratch->take<topk_state>((int64_t)batch->segments() * TOPK_PASSES);
    batch->cursors = scratch->take<int32_t>(batch->segments());
}

/* The chunk of a block. */
struct topk_chunk {
    unsigned segment, map;
    int number, size; /* in its segment; of the segment */
    const float *values;
    int32_t *last_counts;

    __device__ topk_chunk(const topk_batch &batch) {
        unsigned of_image = (unsigned)batch.first_chunk[batch.maps], image = blockIdx.x / of_image;
        int place = (int)(blockIdx.x % of_image);
        map = 0;
        while (place >= batch.first_chunk[map + 1]) map++;
        segment = image * batch.maps + map;
        number = place - batch.first_chunk[map];
        size = batch.sizes[map];
        values = batch.values[map] + (int64_t)image * size;
        last_counts = batch.last_counts + (int64_t)blockIdx.x * TOPK_LAST_BINS;
    }

    /* Number of thread's item i. */
    __device__ uint32_t index(int i) const {
        return (uint32_t)number * TOPK_CHUNK + (uint32_t)i * TOPK_THREADS + threadIdx.x;
    }
    /* All loads are on their way before the first is used; NaN behind the end. */
    __device__ void load(float (&items)[TOPK_ITEMS]) const {
#pragma unroll
        for (int i = 0; i < TOPK_ITEMS; i++)
            items[i] =
                size - number * TOPK_CHUNK > i * TOPK_THREADS + (int)threadIdx.x ? values[index(i)] : NAN;
    }
};

__device__ inline bool topk_takes(float value) {
    return fabsf(value) < INFINITY;
}

__device__ constexpr int topk_shift(int pass) {
    return pass == 0 ? 21 : pass == 1 ? 10 : 0;
}
__device__ constexpr int topk_bins(int pass) {
    return pass == 2 ? TOPK_LAST_BINS : TOPK_BINS;
}
/* Bits of a key that are known before a pass. */
__device__ constexpr uint32_t topk_known(int pass) {
    return pass == 0 ? 0 : ~(uint32_t)0 << topk_shift(pass - 1);
}

/* The block finds the digit of the k-th key in the counts of pass DONE; every thread gets the state after it. */
template <int DONE> __device__ topk_state topk_advance(const topk_batch &batch, unsigned segment, int k) {
    constexpr int own = topk_bins(DONE) / TOPK_THREADS;
    SHARED_ARRAY(topk_state, found, 1);
    const int32_t *counts = batch.counts_of(segment, DONE) + threadIdx.x * own;
    topk_state state = {0, k, k};
    if (DONE > 0) state = batch.states[(int64_t)segment * TOPK_PASSES + DONE - 1];
    int sum = 0, total;
    for (int b = 0; b < own; b++) sum += counts[b];
    int below = block_sum_before<TOPK_THREADS>(sum, &total);
    if (DONE == 0) state.k = state.rank = min(k, total);
    if (threadIdx.x == 0) *found = state;
    __syncthreads();
    if (state.k > 0 && below < state.rank && state.rank <= below + sum) {
        int bin = 0;
        for (; below + counts[bin] < state.rank; bin++) below += counts[bin];
        state.rank -= below;
        state.prefix |= (uint32_t)((int)threadIdx.x * own + bin) << topk_shift(DONE);
        *found = state;
    }
    __syncthreads();
    return *found;
}

template <int THREADS>
__global__ void __launch_bounds__(THREADS) topk_clear_kernel(topk_batch batch, unsigned segments) {
    int64_t n = (int64_t)segments * TOPK_PASSES * TOPK_BINS;
    for (int64_t i = global_thread(); i < n; i += global_threads()) batch.counts[i] = 0;
    for (int64_t i = global_thread(); i < segments; i += global_threads()) batch.cursors[i] = 0;
}

/* Counts the digits of the keys that begin like the k-th. */
template <int PASS> __global__ void __launch_bounds__(TOPK_THREADS) topk_count_kernel(topk_batch batch) {
    SHARED_ARRAY(int32_t, counts, TOPK_BINS);
    topk_chunk chunk(batch);
    topk_state state = {0, 0, 1};
    if (PASS > 0) {
        state = topk_advance<(PASS > 0 ? PASS - 1 : 0)>(batch, chunk.segment, batch.k[chunk.map]);
        if (chunk.number == 0 && threadIdx.x == 0)
            batch.states[(int64_t)chunk.segment * TOPK_PASSES + PASS - 1] = state;
    }
    if (state.k == 0) return;
    for (int b = (int)threadIdx.x; b < topk_bins(PASS); b += TOPK_THREADS) counts[b] = 0;
    __syncthreads();
    float items[TOPK_ITEMS];
    chunk.load(items);
#pragma unroll
    for (int i = 0; i < TOPK_ITEMS; i++) {
        uint32_t key = order_key_descending(items[i]);
        if (topk_takes(items[i]) && (key & topk_known(PASS)) == state.prefix)
            atomicAdd(&counts[key >> topk_shift(PASS) & (topk_bins(PASS) - 1)], 1);
    }
    __syncthreads();
    int32_t *all = batch.counts_of(chunk.segment, PASS);
    for (int b = (int)threadIdx.x; b < topk_bins(PASS); b += TOPK_THREADS) {
        if (counts[b]) atomicAdd(&all[b], counts[b]);
        if (PASS == TOPK_PASSES - 1) chunk.last_counts[b] = counts[b];
    }
}

/* Keys below the k-th go to the front in any order; of those that equal it, the first ones behind them. */
template <int THREADS> __global__ void __launch_bounds__(THREADS) topk_compact_kernel(topk_batch batch) {
    topk_chunk chunk(batch);
    topk_state state = topk_advance<TOPK_PASSES - 1>(batch, chunk.segment, 0);
    if (chunk.number == 0 && threadIdx.x == 0) batch.n_orders[chunk.segment] = state.k;
    if (state.k == 0) return;
    int bin = (int)(state.prefix & (TOPK_LAST_BINS - 1)), before = 0;
    for (int c = (int)threadIdx.x; c < chunk.number; c += THREADS)
        before += chunk.last_counts[bin - (int64_t)(chunk.number - c) * TOPK_LAST_BINS];
    before = block_sum<THREADS>(before);
    int open = min(state.rank - before, (int)chunk.last_counts[bin]); /* equals to take from this chunk */
    int below = state.k - state.rank;
    uint64_t *orders = batch.orders + chunk.segment * batch.stride;
    float items[TOPK_ITEMS];
    chunk.load(items);
#pragma unroll
    for (int i = 0; i < TOPK_ITEMS; i++) {
        uint32_t key = order_key_descending(items[i]), index = chunk.index(i);
        bool finite = topk_takes(items[i]), less = finite && key < state.prefix;
        unsigned ballot = __ballot_sync(WARP_ALL, less);
        int first = 0;
        if (ballot && threadIdx.x % 32 == 0) first = atomicAdd(&batch.cursors[chunk.segment], __popc(ballot));
        first = __shfl_sync(WARP_ALL, first, 0) + __popc(ballot & lanes_below());
        if (less) orders[first] = order_make(key, index);
        if (open <= 0) continue; /* the same for the whole block */
        bool equal = finite && key == state.prefix;
        int taken, place = block_rank<THREADS>(equal, &taken);
        if (equal && place < open) orders[below + before + place] = order_make(key, index);
        before += taken;
        open -= taken;
    }
}

inline void topk_batch_run(const topk_batch &batch, device_stream *stream) {
    unsigned segments = batch.segments(), chunks = batch.images * (unsigned)batch.first_chunk[batch.maps];
    LAUNCH(topk_clear_kernel<TOPK_THREADS>,
           cuda_grid((int64_t)segments * TOPK_PASSES * TOPK_BINS, 4 * TOPK_THREADS), TOPK_THREADS, 0, stream,
           batch, segments);
    LAUNCH(topk_count_kernel<0>, chunks, TOPK_THREADS, 0, stream, batch);
    LAUNCH(topk_count_kernel<1>, chunks, TOPK_THREADS, 0, stream, batch);
    LAUNCH(topk_count_kernel<2>, chunks, TOPK_THREADS, 0, stream, batch);
    LAUNCH(topk_compact_kernel<TOPK_THREADS>, chunks, TOPK_THREADS, 0, stream, batch);
}

#endif
