/* Reference of roi_align: sample by sample. */
#include "roi_align/roi_align.h"

#include "roi_align_plain.h"

static roi_map map_of(const op_call *call) {
    const int64_t *shape = call->in[ROI_ALIGN_X]->shape;
    const roi_align_params *p = call->params;
    return (roi_map){
        .height = shape[1], .width = shape[2], .channels = shape[3], .scale = (REAL)p->spatial_scale};
}

static void each_roi(const op_call *call, roi_plain plain, REAL *y, roi_visit visit) {
    const roi_align_params *p = call->params;
    roi_sampling sampling = {p->output_size, p->sampling_ratio, p->aligned};
    roi_map map = map_of(call);
    const REAL *rois = call->in[ROI_ALIGN_ROIS]->data, *x = plain.x;
    REAL *d_x = plain.d_x;
    int64_t rows = tensor_valid_rows(call->in[ROI_ALIGN_ROIS]),
            image_size = map.height * map.width * map.channels;
    plain.channels = map.channels;
    plain.output_size = p->output_size;
    for (int64_t r = 0; r < rows; r++) {
        int64_t image = (int64_t)rois[5 * r];
        plain.x = x ? x + image * image_size : NULL;
        plain.d_x = d_x ? d_x + image * image_size : NULL;
        plain.y = y + r * p->output_size * p->output_size * map.channels;
        roi_align_visit(rois + 5 * r, &map, &sampling, visit, &plain);
    }
}

static void forward(const op_call *call) {
    REAL *y = call->out[0]->data;
    int64_t count = tensor_valid_rows(call->out[0]) * tensor_row_size(call->out[0]);
    for (int64_t i = 0; i < count; i++) y[i] = 0;
    each_roi(call, (roi_plain){.x = call->in[ROI_ALIGN_X]->data}, y, roi_plain_read);
}

static void backward(const op_call *call) {
    tensor *d_x = call->d_in[ROI_ALIGN_X];
    if (!d_x) return;
    int64_t count = tensor_count(d_x);
    for (int64_t i = 0; i < count && !call->accumulate[ROI_ALIGN_X]; i++) ((REAL *)d_x->data)[i] = 0;
    if (call->d_out[0]) each_roi(call, (roi_plain){.d_x = d_x->data}, call->d_out[0]->data, roi_plain_add);
}

const op_kernel REAL_NAME(roi_align_reference) = {
    .name = REAL_KERNEL_NAME, .forward = forward, .backward = backward};
