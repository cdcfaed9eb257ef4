/* softmax_cross_entropy, a warp for each row of logits. */
#include "loss_rows.cuh"

extern "C" {
#include "softmax_cross_entropy/softmax_cross_entropy.h"
}

namespace {

template <class T> struct softmax_row {
    const T *logits;
    const int32_t *labels;
    T *d_logits; /* backward only */
    int classes;
    bool accumulate;

    /* Largest logit, and sum of exp(logit - largest), which is at least 1. */
    __device__ float largest_and_sum(const T *x, float *sum) const {
        float largest = -INFINITY, total = 0;
        int lane = (int)threadIdx.x % 32;
        for (int c = lane; c < classes; c += 32) largest = fmaxf(largest, to_float(x[c]));
        largest = warp_largest(largest);
        for (int c = lane; c < classes; c += 32) total += expf(to_float(x[c]) - largest);
        *sum = warp_sum(total);
        return largest;
    }

    __device__ double loss(int64_t row) const {
        int label = labels[row];
        if (label < 0) return 0;
        const T *x = logits + row * classes;
        float sum, largest = largest_and_sum(x, &sum);
        /* The two parts apart: log(sum) is lost beside a large difference. */
        return (double)logf(sum) + ((double)largest - (double)to_float(x[label]));
    }

    __device__ void gradient(int64_t row, float scale) const {
        int label = labels[row];
        const T *x = logits + row * classes;
        T *d_x = d_logits + row * classes;
        float sum = 1, largest = 0;
        if (label >= 0) largest = largest_and_sum(x, &sum);
        for (int c = (int)threadIdx.x % 32; c < classes; c += 32) {
            float d = label < 0 ? 0.0f
                                : (expf(to_float(x[c]) - largest) / sum - (c == label ? 1.0f : 0.0f)) * scale;
            d_x[c] = from_float<T>(accumulate ? to_float(d_x[c]) + d : d);
        }
    }
};

template <class T> softmax_row<T> row_of(const op_call *call) {
    const tensor *logits = call->in[SOFTMAX_CROSS_ENTROPY_LOGITS];
    return {tensor_as<T>(logits), tensor_i32(call->in[SOFTMAX_CROSS_ENTROPY_LABELS]),
            tensor_as<T>(call->d_in[SOFTMAX_CROSS_ENTROPY_LOGITS]), (int)logits->shape[1],
            call->accumulate[SOFTMAX_CROSS_ENTROPY_LOGITS]};
}

double normalizer_of(const op_call *call) {
    return static_cast<const softmax_cross_entropy_params *>(call->params)->normalizer;
}

void forward(const op_call *call) {
    dispatch_real(op_storage_type(call), [&](auto zero) {
        loss_rows_cuda_forward(call, normalizer_of(call), SOFTMAX_CROSS_ENTROPY_COUNT,
                               row_of<decltype(zero)>(call));
    });
}

void backward(const op_call *call) {
    dispatch_real(op_storage_type(call), [&](auto zero) {
        loss_rows_cuda_backward(call, normalizer_of(call), SOFTMAX_CROSS_ENTROPY_COUNT,
                                row_of<decltype(zero)>(call));
    });
}

const op_kernel warp_rows = {"cuda_warp_rows", forward, backward, loss_rows_cuda_scratch};

} // namespace

extern "C" const op_kernel *const softmax_cross_entropy_cuda[] = {&warp_rows, nullptr};
