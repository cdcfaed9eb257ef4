/* rpn_targets without a matrix. A thread has four anchors that follow each other, so they share a block of random words; a warp
 * has 128, which lie close together, and looks only at the objects that meet the box around them.
 *
 *   clear      counters and bits
 *   best       each object's best IoU, as an integer maximum over the bits of floats (none is negative)
 *   label      each anchor's label and object; how many anchors of each label have a key in each of BINS ranges
 *   choose     marks the anchors whose keys lie in ranges below the one in which the sample ends; lists those in that one
 *   finish     a block for each image: marks the smallest keys of the lists, writes the marked anchors in order
 *
 * IoU comes from one function in both passes, so "equal to the object's best" is exact. */
#include "anchor_places.cuh"
#include "box_match.cuh"
#include "philox.cuh"
#include "sample_select.cuh"
#include "scratch_cutter.cuh"

extern "C" {
#include "rpn_targets/rpn_targets.h"
}

namespace {

constexpr int THREADS = 256, EACH = 4, TILE = THREADS * EACH, FINISH_THREADS = 1024;
constexpr int BIN_BITS = 11, BINS = 1 << BIN_BITS;
constexpr int BACKGROUND = 0, OBJECT = 1, KINDS = 2;
constexpr unsigned IGNORED = 0xFF;

struct rpn_job {
    const float4 *gt; /* [N,G] */
    const int32_t *gt_count, *step;
    const image_info *info;
    philox_root root;
    int images, objects, anchors, words; /* objects: G; words of bits for an image's anchors */
    int batch, most_objects;
    float iou_background, iou_foreground;
    int straddle;
    box_weights weights;
    /* Scratch. The `cleared` words from `bins` on start as 0. */
    int64_t cleared;
    unsigned *bins;   /* [N,2,BINS] */
    unsigned *marks;  /* [N,2,words] */
    unsigned *totals; /* [N,2] anchors of each label */
    unsigned *listed; /* [N,2] anchors in the lists */
    unsigned *best;   /* [N,G] bits of a float */
    unsigned *labels; /* [N, anchors / 4] a byte each */
    int32_t *matches; /* [N, anchors] where the label is OBJECT */
    uint64_t *lists;  /* [N, anchors] orders: objects from the front, background from the back */
};

struct rpn_rows {
    int32_t *index, *count;
    float *labels, *weights, *sampled;
    float4 *targets;
};

/* ---- anchors of a thread, objects of a warp -------------------------------------------------------------- */

/* Behind the last anchor come boxes that meet nothing. */
struct four_anchors {
    float4 box[EACH];
    float area[EACH];
};

__device__ four_anchors anchors_from(const anchor_grid &grid, int first, int count) {
    four_anchors four;
    anchor_place place = anchor_place_of(grid, first < count ? first : 0);
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        bool there = first + i < count;
        four.box[i] = make_float4(INFINITY, INFINITY, -INFINITY, -INFINITY);
        if (there) four.box[i] = anchor_box_of(grid, place);
        four.area[i] = match_area(four.box[i]);
        if (first + i + 1 < count) anchor_place_next(&place, grid);
    }
    return four;
}

/* The box around the warp's anchors. */
__device__ float4 box_around(const four_anchors &four) {
    float4 all = four.box[0];
#pragma unroll
    for (int i = 1; i < EACH; i++)
        all = make_float4(fminf(all.x, four.box[i].x), fminf(all.y, four.box[i].y),
                          fmaxf(all.z, four.box[i].z), fmaxf(all.w, four.box[i].w));
    return make_float4(-warp_largest(-all.x), -warp_largest(-all.y), warp_largest(all.z),
                       warp_largest(all.w));
}

/* Calls visit(g) for the objects that can meet an anchor of the warp, in order; all lanes together. */
template <class F> __device__ void visit_objects(const float4 *gt, int count, float4 around, F visit) {
    for (int base = 0; base < count; base += 32) {
        int mine = base + (int)threadIdx.x % 32;
        bool meets = false;
        if (mine < count) {
            float4 box = gt[mine];
            meets = box.x < around.z && box.z > around.x && box.y < around.w && box.w > around.y;
        }
        for (unsigned left = __ballot_sync(WARP_ALL, meets); left; left &= left - 1)
            visit(base + __ffs((int)left) - 1);
    }
}

