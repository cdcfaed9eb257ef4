/* Reference of proposal_rois; also the one that ships: a few kilobytes are copied. */
#include "proposal_rois/proposal_rois.h"

static void forward(const op_call *call) {
    const tensor *proposals = call->in[PROPOSAL_ROIS_PROPOSALS];
    const int32_t *counts = tensor_i32(call->in[PROPOSAL_ROIS_COUNTS]);
    const REAL *boxes = proposals->data;
    REAL *rois = call->out[PROPOSAL_ROIS_ROIS]->data;
    int32_t row = 0;
    for (int64_t n = 0; n < proposals->shape[0]; n++)
        for (int32_t i = 0; i < counts[n]; i++, row++) {
            rois[5 * row] = (REAL)n;
            for (int k = 0; k < 4; k++) rois[5 * row + 1 + k] = boxes[(n * proposals->shape[1] + i) * 4 + k];
        }
    *tensor_i32(call->out[PROPOSAL_ROIS_COUNT]) = row;
}

const op_kernel REAL_NAME(proposal_rois_reference) = {.name = REAL_KERNEL_NAME, .forward = forward};
