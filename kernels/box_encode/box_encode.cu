/* box_encode, a thread for each box. */
#include "box_math.cuh"

extern "C" {
#include "box_encode/box_encode.h"
}

namespace {

enum { THREADS = 256 };

__global__ void __launch_bounds__(THREADS)
    encode_kernel(float *y, const float *boxes, const float *reference, row_count rows, box_weights weights) {
    int64_t n = valid_rows(rows);
    for (int64_t i = global_thread(); i < n; i += global_threads())
        box_encode_one(y + 4 * i, boxes + 4 * i, reference + 4 * i, weights);
}

void forward(const op_call *call) {
    const auto *p = static_cast<const box_encode_params *>(call->params);
    const tensor *boxes = call->in[BOX_ENCODE_BOXES];
    LAUNCH(encode_kernel, cuda_grid(boxes->shape[0], THREADS), THREADS, 0, call->stream,
           tensor_f32(call->out[0]), tensor_f32(boxes), tensor_f32(call->in[BOX_ENCODE_REFERENCE]),
           row_count_of(boxes), box_weights_of(p->weights));
}

const op_kernel boxes = {"cuda_boxes", forward, nullptr, nullptr};

} // namespace

extern "C" const op_kernel *const box_encode_cuda[] = {&boxes, nullptr};