__global__ void __launch_bounds__(THREADS) clear_kernel(rpn_job job, int32_t *count, float *sampled) {
    for (int64_t i = global_thread(); i < job.cleared; i += global_threads()) job.bins[i] = 0;
    if (global_thread() > 0) return;
    *count = 0; /* what is left where there are no images */
    sampled[0] = sampled[1] = 0;
}

__global__ void __launch_bounds__(THREADS) best_kernel(rpn_job job, const anchor_grid grid) {
    int image = (int)blockIdx.y, first = (int)blockIdx.x * TILE + (int)threadIdx.x * EACH;
    const float4 *gt = job.gt + (int64_t)image * job.objects;
    unsigned *best = job.best + (int64_t)image * job.objects;
    four_anchors four = anchors_from(grid, first, job.anchors);
    visit_objects(gt, match_count(job.gt_count + image, job.objects), box_around(four), [&](int g) {
        float4 box = gt[g];
        float area = match_area(box), iou = 0;
#pragma unroll
        for (int i = 0; i < EACH; i++) iou = fmaxf(iou, match_iou(box, area, four.box[i], four.area[i]));
        iou = warp_largest(iou);
        if (threadIdx.x % 32 == 0 && iou > 0.0f) atomicMax(&best[g], __float_as_uint(iou));
    });
}

/* ---- labels ------------------------------------------------------------------------------------------------ */

__device__ bool is_inside(const rpn_job &job, const image_info *info, float4 box) {
    float limit = (float)job.straddle;
    return box.x >= -limit && box.y >= -limit && box.z < (float)info->width + limit &&
           box.w < (float)info->height + limit;
}

struct four_matches {
    float iou[EACH];
    int object[EACH];
    bool is_best[EACH]; /* no anchor overlaps some object more */
};

__device__ four_matches match_anchors(const rpn_job &job, int image, const four_anchors &four) {
    const float4 *gt = job.gt + (int64_t)image * job.objects;
    const unsigned *best = job.best + (int64_t)image * job.objects;
    four_matches m = {};
    visit_objects(gt, match_count(job.gt_count + image, job.objects), box_around(four), [&](int g) {
        float4 box = gt[g];
        float area = match_area(box), best_of = __uint_as_float(best[g]);
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            float iou = match_iou(box, area, four.box[i], four.area[i]);
            if (iou > m.iou[i]) {
                m.iou[i] = iou;
                m.object[i] = g;
            }
            m.is_best[i] |= iou > 0.0f && iou == best_of;
        }
    });
    return m;
}

__global__ void __launch_bounds__(THREADS) label_kernel(rpn_job job, const anchor_grid grid) {
    int image = (int)blockIdx.y, first = (int)blockIdx.x * TILE + (int)threadIdx.x * EACH;
    four_anchors four = anchors_from(grid, first, job.anchors);
    four_matches m = match_anchors(job, image, four);
    const image_info *info = job.info + image;
    uint32_t keys[EACH];
    philox_words(keys, philox_stream_of(job.root, job.step, info), (uint32_t)first / EACH);
    unsigned labels = 0, seen = 0; /* seen: objects, and above 16 bits background */
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        unsigned label = m.is_best[i] || m.iou[i] >= job.iou_foreground ? OBJECT
                         : m.iou[i] < job.iou_background                ? BACKGROUND
                                                                        : IGNORED;
        if (first + i >= job.anchors || (job.straddle >= 0 && !is_inside(job, info, four.box[i])))
            label = IGNORED;
        labels |= label << 8 * i;
        if (label == IGNORED) continue;
        seen += label == OBJECT ? 1 : 1 << 16;
        int64_t of_kind = (int64_t)image * KINDS + label;
        atomicAdd(&job.bins[of_kind * BINS + (keys[i] >> (32 - BIN_BITS))], 1);
        if (label == OBJECT) job.matches[(int64_t)image * job.anchors + first + i] = m.object[i];
    }
    if (first < job.anchors) job.labels[((int64_t)image * (job.words * 32) + first) / EACH] = labels;
    seen = warp_sum(seen);
    if (threadIdx.x % 32 != 0) return;
    if (seen & 0xFFFF) atomicAdd(&job.totals[image * KINDS + OBJECT], seen & 0xFFFF);
    if (seen >> 16) atomicAdd(&job.totals[image * KINDS + BACKGROUND], seen >> 16);
}

