/* roi_targets: a few thousand candidates against a few dozen objects.
 *
 *   match      a thread for each candidate: its object, and the order by which it may be drawn
 *   choose     a block for each image: the smallest orders of objects and of background, in the order of the candidates
 *   write      a thread for each place of a sample; an image's rows begin behind those of the images before it */
#include "box_match.cuh"
#include "philox.cuh"
#include "sample_select.cuh"
#include "scratch_cutter.cuh"

extern "C" {
#include "roi_targets/roi_targets.h"
}

namespace {

constexpr int THREADS = 128, CHOOSE_THREADS = 1024;
constexpr int BACKGROUND = 0, OBJECT = 1, KINDS = 2;

struct sampled_roi {
    int32_t candidate, match; /* match: background has -1 */
};

struct roi_job {
    const float4 *proposals, *gt; /* [N,P], [N,G] */
    const int32_t *counts, *gt_labels, *gt_count, *step, *ids;
    const image_info *info;
    philox_root root;
    int images, proposal_capacity, object_capacity, capacity; /* the last: candidates of an image */
    bool append_gt;
    int batch, most_objects;
    float iou_foreground;
    box_weights weights;
    /* Scratch. */
    uint64_t *orders;     /* [N,capacity] */
    int32_t *matches;     /* [N,capacity] -1: background */
    sampled_roi *samples; /* [N,batch] objects first */
    int32_t *sizes;       /* [N,2] samples of each kind */
};

struct roi_rows {
    float *rois, *weights, *mask_rois, *sampled;
    float4 *targets;
    int32_t *labels, *mask_labels, *mask_gt, *count, *mask_count;
};

/* An image's candidates: proposals, and behind them its objects. */
struct roi_candidates {
    const float4 *boxes, *gt;
    int proposals, objects, count;

