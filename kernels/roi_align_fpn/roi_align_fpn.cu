/* roi_align_fpn on kernels/roi_align.cuh. */
#include "roi_align.cuh"

extern "C" {
#include "roi_align_fpn/roi_align_fpn.h"
}

namespace {

template <class T> roi_align_job<T> job_of(const op_call *call) {
    const auto *p = static_cast<const roi_align_fpn_params *>(call->params);
    roi_align_job<T> job = {};
    job.levels = ROI_LEVELS;
    for (int i = 0; i < ROI_LEVELS; i++) job.level[i].scale = 1.0f / (float)(4 << i);
    job.level_eps = (float)p->level_eps;
    job.sampling = {p->output_size, p->sampling_ratio, p->aligned};
    return job;
}

size_t scratch_bytes(const op_call *call, bool backward) {
    return backward ? roi_places_bytes(call->in[ROI_ALIGN_FPN_ROIS]) : 0;
}

void forward(const op_call *call) {
    dispatch_real(op_storage_type(call), [&](auto zero) {
        roi_align_cuda_forward(job_of<decltype(zero)>(call), call, call->in[ROI_ALIGN_FPN_ROIS]);
    });
}

void backward(const op_call *call) {
    dispatch_real(op_storage_type(call), [&](auto zero) {
        roi_align_cuda_backward(job_of<decltype(zero)>(call), call, call->in[ROI_ALIGN_FPN_ROIS]);
    });
}

const op_kernel tiles = {"cuda_tiles", forward, backward, scratch_bytes};

} // namespace

extern "C" const op_kernel *const roi_align_fpn_cuda[] = {&tiles, nullptr};