/* ---- choice ------------------------------------------------------------------------------------------------ */

/* Anchors of each kind that an image's sample has. */
__device__ int wanted_of(const rpn_job &job, int image, int kind) {
    const unsigned *totals = job.totals + image * KINDS;
    int objects = min((int)totals[OBJECT], job.most_objects);
    return kind == OBJECT ? objects : min((int)totals[BACKGROUND], job.batch - objects);
}

/* Where a sample ends: of the anchors in range `bin`, `wanted` belong to it; all in the ranges below; none above. */
struct sample_end {
    int bin, wanted;
};

/* Called by a full warp. */
__device__ sample_end find_end(const rpn_job &job, int image, int kind) {
    int wanted = wanted_of(job, image, kind), lane = (int)threadIdx.x % 32;
    if (wanted == (int)job.totals[image * KINDS + kind]) return {BINS, 0};
    if (wanted == 0) return {-1, 0};
    const int4 *bins = reinterpret_cast<const int4 *>(job.bins + ((int64_t)image * KINDS + kind) * BINS);
    for (int base = 0; base < BINS / 4; base += 32) {
        int4 four = bins[base + lane];
        int sum = four.x + four.y + four.z + four.w, up_to = sum;
#pragma unroll
        for (int by = 1; by < 32; by *= 2) {
            int other = __shfl_up_sync(WARP_ALL, up_to, by);
            up_to += lane >= by ? other : 0;
        }
        unsigned reached = __ballot_sync(WARP_ALL, up_to >= wanted);
        if (reached) {
            int left = wanted - (up_to - sum), bin = (base + lane) * 4;
            if (left > four.x) left -= four.x, bin++, four.x = four.y, four.y = four.z, four.z = four.w;
            if (left > four.x) left -= four.x, bin++, four.x = four.y, four.y = four.z;
            if (left > four.x) left -= four.x, bin++;
            int first = __ffs((int)reached) - 1;
            return {__shfl_sync(WARP_ALL, bin, first), __shfl_sync(WARP_ALL, left, first)};
        }
        wanted -= __shfl_sync(WARP_ALL, up_to, 31);
    }
    return {BINS, 0}; /* not reached: the ranges hold all anchors */
}

/* Into ends[KINDS], by a block's first warps; followed by a barrier. */
__device__ void find_ends(sample_end (&ends)[KINDS], const rpn_job &job, int image) {
    int kind = (int)threadIdx.x / 32;
    if (kind < KINDS) {
        sample_end end = find_end(job, image, kind);
        if (threadIdx.x % 32 == 0) ends[kind] = end;
    }
    __syncthreads();
}

__device__ void mark(const rpn_job &job, int image, int kind, int anchor) {
    unsigned *marks = job.marks + ((int64_t)image * KINDS + kind) * job.words;
    atomicOr(&marks[anchor / 32], 1u << anchor % 32);
}

/* Place `i` of a list. */
__device__ uint64_t *listed_order(const rpn_job &job, int image, int kind, int i) {
    return job.lists + (int64_t)image * job.anchors + (kind == OBJECT ? i : job.anchors - 1 - i);
}

__global__ void __launch_bounds__(THREADS) choose_kernel(rpn_job job) {
    SHARED_ARRAY(sample_end, ends, KINDS);
    int image = (int)blockIdx.y, first = (int)blockIdx.x * TILE + (int)threadIdx.x * EACH;
    find_ends(ends, job, image);
    if (first >= job.anchors) return;
    unsigned labels = job.labels[((int64_t)image * (job.words * 32) + first) / EACH];
    if (labels == 0xFFFFFFFFu) return;
    uint32_t keys[EACH];
    philox_words(keys, philox_stream_of(job.root, job.step, job.info + image), (uint32_t)first / EACH);
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        unsigned label = labels >> 8 * i & 0xFF;
        if (label == IGNORED) continue;
        int kind = (int)label, bin = (int)(keys[i] >> (32 - BIN_BITS)), end = ends[kind].bin;
        if (bin < end) mark(job, image, kind, first + i);
        if (bin == end) {
            unsigned place = atomicAdd(&job.listed[image * KINDS + kind], 1);
            *listed_order(job, image, kind, (int)place) = sample_order(keys[i], (uint32_t)(first + i));
        }
    }
}

