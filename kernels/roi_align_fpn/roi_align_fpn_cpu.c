/* Reference of roi_align_fpn: sample by sample on the region's level. */
#include "roi_align_fpn/roi_align_fpn.h"

#include "roi_align_plain.h"

/* `forward`: reads maps into `y`; else adds what is in `y` to the gradients of the maps that are wanted. */
static void each_roi(const op_call *call, REAL *y, bool forward) {
    const roi_align_fpn_params *p = call->params;
    roi_sampling sampling = {p->output_size, p->sampling_ratio, p->aligned};
    const REAL *rois = call->in[ROI_ALIGN_FPN_ROIS]->data;
    int64_t rows = tensor_valid_rows(call->in[ROI_ALIGN_FPN_ROIS]);
    for (int64_t r = 0; r < rows; r++) {
        int level = roi_level(rois + 5 * r, p->level_eps);
        const tensor *x = call->in[level];
        roi_map map = {x->shape[1], x->shape[2], x->shape[3], (REAL)1 / (REAL)(4 << level)};
        int64_t image = (int64_t)rois[5 * r] * map.height * map.width * map.channels;
        roi_plain plain = {.y = y + r * p->output_size * p->output_size * map.channels,
                           .channels = map.channels,
                           .output_size = p->output_size};
        if (forward) {
            plain.x = (const REAL *)x->data + image;
            roi_align_visit(rois + 5 * r, &map, &sampling, roi_plain_read, &plain);
        } else if (call->d_in[level]) {
            plain.d_x = (REAL *)call->d_in[level]->data + image;
            roi_align_visit(rois + 5 * r, &map, &sampling, roi_plain_add, &plain);
        }
    }
}

static void forward(const op_call *call) {
    REAL *y = call->out[0]->data;
    int64_t count = tensor_valid_rows(call->out[0]) * tensor_row_size(call->out[0]);
    for (int64_t i = 0; i < count; i++) y[i] = 0;
    each_roi(call, y, true);
}

static void backward(const op_call *call) {
    for (int level = 0; level < ROI_LEVELS; level++) {
        tensor *d_x = call->d_in[level];
        int64_t count = d_x && !call->accumulate[level] ? tensor_count(d_x) : 0;
        for (int64_t i = 0; i < count; i++) ((REAL *)d_x->data)[i] = 0;
    }
    if (call->d_out[0]) each_roi(call, call->d_out[0]->data, false);
}

const op_kernel REAL_NAME(roi_align_fpn_reference) = {
    .name = REAL_KERNEL_NAME, .forward = forward, .backward = backward};
