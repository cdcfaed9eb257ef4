/* roi_align_fpn on kernels/roi_align_bands.h. */
#include "roi_align_fpn/roi_align_fpn.h"

#include "roi_align_bands.h"

static roi_bands_job make_job(const op_call *call) {
    const roi_align_fpn_params *p = call->params;
    const tensor *rois = call->in[ROI_ALIGN_FPN_ROIS];
    roi_bands_job job = {
        .levels = ROI_LEVELS,
        .images = call->in[0]->shape[0],
        .channels = call->in[0]->shape[3],
        .capacity = rois->shape[0],
        .sampling = {p->output_size, p->sampling_ratio, p->aligned},
        .level_eps = p->level_eps,
        .scratch = call->scratch,
    };
    for (int i = 0; i < ROI_LEVELS; i++) {
        job.level[i].height = call->in[i]->shape[1];
        job.level[i].width = call->in[i]->shape[2];
        job.level[i].scale = 1.0f / (float)(4 << i);
    }
    return job;
}

static size_t scratch_bytes(const op_call *call, bool backward) {
    (void)backward;
    roi_bands_job job = make_job(call);
    return roi_bands_scratch(&job);
}

static void forward(const op_call *call) {
    roi_bands_job job = make_job(call);
    for (int i = 0; i < ROI_LEVELS; i++) job.level[i].x = tensor_f32(call->in[i]);
    job.rois = tensor_f32(call->in[ROI_ALIGN_FPN_ROIS]);
    job.rows = tensor_valid_rows(call->in[ROI_ALIGN_FPN_ROIS]);
    job.y = tensor_f32(call->out[0]);
    roi_bands_forward(&job);
}

static void backward(const op_call *call) {
    roi_bands_job job = make_job(call);
    for (int i = 0; i < ROI_LEVELS; i++) {
        job.level[i].d_x = call->d_in[i] ? tensor_f32(call->d_in[i]) : NULL;
        job.level[i].accumulate = call->accumulate[i];
    }
    job.rois = tensor_f32(call->in[ROI_ALIGN_FPN_ROIS]);
    job.rows = tensor_valid_rows(call->in[ROI_ALIGN_FPN_ROIS]);
    job.d_y = call->d_out[0] ? tensor_f32(call->d_out[0]) : NULL;
    roi_bands_backward(&job);
}

const op_kernel roi_align_fpn_bands = {
    .name = "bands", .forward = forward, .backward = backward, .scratch_bytes = scratch_bytes};