__device__ void finish_choice(const rpn_job &job, int image, int kind, sample_end end) {
    int n = (int)job.listed[image * KINDS + kind];
    if (end.wanted == 0) return;
    uint64_t limit = sample_limit<FINISH_THREADS>(
        [&](int i, uint64_t *order) {
            *order = *listed_order(job, image, kind, i);
            return true;
        },
        n, end.wanted);
    for (int i = (int)threadIdx.x; i < n; i += FINISH_THREADS) {
        uint64_t order = *listed_order(job, image, kind, i);
        if (order <= limit) mark(job, image, kind, (int)(uint32_t)order);
    }
}

/* ---- rows -------------------------------------------------------------------------------------------------- */

__device__ void write_row(const rpn_job &job, const anchor_grid &grid, const rpn_rows &rows, int64_t row,
                          int image, int kind, int anchor) {
    float4 targets = make_float4(0, 0, 0, 0);
    if (kind == OBJECT) {
        int object = job.matches[(int64_t)image * job.anchors + anchor];
        targets = match_deltas(job.gt[(int64_t)image * job.objects + object],
                               anchor_box_of(grid, anchor_place_of(grid, anchor)), job.weights);
    }
    rows.index[row] = image * job.anchors + anchor;
    rows.labels[row] = rows.weights[row] = kind == OBJECT ? 1.0f : 0.0f;
    rows.targets[row] = targets;
}

/* Each thread has a run of words of marks. */
__device__ void write_kind(const rpn_job &job, const anchor_grid &grid, const rpn_rows &rows, int64_t row,
                           int image, int kind) {
    const unsigned *marks = job.marks + ((int64_t)image * KINDS + kind) * job.words;
    int run = (job.words + FINISH_THREADS - 1) / FINISH_THREADS;
    int from = min((int)threadIdx.x * run, job.words), to = min(from + run, job.words), count = 0, total;
    for (int w = from; w < to; w++) count += __popc(marks[w]);
    row += block_sum_before<FINISH_THREADS>(count, &total);
    for (int w = from; w < to && count > 0; w++)
        for (unsigned left = marks[w]; left; left &= left - 1, count--)
            write_row(job, grid, rows, row++, image, kind, w * 32 + __ffs((int)left) - 1);
}

__global__ void __launch_bounds__(FINISH_THREADS)
    finish_kernel(rpn_job job, const anchor_grid grid, rpn_rows rows) {
    SHARED_ARRAY(sample_end, ends, KINDS);
    int image = (int)blockIdx.x, before = 0, objects_before = 0;
    find_ends(ends, job, image);
    for (int kind = 0; kind < KINDS; kind++) finish_choice(job, image, kind, ends[kind]);
    for (int i = 0; i < image; i++) {
        int objects = wanted_of(job, i, OBJECT);
        objects_before += objects;
        before += objects + wanted_of(job, i, BACKGROUND);
    }
    int objects = wanted_of(job, image, OBJECT), all = objects + wanted_of(job, image, BACKGROUND);
    __syncthreads();
    write_kind(job, grid, rows, before, image, OBJECT);
    write_kind(job, grid, rows, before + objects, image, BACKGROUND);
    if (threadIdx.x > 0 || image < job.images - 1) return;
    *rows.count = before + all;
    rows.sampled[0] = (float)(before + all);
    rows.sampled[1] = (float)(objects_before + objects);
}

/* ---- host -------------------------------------------------------------------------------------------------- */

