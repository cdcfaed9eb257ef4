/* rpn_proposals in ten launches for all images and levels: the best logits of each level (radix_topk.cuh), one sort in shared
 * memory, boxes, suppression (nms_bitmask.cuh), and a merge in which each proposal counts the better ones of the other levels.
 *
 * Decisions are those of the CPU's kernel, bit for bit, but for expf: a GPU's and a libm's may differ in the last place. */
#include "anchor_places.cuh"
#include "box_math.cuh"
#include "nms_bitmask.cuh"
#include "radix_topk.cuh"
#include "segment_sort.cuh"

extern "C" {
#include "box_decode/box_decode.h"
#include "image_info.h"
#include "rpn_proposals/rpn_proposals.h"
}

namespace {

constexpr int THREADS = 256;

struct job {
    unsigned levels, images;
    int64_t stride, keep; /* rows of a segment in scratch; of an image in the outputs */
    int32_t longest;      /* boxes of a segment, at most */
    anchor_grid grid;
    const float *deltas[ANCHOR_MAX_LEVELS];
    int sizes[ANCHOR_MAX_LEVELS];
    const image_info *info;
    box_weights weights;
    float min_size;
    bool min_size_inclusive;
    float4 *boxes;
    const uint64_t *orders;

    topk_batch topk;
    uint64_t *spare;
    nms_batch nms;
};

job make_job(const op_call *call, scratch_cutter *scratch) {
    const rpn_proposals_params *p = static_cast<const rpn_proposals_params *>(call->params);
    job j = {};
    j.grid = anchor_grid_make(&p->anchors, p->canvas_height, p->canvas_width);
    j.levels = (unsigned)j.grid.levels;
    j.images = (unsigned)call->in[RPN_PROPOSALS_INFO]->shape[0];
    j.info = static_cast<const image_info *>(call->in[RPN_PROPOSALS_INFO]->data);
    j.keep = p->post_nms_topk;
    j.weights = box_weights_of(p->box_weights);
    j.min_size = (float)p->min_size;
    j.min_size_inclusive = p->min_size_inclusive;
    j.topk.maps = j.levels;
    j.topk.images = j.images;
    for (unsigned l = 0; l < j.levels; l++) {
        const anchor_level &level = j.grid.level[l];
        j.sizes[l] = level.height * level.width * j.grid.per_cell;
        j.deltas[l] = tensor_as<float>(call->in[RPN_PROPOSALS_DELTAS + l]);
        j.topk.values[l] = tensor_as<float>(call->in[RPN_PROPOSALS_LOGITS + l]);
        j.topk.sizes[l] = j.sizes[l];
        j.topk.k[l] = min(j.sizes[l], p->pre_nms_topk);
        j.longest = max(j.longest, j.topk.k[l]);
    }
    int64_t segments = j.topk.segments();
    j.stride = nms_stride(j.longest);
    j.topk.stride = j.nms.stride = j.stride;
    j.topk.orders = scratch->take<uint64_t>(segments * j.stride);
    j.spare = scratch->take<uint64_t>(segments * j.stride);
    j.topk.n_orders = scratch->take<int32_t>(segments);
    topk_batch_cut(&j.topk, scratch);
    j.boxes = scratch->take<float4>(segments * j.stride);
    j.nms.segments = (unsigned)segments;
    j.nms.max_keep = j.keep;
    j.nms.threshold = nms_overlap_threshold(p->nms_threshold);
    j.nms.counts = j.topk.n_orders;
    j.nms.boxes = j.boxes;
    j.nms.dropped = scratch->take<uint32_t>(segments * j.stride / 32);
    nms_batch_cut(&j.nms, scratch);
    return j;
}

size_t scratch_bytes(const op_call *call, bool) {
    scratch_cutter scratch = scratch_cutter_of(call, true);
    make_job(call, &scratch);
    return scratch.used;
}

/* ---- boxes ---------------------------------------------------------------------------------------------- */

/* rpn_candidate: false: the box is dropped. */
__device__ bool candidate(float *box, const job &j, unsigned level, unsigned image, int index) {
    float deltas[4];
    const float *from = j.deltas[level] + ((int64_t)image * j.sizes[level] + index) * 4;
    for (int k = 0; k < 4; k++) deltas[k] = from[k];
    float4 anchor = anchor_box_of(j.grid, anchor_place_of(j.grid, (int)j.grid.level[level].first + index));
    const float reference[4] = {anchor.x, anchor.y, anchor.z, anchor.w};
    box_decode_one(box, deltas, reference, j.weights, (float)BOX_DECODE_DEFAULT_CLIP);
    bool finite = true;
    for (int k = 0; k < 4; k++) {
        float limit = (float)(k % 2 ? j.info[image].height : j.info[image].width);
        finite = finite && fabsf(box[k]) < INFINITY;
        box[k] = box[k] < 0.0f ? 0.0f : box[k] > limit ? limit : box[k];
    }
    float w = __fsub_rn(box[2], box[0]), h = __fsub_rn(box[3], box[1]);
    return finite &&
           (j.min_size_inclusive ? w >= j.min_size && h >= j.min_size : w > j.min_size && h > j.min_size);
}

/* A thread for each row of each segment; whole warps, as the stride is a multiple of 64. */
__global__ void __launch_bounds__(THREADS) box_kernel(job j, unsigned blocks) {
    unsigned segment = blockIdx.x / blocks, image = segment / j.levels, level = segment % j.levels;
    int64_t rank = (int64_t)(blockIdx.x % blocks) * THREADS + threadIdx.x, row = segment * j.stride + rank;
    if (rank >= j.stride) return;
    bool good = false;
    if (rank < j.topk.n_orders[segment]) {
        float box[4];
        good = candidate(box, j, level, image, order_index(j.orders[row]));
        j.boxes[row] = make_float4(box[0], box[1], box[2], box[3]);
    }
    unsigned dropped = __ballot_sync(WARP_ALL, !good);
    if (threadIdx.x % 32 == 0) j.nms.dropped[row / 32] = dropped;
}

/* ---- levels merged -------------------------------------------------------------------------------------- */

struct outputs {
    float *boxes, *scores;
    int32_t *anchors, *counts;
};

/* Place of box i of a level among those of all levels of its image: by falling score, then by level. */
__device__ int64_t place_of(const job &j, unsigned image, unsigned level, int64_t i) {
    uint32_t key = order_key(j.nms.kept_orders[(image * j.levels + level) * j.stride + i]);
    int64_t place = i;
    for (unsigned l = 0; l < j.levels; l++) {
        if (l == level) continue;
        unsigned segment = image * j.levels + l;
        uint64_t limit = order_make(key, 0); /* equal scores of a level in front come first */
        if (l < level) limit |= UINT32_MAX;
        place += count_below(j.nms.kept_orders + segment * j.stride, j.nms.n_kept[segment], limit);
    }
    return place;
}

__device__ void write_proposal(const outputs &out, const job &j, unsigned image, unsigned level, int64_t i,
                               int64_t row) {
    int64_t segment = image * j.levels + level;
    int index = order_index(j.nms.kept_orders[segment * j.stride + i]);
    float4 box = j.boxes[segment * j.stride + j.nms.kept_rank[segment * j.stride + i]];
    out.boxes[4 * row] = box.x;
    out.boxes[4 * row + 1] = box.y;
    out.boxes[4 * row + 2] = box.z;
    out.boxes[4 * row + 3] = box.w;
    out.scores[row] = j.topk.values[level][(int64_t)image * j.sizes[level] + index];
    out.anchors[row] = (int32_t)j.grid.level[level].first + index;
}

/* `blocks` for each level of each image, and as many for the unused rows of the image. */
__global__ void __launch_bounds__(THREADS) merge_kernel(outputs out, job j, unsigned blocks) {
    unsigned part = blockIdx.x / blocks, image = part / (j.levels + 1), level = part % (j.levels + 1);
    int64_t i = (int64_t)(blockIdx.x % blocks) * THREADS + threadIdx.x;
    if (level < j.levels) {
        if (i >= j.nms.n_kept[image * j.levels + level]) return;
        int64_t place = place_of(j, image, level, i);
        if (place < j.keep) write_proposal(out, j, image, level, i, image * j.keep + place);
        return;
    }
    int64_t used = 0;
    for (unsigned l = 0; l < j.levels; l++) used += j.nms.n_kept[image * j.levels + l];
    used = min(used, j.keep);
    if (i == 0) out.counts[image] = (int32_t)used;
    if (i < used || i >= j.keep) return;
    int64_t row = image * j.keep + i;
    for (int k = 0; k < 4; k++) out.boxes[4 * row + k] = 0;
    out.scores[row] = 0;
    out.anchors[row] = -1;
}

void forward(const op_call *call) {
    scratch_cutter scratch = scratch_cutter_of(call, false);
    job j = make_job(call, &scratch);
    unsigned segments = j.topk.segments();
    topk_batch_run(j.topk, call->stream);
    j.orders = j.nms.orders =
        segment_sort(j.topk.orders, j.spare,
                     sort_segments{segments, j.longest, j.stride, nullptr, j.topk.n_orders}, call->stream);
    unsigned blocks = (unsigned)((j.stride + THREADS - 1) / THREADS);
    LAUNCH(box_kernel, segments * blocks, THREADS, 0, call->stream, j, blocks);
    nms_batch_run(j.nms, call->stream);
    outputs out = {tensor_f32(call->out[RPN_PROPOSALS_BOXES]), tensor_f32(call->out[RPN_PROPOSALS_SCORES]),
                   tensor_i32(call->out[RPN_PROPOSALS_ANCHORS]), tensor_i32(call->out[RPN_PROPOSALS_COUNTS])};
    blocks = (unsigned)((max(j.keep, j.stride) + THREADS - 1) / THREADS);
    LAUNCH(merge_kernel, j.images * (j.levels + 1) * blocks, THREADS, 0, call->stream, out, j, blocks);
}

const op_kernel radix_bitmask = {"cuda_radix_bitmask", forward, nullptr, scratch_bytes};

} // namespace

extern "C" const op_kernel *const rpn_proposals_cuda[] = {&radix_bitmask, nullptr};
