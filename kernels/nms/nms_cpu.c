/* Reference of nms: rank by counting, then every pair. */
#include "nms/nms.h"

#include "box_math.h"

static bool ranks_before(const REAL *scores, int64_t a, int64_t b) {
    bool a_nan = scores[a] != scores[a], b_nan = scores[b] != scores[b];
    if (a_nan != b_nan) return b_nan;
    if (!a_nan && scores[a] != scores[b]) return scores[a] > scores[b];
    return a < b;
}

static size_t scratch_bytes(const op_call *call, bool backward) {
    (void)backward;
    return (size_t)call->in[NMS_BOXES]->shape[0] * sizeof(int32_t);
}

static void forward(const op_call *call) {
    const nms_params *p = call->params;
    const REAL *boxes = call->in[NMS_BOXES]->data, *scores = call->in[NMS_SCORES]->data;
    const int32_t *groups = call->in[NMS_GROUPS] ? call->in[NMS_GROUPS]->data : NULL;
    int32_t *keep = call->out[0]->data, *order = call->scratch;
    int64_t rows = tensor_valid_rows(call->in[NMS_BOXES]);
    for (int64_t i = 0; i < rows; i++) {
        int64_t rank = 0;
        for (int64_t j = 0; j < rows; j++) rank += ranks_before(scores, j, i);
        order[rank] = (int32_t)i;
    }
    int32_t kept = 0;
    for (int64_t i = 0; i < rows; i++) {
        const REAL *box = boxes + 4 * (int64_t)order[i];
        bool removed = false;
        for (int32_t k = 0; k < kept && !removed; k++) {
            if (groups && groups[keep[k]] != groups[order[i]]) continue;
            const REAL *other = boxes + 4 * (int64_t)keep[k];
            removed = (double)box_iou(other, box_area(other), box, box_area(box)) > p->iou_threshold;
        }
        if (!removed) keep[kept++] = order[i];
    }
    *tensor_i32(call->out[1]) = kept;
}

const op_kernel REAL_NAME(nms_reference) = {
    .name = REAL_KERNEL_NAME, .forward = forward, .scratch_bytes = scratch_bytes};
