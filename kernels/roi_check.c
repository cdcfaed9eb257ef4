#include "roi_check.h"

#include "roi_bins.h"

status roi_check_shape(const op_call *call, int rois) {
    RETURN_IF_ERROR(op_expect_rank(call, rois, 2));
    return op_expect_dim(call, rois, 1, 5, "image, x1, y1, x2, y2");
}

status roi_check_params(const op_call *call, int output_size, int sampling_ratio) {
    if (output_size < 1 || output_size > ROI_MAX_OUTPUT_SIZE)
        return op_bad_attr(call, "output_size", "from 1 to 512");
    if (sampling_ratio > ROI_MAX_SAMPLING_RATIO) return op_bad_attr(call, "sampling_ratio", "at most 512");
    return STATUS_OK;
}

status roi_check_values(const op_call *call, int rois, int64_t images) {
    const tensor *t = call->in[rois];
    int64_t rows = tensor_valid_rows(t);
    for (int64_t r = 0; r < rows; r++) {
        double image = tensor_get(t, 5 * r);
        if (!(image >= 0 && image < (double)images) || image != floor(image))
            return error_set(STATUS_DATA, "give an image index for each region",
                             "%s: tensor %s has image index %g in row %lld, expected 0 to %lld",
                             call->op->name, call->op->input_names[rois], image, (long long)r,
                             (long long)images - 1);
        for (int k = 1; k < 5; k++)
            if (!isfinite(tensor_get(t, 5 * r + k)))
                return error_set(STATUS_DATA, "give finite coordinates",
                                 "%s: tensor %s has a coordinate that is not finite in row %lld",
                                 call->op->name, call->op->input_names[rois], (long long)r);
    }
    return STATUS_OK;
}
