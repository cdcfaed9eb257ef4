#include "roi_cost.h"

void roi_cost_of_align(op_cost *cost, const op_call *call, bool backward, int rois, int sampling_ratio) {
    enum { TAPS = 4 };
    double per_axis = sampling_ratio > 0 ? sampling_ratio : 2, samples = per_axis * per_axis;
    const tensor *y = call->out[0];
    cost->flops = op_cost_elements(y) * (samples * 2 * TAPS + 1); /* weighted sums, then the mean */
    if (backward) return;
    double maps = 0, touched = op_cost_bytes(y) * samples * TAPS;
    for (int i = 0; i < rois; i++) maps += op_cost_bytes(call->in[i]);
    cost->read_bytes = op_cost_bytes(call->in[rois]) + (touched < maps ? touched : maps);
}
