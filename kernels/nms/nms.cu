/* nms: orders of scores, one sort, then the batched suppression with one segment; groups are compared box by box. */
#include "nms_bitmask.cuh"
#include "segment_sort.cuh"

extern "C" {
#include "nms/nms.h"
}

namespace {

constexpr int THREADS = 256;

struct job {
    const float *boxes, *scores;
    const int32_t *groups;
    row_count rows;
    int32_t *count; /* valid rows */
    uint64_t *orders, *spare;
    float4 *sorted_boxes;
    int32_t *sorted_groups; /* NULL: no groups */
    nms_batch batch;
};

job make_job(const op_call *call, scratch_cutter *scratch) {
    const nms_params *p = static_cast<const nms_params *>(call->params);
    job j = {};
    j.boxes = tensor_as<float>(call->in[NMS_BOXES]);
    j.scores = tensor_as<float>(call->in[NMS_SCORES]);
    j.groups = tensor_as<int32_t>(call->in[NMS_GROUPS]);
    j.rows = row_count_of(call->in[NMS_BOXES]);
    int64_t stride = nms_stride(j.rows.capacity);
    j.count = scratch->take<int32_t>(1);
    j.orders = scratch->take<uint64_t>(stride);
    j.spare = scratch->take<uint64_t>(stride);
    j.sorted_boxes = scratch->take<float4>(stride);
    if (call->in[NMS_GROUPS]) j.sorted_groups = scratch->take<int32_t>(stride);
    j.batch.segments = 1;
    j.batch.stride = stride;
    j.batch.max_keep = j.rows.capacity + 1; /* never reached */
    j.batch.threshold = nms_overlap_threshold(p->iou_threshold);
    j.batch.counts = j.count;
    j.batch.boxes = j.sorted_boxes;
    j.batch.groups = j.sorted_groups;
    j.batch.dropped = scratch->take<uint32_t>(stride / 32);
    nms_batch_cut(&j.batch, scratch);
    return j;
}

size_t scratch_bytes(const op_call *call, bool) {
    scratch_cutter scratch = scratch_cutter_of(call, true);
    make_job(call, &scratch);
    return scratch.used;
}

__global__ void __launch_bounds__(THREADS) order_kernel(job j) {
    int64_t n = valid_rows(j.rows);
    for (int64_t i = global_thread(); i < n; i += global_threads())
        j.orders[i] = order_make(order_key_descending(j.scores[i]), (uint32_t)i);
    if (global_thread() == 0) *j.count = (int32_t)n;
}

__global__ void __launch_bounds__(THREADS) gather_kernel(job j) {
    int64_t n = *j.count;
    for (int64_t rank = global_thread(); rank < n; rank += global_threads()) {
        int32_t i = order_index(j.batch.orders[rank]);
        const float *box = j.boxes + 4 * (int64_t)i;
        j.sorted_boxes[rank] = make_float4(box[0], box[1], box[2], box[3]);
        if (j.sorted_groups) j.sorted_groups[rank] = j.groups[i];
    }
    for (int64_t word = global_thread(); word < j.batch.stride / 32; word += global_threads())
        j.batch.dropped[word] = 0;
}

__global__ void __launch_bounds__(THREADS) keep_kernel(int32_t *keep, int32_t *count, nms_batch batch) {
    int64_t n = *batch.n_kept;
    for (int64_t i = global_thread(); i < n; i += global_threads())
        keep[i] = order_index(batch.kept_orders[i]);
    if (global_thread() == 0) *count = (int32_t)n;
}

void forward(const op_call *call) {
    scratch_cutter scratch = scratch_cutter_of(call, false);
    job j = make_job(call, &scratch);
    unsigned grid = max(cuda_grid(j.rows.capacity, THREADS), 1u); /* no rows: the counts are written */
    LAUNCH(order_kernel, grid, THREADS, 0, call->stream, j);
    j.batch.orders = segment_sort(
        j.orders, j.spare, sort_segments{1, j.rows.capacity, j.batch.stride, nullptr, j.count}, call->stream);
    LAUNCH(gather_kernel, grid, THREADS, 0, call->stream, j);
    nms_batch_run(j.batch, call->stream);
    LAUNCH(keep_kernel, grid, THREADS, 0, call->stream, tensor_i32(call->out[0]), tensor_i32(call->out[1]),
           j.batch);
}

const op_kernel bitmask = {"cuda_bitmask", forward, nullptr, scratch_bytes};

} // namespace

extern "C" const op_kernel *const nms_cuda[] = {&bitmask, nullptr};
