#include "roi_grid.h"

#include "case_boxes.h"

void roi_grid_prepare(const op_call *call) {
    const tensor *x = call->in[0];
    case_boxes_corners(call->in[1], x->shape[0], (double)x->shape[1]);
}
