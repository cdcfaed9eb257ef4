/* roi_align on kernels/roi_align_bands.h. */
#include "roi_align/roi_align.h"

#include "roi_align_bands.h"

static roi_bands_job make_job(const op_call *call) {
    const roi_align_params *p = call->params;
    const tensor *x = call->in[ROI_ALIGN_X], *rois = call->in[ROI_ALIGN_ROIS];
    return (roi_bands_job){
        .levels = 1,
        .level[0] = {.height = x->shape[1], .width = x->shape[2], .scale = (float)p->spatial_scale},
        .images = x->shape[0],
        .channels = x->shape[3],
        .capacity = rois->shape[0],
        .sampling = {p->output_size, p->sampling_ratio, p->aligned},
        .scratch = call->scratch,
    };
}

static size_t scratch_bytes(const op_call *call, bool backward) {
    (void)backward;
    roi_bands_job job = make_job(call);
    return roi_bands_scratch(&job);
}

static void forward(const op_call *call) {
    roi_bands_job job = make_job(call);
    job.level[0].x = tensor_f32(call->in[ROI_ALIGN_X]);
    job.rois = tensor_f32(call->in[ROI_ALIGN_ROIS]);
    job.rows = tensor_valid_rows(call->in[ROI_ALIGN_ROIS]);
    job.y = tensor_f32(call->out[0]);
    roi_bands_forward(&job);
}

static void backward(const op_call *call) {
    if (!call->d_in[ROI_ALIGN_X]) return;
    roi_bands_job job = make_job(call);
    job.level[0].d_x = tensor_f32(call->d_in[ROI_ALIGN_X]);
    job.level[0].accumulate = call->accumulate[ROI_ALIGN_X];
    job.rois = tensor_f32(call->in[ROI_ALIGN_ROIS]);
    job.rows = tensor_valid_rows(call->in[ROI_ALIGN_ROIS]);
    job.d_y = call->d_out[0] ? tensor_f32(call->d_out[0]) : NULL;
    roi_bands_backward(&job);
}

const op_kernel roi_align_bands = {
    .name = "bands", .forward = forward, .backward = backward, .scratch_bytes = scratch_bytes};
