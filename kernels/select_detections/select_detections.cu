/* select_detections on the device. A warp takes a row: softmax, boxes, candidates. The candidates of each image are gathered and
 * sorted by score. Then a block for each image takes 512 at a time, the best first, drops those that a kept box of their class
 * covers, decides among the rest (nms_overlap.cuh), and ends as soon as max_detections stay: mostly after the first 512. A last
 * launch maps boxes to the original image and packs the images' rows.
 *
 * The sum of a softmax has the CPU kernel's order, and decisions are that kernel's bit for bit, but for expf: a GPU's and a
 * libm's may differ in the last place. */
#include "block_rank.cuh"
#include "box_math.cuh"
#include "nms_overlap.cuh"
#include "scratch_cutter.cuh"
#include "segment_sort.cuh"

extern "C" {
#include "box_decode/box_decode.h"
#include "image_info.h"
#include "select_detections/select_detections.h"
}

namespace {

constexpr int ROW_WARPS = 8, THREADS = 256, PICK_THREADS = 512, PICK_TILES = 8, CHUNK = PICK_TILES * NMS_TILE;

struct job {
    const float *logits, *deltas, *rois;
    const image_info *info;
    row_count rows;
    int classes; /* without background */
    unsigned images;
    int64_t row_room; /* candidates that a row may have */
    int64_t keep;     /* detections that an image may have */
    float score_threshold, nms_threshold, min_box_size;
    box_weights weights;

