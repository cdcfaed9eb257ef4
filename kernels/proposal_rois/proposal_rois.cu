/* proposal_rois, a block for each image: it adds up the counts of the images before its own, then copies. */
#include "cuda_common.cuh"

extern "C" {
#include "proposal_rois/proposal_rois.h"
}

namespace {

enum { THREADS = 256 };

/* The last block knows the sum of all counts; without images there is one block. */
__global__ void __launch_bounds__(THREADS) pack_kernel(float *rois, int32_t *count, const float *proposals,
                                                       const int32_t *counts, int images, int64_t capacity) {
    int image = (int)blockIdx.x, before = 0;
    for (int k = (int)threadIdx.x; k < image; k += THREADS) before += counts[k];
    before = block_sum<THREADS>(before);
    int own = image < images ? counts[image] : 0;
    if (image + 1 >= images && threadIdx.x == 0) *count = before + own;
    const float *boxes = proposals + image * capacity * 4;
    float *out = rois + (int64_t)before * 5;
    for (int i = (int)threadIdx.x; i < own; i += THREADS) {
        out[5 * i] = (float)image;
        for (int k = 0; k < 4; k++) out[5 * i + 1 + k] = boxes[4 * i + k];
    }
}

void forward(const op_call *call) {
    const tensor *proposals = call->in[PROPOSAL_ROIS_PROPOSALS];
    int64_t images = proposals->shape[0];
    LAUNCH(pack_kernel, (unsigned)(images > 0 ? images : 1), THREADS, 0, call->stream,
           tensor_f32(call->out[PROPOSAL_ROIS_ROIS]), tensor_i32(call->out[PROPOSAL_ROIS_COUNT]),
           tensor_f32(proposals), tensor_i32(call->in[PROPOSAL_ROIS_COUNTS]), images, proposals->shape[1]);
}

const op_kernel images = {"cuda_images", forward, nullptr, nullptr};

} // namespace

extern "C" const op_kernel *const proposal_rois_cuda[] = {&images, nullptr};
