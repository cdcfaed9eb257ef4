/* box_decode, a thread for each box. */
#include "box_math.cuh"

extern "C" {
#include "box_decode/box_decode.h"
}

namespace {

enum { THREADS = 256 };

__global__ void __launch_bounds__(THREADS)
    decode_kernel(float *y, const float *deltas, const float *reference, row_count rows, box_weights weights,
                  float clip) {
    int64_t n = valid_rows(rows);
    for (int64_t i = global_thread(); i < n; i += global_threads())
        box_decode_one(y + 4 * i, deltas + 4 * i, reference + 4 * i, weights, clip);
}

void forward(const op_call *call) {
    const auto *p = static_cast<const box_decode_params *>(call->params);
    const tensor *deltas = call->in[BOX_DECODE_DELTAS];
    LAUNCH(decode_kernel, cuda_grid(deltas->shape[0], THREADS), THREADS, 0, call->stream,
           tensor_f32(call->out[0]), tensor_f32(deltas), tensor_f32(call->in[BOX_DECODE_REFERENCE]),
           row_count_of(deltas), box_weights_of(p->weights), p->clip);
}

const op_kernel boxes = {"cuda_boxes", forward, nullptr, nullptr};

} // namespace

extern "C" const op_kernel *const box_decode_cuda[] = {&boxes, nullptr};