/* Fills the job's scratch pointers; returns the bytes of scratch. */
size_t cut_scratch(rpn_job *job, const op_call *call, bool counting) {
    scratch_cutter cutter = scratch_cutter_of(call, counting);
    int64_t n = job->images, per_kind = n * KINDS;
    job->cleared = per_kind * (2 + BINS + job->words) + n * job->objects;
    job->bins = cutter.take<unsigned>(job->cleared);
    job->labels = cutter.take<unsigned>(n * job->words * 32 / EACH);
    job->matches = cutter.take<int32_t>(n * job->anchors);
    job->lists = cutter.take<uint64_t>(n * job->anchors);
    if (counting) return cutter.used;
    job->marks = job->bins + per_kind * BINS;
    job->totals = job->marks + per_kind * job->words;
    job->listed = job->totals + per_kind;
    job->best = job->listed + per_kind;
    return cutter.used;
}

rpn_job make_job(const op_call *call, const anchor_grid &grid) {
    const rpn_targets_params *p = static_cast<const rpn_targets_params *>(call->params);
    rpn_job job = {};
    job.gt = tensor_as<const float4>(call->in[RPN_TARGETS_GT_BOXES]);
    job.gt_count = tensor_i32(call->in[RPN_TARGETS_GT_COUNT]);
    job.step = tensor_i32(call->in[RPN_TARGETS_STEP]);
    job.info = tensor_as<const image_info>(call->in[RPN_TARGETS_INFO]);
    job.root = philox_root_make(p->seed, PHILOX_RPN_SAMPLE);
    job.images = (int)call->in[RPN_TARGETS_INFO]->shape[0];
    job.objects = (int)call->in[RPN_TARGETS_GT_BOXES]->shape[1];
    job.anchors = (int)grid.count;
    job.words = (job.anchors + 31) / 32;
    job.batch = p->batch_size_per_image < job.anchors ? p->batch_size_per_image : job.anchors;
    job.most_objects = min((int)((double)p->batch_size_per_image * p->positive_fraction), job.batch);
    job.iou_background = (float)p->iou_background;
    job.iou_foreground = (float)p->iou_foreground;
    job.straddle = p->straddle;
    job.weights = box_weights_of(p->box_weights);
    return job;
}

anchor_grid grid_of(const op_call *call) {
    const rpn_targets_params *p = static_cast<const rpn_targets_params *>(call->params);
    return anchor_grid_make(&p->anchors, p->canvas_height, p->canvas_width);
}

size_t scratch_bytes(const op_call *call, bool) {
    rpn_job job = make_job(call, grid_of(call));
    return cut_scratch(&job, call, true);
}

void forward(const op_call *call) {
    anchor_grid grid = grid_of(call);
    rpn_job job = make_job(call, grid);
    cut_scratch(&job, call, false);
    rpn_rows rows = {
        tensor_i32(call->out[RPN_TARGETS_INDEX]),   tensor_i32(call->out[RPN_TARGETS_COUNT]),
        tensor_f32(call->out[RPN_TARGETS_LABELS]),  tensor_f32(call->out[RPN_TARGETS_BOX_WEIGHTS]),
        tensor_f32(call->out[RPN_TARGETS_SAMPLED]), tensor_as<float4>(call->out[RPN_TARGETS_BOX_TARGETS])};
    dim3 tiles((unsigned)((job.anchors + TILE - 1) / TILE), (unsigned)job.images);
    unsigned clearing = cuda_grid(job.cleared, TILE);
    LAUNCH(clear_kernel, clearing ? clearing : 1, THREADS, 0, call->stream, job, rows.count, rows.sampled);
    LAUNCH(best_kernel, job.objects ? tiles : dim3(0), THREADS, 0, call->stream, job, grid);
    LAUNCH(label_kernel, tiles, THREADS, 0, call->stream, job, grid);
    LAUNCH(choose_kernel, tiles, THREADS, 0, call->stream, job);
    LAUNCH(finish_kernel, (unsigned)job.images, FINISH_THREADS, 0, call->stream, job, grid, rows);
}

const op_kernel fused = {"cuda_fused", forward, nullptr, scratch_bytes};

} // namespace

extern "C" const op_kernel *const rpn_targets_cuda[] = {&fused, nullptr};