    __device__ float4 at(int index) const { return index < proposals ? boxes[index] : gt[index - proposals]; }
};

__device__ roi_candidates candidates_of(const roi_job &job, int image) {
    roi_candidates c;
    c.boxes = job.proposals + (int64_t)image * job.proposal_capacity;
    c.gt = job.gt + (int64_t)image * job.object_capacity;
    c.proposals = match_count(job.counts + image, job.proposal_capacity);
    c.objects = match_count(job.gt_count + image, job.object_capacity);
    c.count = c.proposals + (job.append_gt ? c.objects : 0);
    return c;
}

/* What a candidate's random number is drawn by: neither the other candidates nor their order change it. */
__device__ uint32_t draw_index(const roi_job &job, const roi_candidates &c, int image, int index) {
    if (index >= c.proposals) return (1u << 31) + (uint32_t)(index - c.proposals);
    if (!job.ids) return (uint32_t)index;
    return (uint32_t)job.ids[(int64_t)image * job.proposal_capacity + index] & 0x7FFFFFFFu;
}

__global__ void __launch_bounds__(THREADS) match_kernel(roi_job job) {
    int image = (int)blockIdx.y, index = (int)global_thread();
    roi_candidates c = candidates_of(job, image);
    if (index >= c.count) return;
    float4 box = c.at(index);
    float area = match_area(box), best = 0;
    int match = 0;
    for (int g = 0; g < c.objects; g++) {
        float4 object = c.gt[g];
        float iou = match_iou(object, match_area(object), box, area);
        if (iou > best) match = g;
        best = fmaxf(best, iou);
    }
    philox_stream stream = philox_stream_of(job.root, job.step, job.info + image);
    int64_t at = (int64_t)image * job.capacity + index;
    job.orders[at] = sample_order(philox_word(stream, draw_index(job, c, image, index)), (uint32_t)index);
    job.matches[at] = best >= job.iou_foreground ? match : -1;
}

/* Writes the image's samples of a kind (objects, or background) from samples[0] on. */
__device__ void choose_kind(sampled_roi *samples, const uint64_t *orders, const int32_t *matches, int n,
                            bool is_object, int wanted) {
    uint64_t limit = sample_limit<CHOOSE_THREADS>(
        [&](int i, uint64_t *order) {
            *order = orders[i];
            return (matches[i] >= 0) == is_object;
        },
        n, wanted);
    for (int base = 0; base < n; base += CHOOSE_THREADS) {
        int i = base + (int)threadIdx.x, total, match = i < n ? matches[i] : 0;
        bool taken = i < n && wanted > 0 && (match >= 0) == is_object && orders[i] <= limit;
        int place = block_rank<CHOOSE_THREADS>(taken, &total);
        if (taken) samples[place] = {i, match};
        samples += total;
    }
}

__global__ void __launch_bounds__(CHOOSE_THREADS) choose_kernel(roi_job job) {
    int image = (int)blockIdx.x, n = candidates_of(job, image).count, found = 0;
    const uint64_t *orders = job.orders + (int64_t)image * job.capacity;
    const int32_t *matches = job.matches + (int64_t)image * job.capacity;
    sampled_roi *samples = job.samples + (int64_t)image * job.batch;
    for (int i = (int)threadIdx.x; i < n; i += CHOOSE_THREADS) found += matches[i] >= 0;
    found = block_sum<CHOOSE_THREADS>(found);
    int objects = min(found, job.most_objects), background = min(n - found, job.batch - objects);
    choose_kind(samples, orders, matches, n, true, objects);
    choose_kind(samples + objects, orders, matches, n, false, background);
    if (threadIdx.x < KINDS)
        job.sizes[image * KINDS + (int)threadIdx.x] = threadIdx.x == OBJECT ? objects : background;
}

/* Rows of the images before `image`. */
__device__ int rows_before(const roi_job &job, int image, int *objects) {
    int rows = 0;
    *objects = 0;
    for (int i = 0; i < image; i++) {
        rows += job.sizes[i * KINDS + BACKGROUND] + job.sizes[i * KINDS + OBJECT];
        *objects += job.sizes[i * KINDS + OBJECT];
    }
    return rows;
}

__device__ void write_roi(float *roi, int image, float4 box) {
    roi[0] = (float)image;
    roi[1] = box.x;
    roi[2] = box.y;
    roi[3] = box.z;
    roi[4] = box.w;
}

__device__ void write_sample(const roi_job &job, const roi_rows &rows, int image, sampled_roi sample,
                             int64_t row, int64_t mask_row) {
    roi_candidates c = candidates_of(job, image);
    float4 box = c.at(sample.candidate), targets = make_float4(0, 0, 0, 0);
    int label = 0;
    if (sample.match >= 0) {
        label = job.gt_labels[(int64_t)image * job.object_capacity + sample.match] + 1;
        targets = match_deltas(c.gt[sample.match], box, job.weights);
        write_roi(rows.mask_rois + 5 * mask_row, image, box);
        rows.mask_labels[mask_row] = label;
        rows.mask_gt[mask_row] = image * job.object_capacity + sample.match;
    }
    write_roi(rows.rois + 5 * row, image, box);
    rows.labels[row] = label;
    rows.targets[row] = targets;
    rows.weights[row] = sample.match >= 0 ? 1.0f : 0.0f;
}

/* blockIdx.y == images: the counts. */
__global__ void __launch_bounds__(THREADS) write_kernel(roi_job job, roi_rows rows) {
    int image = (int)blockIdx.y, place = (int)global_thread(), mask_row,
        row = rows_before(job, image, &mask_row);
    if (image == job.images) {
        if (place > 0) return;
        *rows.count = row;
        *rows.mask_count = mask_row;
        rows.sampled[0] = (float)row;
        rows.sampled[1] = (float)mask_row;
        return;
    }
    int objects = job.sizes[image * KINDS + OBJECT];
    if (place >= objects + job.sizes[image * KINDS + BACKGROUND]) return;
    write_sample(job, rows, image, job.samples[(int64_t)image * job.batch + place], row + place,
                 mask_row + place);
}

/* ---- host -------------------------------------------------------------------------------------------------- */

size_t cut_scratch(roi_job *job, const op_call *call, bool counting) {
    scratch_cutter cutter = scratch_cutter_of(call, counting);
    int64_t n = job->images;
    job->orders = cutter.take<uint64_t>(n * job->capacity);
    job->matches = cutter.take<int32_t>(n * job->capacity);
    job->samples = cutter.take<sampled_roi>(n * job->batch);
    job->sizes = cutter.take<int32_t>(n * KINDS);
    return cutter.used;
}

roi_job make_job(const op_call *call) {
    const roi_targets_params *p = static_cast<const roi_targets_params *>(call->params);
    tensor *const *in = call->in;
    roi_job job = {};
    job.proposals = tensor_as<const float4>(in[ROI_TARGETS_PROPOSALS]);
    job.gt = tensor_as<const float4>(in[ROI_TARGETS_GT_BOXES]);
    job.counts = tensor_i32(in[ROI_TARGETS_COUNTS]);
    job.gt_labels = tensor_i32(in[ROI_TARGETS_GT_LABELS]);
    job.gt_count = tensor_i32(in[ROI_TARGETS_GT_COUNT]);
    job.step = tensor_i32(in[ROI_TARGETS_STEP]);
    job.ids = in[ROI_TARGETS_IDS] ? tensor_i32(in[ROI_TARGETS_IDS]) : nullptr;
    job.info = tensor_as<const image_info>(in[ROI_TARGETS_INFO]);
    job.root = philox_root_make(p->seed, PHILOX_ROI_SAMPLE);
    job.images = (int)in[ROI_TARGETS_INFO]->shape[0];
    job.proposal_capacity = (int)in[ROI_TARGETS_PROPOSALS]->shape[1];
    job.object_capacity = (int)in[ROI_TARGETS_GT_BOXES]->shape[1];
    job.capacity = job.proposal_capacity + job.object_capacity;
    job.append_gt = p->append_gt;
    job.batch = min(p->batch_size_per_image, job.capacity);
    job.most_objects = min((int)((double)p->batch_size_per_image * p->positive_fraction), job.capacity);
    job.iou_foreground = (float)p->iou_foreground;
    job.weights = box_weights_of(p->box_weights);
    return job;
}

size_t scratch_bytes(const op_call *call, bool) {
    roi_job job = make_job(call);
    return cut_scratch(&job, call, true);
}

void forward(const op_call *call) {
    roi_job job = make_job(call);
    cut_scratch(&job, call, false);
    tensor *const *out = call->out;
    roi_rows rows = {};
    rows.rois = tensor_f32(out[ROI_TARGETS_ROIS]);
    rows.weights = tensor_f32(out[ROI_TARGETS_BOX_WEIGHTS]);
    rows.mask_rois = tensor_f32(out[ROI_TARGETS_MASK_ROIS]);
    rows.sampled = tensor_f32(out[ROI_TARGETS_SAMPLED]);
    rows.targets = tensor_as<float4>(out[ROI_TARGETS_BOX_TARGETS]);
    rows.labels = tensor_i32(out[ROI_TARGETS_LABELS]);
    rows.mask_labels = tensor_i32(out[ROI_TARGETS_MASK_LABELS]);
    rows.mask_gt = tensor_i32(out[ROI_TARGETS_MASK_GT]);
    rows.count = tensor_i32(out[ROI_TARGETS_COUNT]);
    rows.mask_count = tensor_i32(out[ROI_TARGETS_MASK_COUNT]);
    unsigned images = (unsigned)job.images;
    unsigned per_image = (unsigned)((job.capacity + THREADS - 1) / THREADS),
             samples = (unsigned)((job.batch + THREADS - 1) / THREADS);
    LAUNCH(match_kernel, dim3(per_image, images), THREADS, 0, call->stream, job);
    LAUNCH(choose_kernel, images, CHOOSE_THREADS, 0, call->stream, job);
    LAUNCH(write_kernel, dim3(samples ? samples : 1, images + 1), THREADS, 0, call->stream, job, rows);
}

const op_kernel three_passes = {"cuda_three_passes", forward, nullptr, scratch_bytes};

} // namespace

extern "C" const op_kernel *const roi_targets_cuda[] = {&three_passes, nullptr};