    uint64_t *row_orders;     /* [rows, row_room] candidates: score, then row * classes + class */
    int32_t *n_row;           /* [rows] */
    int32_t *n_image;         /* [images] candidates */
    int32_t *first, *cursor;  /* [images] places of the images' candidates */
    uint64_t *orders, *spare; /* [rows * row_room] by image; in the end `sorted` is one of them */
    const uint64_t *sorted;
    float4 *kept_boxes;    /* [images, keep] resized pixels, best first */
    uint64_t *kept_orders; /* [images, keep] */
};

/* No more scores than this can be above the threshold, as their sum is 1: the rounding of K + 1 of them is allowed for. */
int64_t most_above(double threshold, int64_t classes) {
    double most = threshold > 0 ? (1 + (double)(classes + 8) * 0x1p-22) / (double)(float)threshold : INFINITY;
    return most < (double)classes ? (int64_t)most : classes;
}

job make_job(const op_call *call, scratch_cutter *scratch) {
    const select_detections_params *p = static_cast<const select_detections_params *>(call->params);
    job j = {};
    j.logits = tensor_as<float>(call->in[SELECT_DETECTIONS_LOGITS]);
    j.deltas = tensor_as<float>(call->in[SELECT_DETECTIONS_DELTAS]);
    j.rois = tensor_as<float>(call->in[SELECT_DETECTIONS_ROIS]);
    j.info = static_cast<const image_info *>(call->in[SELECT_DETECTIONS_INFO]->data);
    j.rows = row_count_of(call->in[SELECT_DETECTIONS_ROIS]);
    j.classes = (int)call->in[SELECT_DETECTIONS_LOGITS]->shape[1] - 1;
    j.images = (unsigned)call->in[SELECT_DETECTIONS_INFO]->shape[0];
    j.row_room = most_above(p->score_threshold, j.classes);
    int64_t candidates = j.rows.capacity * j.row_room;
    j.keep = min((int64_t)p->max_detections, candidates);
    j.score_threshold = (float)p->score_threshold;
    j.nms_threshold = nms_overlap_threshold(p->nms_threshold);
    j.min_box_size = (float)p->min_box_size;
    j.weights = box_weights_of(p->box_weights);
    j.row_orders = scratch->take<uint64_t>(candidates);
    j.n_row = scratch->take<int32_t>(j.rows.capacity);
    j.n_image = scratch->take<int32_t>(j.images);
    j.first = scratch->take<int32_t>(j.images);
    j.cursor = scratch->take<int32_t>(j.images);
    j.orders = scratch->take<uint64_t>(candidates);
    j.spare = scratch->take<uint64_t>(candidates);
    j.kept_boxes = scratch->take<float4>(j.images * j.keep);
    j.kept_orders = scratch->take<uint64_t>(j.images * j.keep);
    return j;
}

size_t scratch_bytes(const op_call *call, bool) {
    scratch_cutter scratch = scratch_cutter_of(call, true);
    make_job(call, &scratch);
    return scratch.used;
}

/* ---- rows ----------------------------------------------------------------------------------------------- */

__device__ unsigned image_of(const job &j, int64_t row) {
    return (unsigned)j.rois[5 * row];
}

/* False: the box is not finite. */
__device__ bool decode(float *box, const job &j, int64_t row, int c) {
    float deltas[4], roi[4];
    const float *from = j.deltas + (row * (j.classes + 1) + c + 1) * 4;
    bool finite = true;
    for (int k = 0; k < 4; k++) {
        deltas[k] = from[k];
        roi[k] = j.rois[5 * row + 1 + k];
    }
    box_decode_one(box, deltas, roi, j.weights, (float)BOX_DECODE_DEFAULT_CLIP);
    for (int k = 0; k < 4; k++) finite = finite && fabsf(box[k]) < INFINITY;
    return finite;
}

__device__ void clip(float *box, int height, int width) {
    for (int k = 0; k < 4; k++) {
        float limit = (float)(k % 2 ? height : width), least = box[k] > 0.0f ? box[k] : 0.0f;
        box[k] = least < limit ? least : limit;
    }
}

/* Clipped box of a class; false: too small. */
__device__ bool candidate_box(float *box, const job &j, int64_t row, int c, unsigned image) {
    decode(box, j, row, c);
    clip(box, j.info[image].height, j.info[image].width);
    return __fsub_rn(box[2], box[0]) >= j.min_box_size && __fsub_rn(box[3], box[1]) >= j.min_box_size;
}

__global__ void __launch_bounds__(THREADS) clear_kernel(job j) {
    for (int64_t n = global_thread(); n < j.images; n += global_threads()) j.n_image[n] = 0;
}

/* Largest logit and sum of exponentials of a row, to every lane. The sum runs over the classes one by one; `part` holds 32 floats
 * of the warp. */
__device__ float softmax_sum(const float *logits, int count, float *largest, float *part) {
    int lane = (int)threadIdx.x % 32;
    float most = -INFINITY, sum = 0;
    for (int c = lane; c < count; c += 32) most = fmaxf(most, logits[c]);
    most = warp_largest(most);
    for (int base = 0; base < count; base += 32) {
        part[lane] = base + lane < count ? expf(__fsub_rn(logits[base + lane], most)) : 0.0f;
        __syncwarp();
#pragma unroll
        for (int i = 0; i < 32; i++) sum = __fadd_rn(sum, part[i]); /* zeros at the end change nothing */
        __syncwarp();
    }
    *largest = most;
    return sum;
}

/* A warp per row. */
__global__ void __launch_bounds__(ROW_WARPS * 32) row_kernel(job j) {
    SHARED_ARRAY(float, parts, ROW_WARPS * 32);
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    int64_t rows = valid_rows(j.rows);
    for (int64_t row = (int64_t)blockIdx.x * ROW_WARPS + warp; row < rows;
         row += (int64_t)gridDim.x * ROW_WARPS) {
        const float *logits = j.logits + row * (j.classes + 1);
        float box[4], largest, sum = softmax_sum(logits, j.classes + 1, &largest, parts + 32 * warp);
        bool finite = fabsf(sum) < INFINITY;
        for (int c = lane; c < j.classes; c += 32) finite = decode(box, j, row, c) && finite;
        int found = 0, room = __all_sync(WARP_ALL, finite) ? (int)j.row_room : 0;
        unsigned image = image_of(j, row);
        for (int base = 0; base < j.classes && room > 0; base += 32) {
            int c = base + lane;
            float score = c < j.classes ? __fdiv_rn(expf(__fsub_rn(logits[c + 1], largest)), sum) : 0.0f;
            bool good = c < j.classes && score > j.score_threshold && candidate_box(box, j, row, c, image);
            unsigned ballot = __ballot_sync(WARP_ALL, good);
            if (good)
                j.row_orders[row * j.row_room + found + __popc(ballot & lanes_below())] =
                    order_make(order_key_descending(score), (uint32_t)(row * j.classes + c));
            found += __popc(ballot);
        }
        if (lane != 0) continue;
        j.n_row[row] = found;
        if (found > 0) atomicAdd(&j.n_image[image], found);
    }
}

/* ---- lists of the images -------------------------------------------------------------------------------- */

/* One block. */
__global__ void __launch_bounds__(THREADS) first_kernel(job j) {
    int before = 0;
    for (unsigned base = 0; base < j.images; base += THREADS) {
        unsigned n = base + threadIdx.x;
        int total, count = n < j.images ? j.n_image[n] : 0;
        int place = before + block_sum_before<THREADS>(count, &total);
        if (n < j.images) j.first[n] = j.cursor[n] = place;
        before += total;
    }
}

/* In any order: the sort follows. */
__global__ void __launch_bounds__(THREADS) gather_kernel(job j) {
    int64_t rows = valid_rows(j.rows);
    for (int64_t row = global_thread(); row < rows; row += global_threads()) {
        int count = j.n_row[row];
        if (count == 0) continue;
        int place = atomicAdd(&j.cursor[image_of(j, row)], count);
        for (int i = 0; i < count; i++) j.orders[place + i] = j.row_orders[row * j.row_room + i];
    }
}

/* ---- suppression ---------------------------------------------------------------------------------------- */

/* Candidates that are looked at, in shared memory. */
struct chunk {
    float4 *boxes;
    int32_t *classes;
    uint64_t *covered; /* [PICK_TILES, CHUNK] boxes of a tile before this one that cover it */
    uint64_t *stay;    /* [PICK_TILES] */
};

/* Thread i brings candidate i and says whether a kept box covers it, or there is none. */
__device__ bool load_candidate(const chunk &in, const job &j, unsigned image, int64_t place, int64_t kept) {
    int i = (int)threadIdx.x;
    in.classes[i] = -1;
    if (place >= j.n_image[image]) return true;
    int32_t index = order_index(j.sorted[j.first[image] + place]), row = index / j.classes,
            c = index - row * j.classes;
    float box[4];
    candidate_box(box, j, row, c, image);
    float4 own = make_float4(box[0], box[1], box[2], box[3]);
    in.boxes[i] = own;
    in.classes[i] = c;
    float area = nms_area(own);
    for (int64_t k = image * j.keep; k < image * j.keep + kept; k++)
        if (order_index(j.kept_orders[k]) % j.classes == c &&
            nms_overlaps(j.kept_boxes[k], nms_area(j.kept_boxes[k]), own, area, j.nms_threshold))
            return true;
    return false;
}

/* The threads share the pairs of tile and candidate. */
__device__ void compare_candidates(const chunk &in, float threshold) {
    for (int item = (int)threadIdx.x; item < PICK_TILES * CHUNK; item += PICK_THREADS) {
        int tile = item / CHUNK * NMS_TILE, i = item % CHUNK, c = in.classes[i];
        if (i < tile || c < 0) continue;
        float4 box = in.boxes[i];
        float area = nms_area(box);
        uint64_t bits = 0;
        int before = min(i - tile, NMS_TILE);
        for (int b = 0; b < before; b++)
            if (in.classes[tile + b] == c &&
                nms_overlaps(in.boxes[tile + b], nms_area(in.boxes[tile + b]), box, area, threshold))
                bits |= (uint64_t)1 << b;
        in.covered[item] = bits;
    }
}

/* Sets in.stay; warp t of the first PICK_TILES decides on tile t. `gone`: bits of the candidates that are out. */
__device__ void decide_candidates(const chunk &in, const uint32_t *gone) {
    int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32, low = warp * NMS_TILE + lane;
    bool decides = warp < PICK_TILES;
    bool gone_low = decides && (gone[2 * warp] >> lane & 1),
         gone_high = decides && (gone[2 * warp + 1] >> lane & 1);
    for (int t = 0; t < PICK_TILES; t++) {
        bool open_low = decides && t <= warp && !gone_low, open_high = decides && t <= warp && !gone_high;
        uint64_t by_low = open_low ? in.covered[t * CHUNK + low] : 0,
                 by_high = open_high ? in.covered[t * CHUNK + low + 32] : 0;
        if (t == warp) {
            uint64_t word = nms_resolve_tile(by_low, by_high, gone_low, gone_high);
            if (lane == 0) in.stay[t] = word;
        }
        __syncthreads();
        gone_low |= (by_low & in.stay[t]) != 0;
        gone_high |= (by_high & in.stay[t]) != 0;
    }
}

__device__ void keep_candidates(const chunk &in, const job &j, unsigned image, int64_t first, int64_t *kept) {
    int i = (int)threadIdx.x, total;
    bool stays = in.stay[i / NMS_TILE] >> i % NMS_TILE & 1;
    int64_t at = *kept + block_rank<PICK_THREADS>(stays, &total);
    if (stays && at < j.keep) {
        j.kept_boxes[image * j.keep + at] = in.boxes[i];
        j.kept_orders[image * j.keep + at] = j.sorted[j.first[image] + first + i];
    }
    *kept = min(*kept + total, j.keep);
    __syncthreads(); /* kept boxes are read with the next chunk */
}

/* The box in the original image; false: empty there. */
__device__ bool to_original(float *original, float4 box, const image_info &info) {
    float x = __fdiv_rn((float)info.original_width, (float)info.width),
          y = __fdiv_rn((float)info.original_height, (float)info.height);
    original[0] = __fmul_rn(box.x, x);
    original[1] = __fmul_rn(box.y, y);
    original[2] = __fmul_rn(box.z, x);
    original[3] = __fmul_rn(box.w, y);
    clip(original, info.original_height, info.original_width);
    return original[2] > original[0] && original[3] > original[1];
}

/* Drops kept boxes that are empty in the original image. Returns how many are left. */
__device__ int64_t drop_empty(const job &j, unsigned image, int64_t kept) {
    int64_t left = 0;
    for (int64_t base = 0; base < kept; base += PICK_THREADS) {
        int64_t from = image * j.keep + base + threadIdx.x;
        bool there = base + (int64_t)threadIdx.x < kept;
        float4 box = there ? j.kept_boxes[from] : make_float4(0, 0, 0, 0);
        uint64_t order = there ? j.kept_orders[from] : 0;
        float original[4];
        int total;
        bool stays = there && to_original(original, box, j.info[image]);
        int64_t to =
            image * j.keep + left + block_rank<PICK_THREADS>(stays, &total); /* waits: all are read */
        if (stays) {
            j.kept_boxes[to] = box;
            j.kept_orders[to] = order;
        }
        left += total;
    }
    return left;
}

/* A block per image. */
__global__ void __launch_bounds__(PICK_THREADS) pick_kernel(int32_t *counts, job j) {
    static_assert(PICK_THREADS == CHUNK, "a thread for each candidate of a chunk");
    SHARED_ARRAY(float4, boxes, CHUNK);
    SHARED_ARRAY(int32_t, classes, CHUNK);
    SHARED_ARRAY(uint64_t, covered, PICK_TILES * CHUNK);
    SHARED_ARRAY(uint64_t, stay, PICK_TILES);
    SHARED_ARRAY(uint32_t, gone, CHUNK / 32);
    chunk in = {boxes, classes, covered, stay};
    unsigned image = blockIdx.x;
    int64_t count = j.n_image[image], kept = 0;
    for (int64_t first = 0; first < count && kept < j.keep; first += CHUNK) {
        bool out = load_candidate(in, j, image, first + threadIdx.x, kept);
        unsigned bits = __ballot_sync(WARP_ALL, out);
        if (threadIdx.x % 32 == 0) gone[threadIdx.x / 32] = bits;
        __syncthreads();
        compare_candidates(in, j.nms_threshold);
        __syncthreads();
        decide_candidates(in, gone);
        keep_candidates(in, j, image, first, &kept);
    }
    int64_t left = drop_empty(j, image, kept);
    if (threadIdx.x == 0) counts[image] = (int32_t)left;
}

/* ---- outputs -------------------------------------------------------------------------------------------- */

struct outputs {
    float *boxes, *det_rois, *scores;
    int32_t *labels, *count, *counts;
};

/* A block per image, behind the rows of the images before; without images one block writes the count. */
__global__ void __launch_bounds__(THREADS) write_kernel(outputs out, job j) {
    unsigned image = blockIdx.x;
    int before = 0, all = 0;
    for (unsigned n = threadIdx.x; n < j.images; n += THREADS) {
        all += out.counts[n];
        before += n < image ? out.counts[n] : 0;
    }
    int64_t first = block_sum<THREADS>(before);
    all = block_sum<THREADS>(all);
    if (image == 0 && threadIdx.x == 0) *out.count = all;
    if (image >= j.images) return;
    for (int i = (int)threadIdx.x; i < out.counts[image]; i += THREADS) {
        int64_t row = first + i, from = image * j.keep + i;
        float4 box = j.kept_boxes[from];
        uint64_t order = j.kept_orders[from];
        float original[4];
        to_original(original, box, j.info[image]);
        for (int k = 0; k < 4; k++) out.boxes[4 * row + k] = original[k];
        out.det_rois[5 * row] = (float)image;
        out.det_rois[5 * row + 1] = box.x;
        out.det_rois[5 * row + 2] = box.y;
        out.det_rois[5 * row + 3] = box.z;
        out.det_rois[5 * row + 4] = box.w;
        out.scores[row] = __uint_as_float(~order_key(order) & 0x7fffffffu); /* scores are positive */
        out.labels[row] = order_index(order) % j.classes + 1;
    }
}

void forward(const op_call *call) {
    scratch_cutter scratch = scratch_cutter_of(call, false);
    job j = make_job(call, &scratch);
    LAUNCH(clear_kernel, cuda_grid(j.images, THREADS), THREADS, 0, call->stream, j);
    LAUNCH(row_kernel, cuda_grid(j.rows.capacity, ROW_WARPS), ROW_WARPS * 32, 0, call->stream, j);
    LAUNCH(first_kernel, 1, THREADS, 0, call->stream, j);
    LAUNCH(gather_kernel, cuda_grid(j.rows.capacity, THREADS), THREADS, 0, call->stream, j);
    j.sorted = segment_sort(j.orders, j.spare,
                            sort_segments{j.images, j.rows.capacity * j.row_room, 0, j.first, j.n_image},
                            call->stream);
    outputs out = {
        tensor_f32(call->out[SELECT_DETECTIONS_BOXES]),  tensor_f32(call->out[SELECT_DETECTIONS_DET_ROIS]),
        tensor_f32(call->out[SELECT_DETECTIONS_SCORES]), tensor_i32(call->out[SELECT_DETECTIONS_LABELS]),
        tensor_i32(call->out[SELECT_DETECTIONS_COUNT]),  tensor_i32(call->out[SELECT_DETECTIONS_COUNTS])};
    LAUNCH(pick_kernel, j.images, PICK_THREADS, 0, call->stream, out.counts, j);
    LAUNCH(write_kernel, max(j.images, 1u), THREADS, 0, call->stream, out, j);
}

const op_kernel sorted_chunks = {"cuda_sorted_chunks", forward, nullptr, scratch_bytes};

} // namespace

extern "C" const op_kernel *const select_detections_cuda[] = {&sorted_chunks, nullptr};
