/* sigmoid_bce, a warp for each row of logits. */
#include "loss_rows.cuh"

extern "C" {
#include "sigmoid_bce/sigmoid_bce.h"
}

namespace {

template <class T> struct sigmoid_bce_row {
    const T *logits;
    const float *targets, *weights; /* weights NULL: all count as 1 */
    T *d_logits;                    /* backward only */
    int64_t size;
    bool accumulate;

    __device__ double loss(int64_t row) const {
        float weight = weights ? weights[row] : 1.0f;
        if (weight == 0) return 0;
        const T *x = logits + row * size;
        const float *t = targets + row * size;
        double sum = 0;
        for (int64_t k = threadIdx.x % 32; k < size; k += 32) {
            float z = to_float(x[k]);
            /* The line in double: it cancels to 0 where a large logit is right. */
            sum += (double)log1pf(expf(-fabsf(z))) + ((double)fmaxf(z, 0.0f) - (double)z * (double)t[k]);
        }
        return (double)weight * warp_sum(sum);
    }

    __device__ void gradient(int64_t row, float scale) const {
        float weight = weights ? weights[row] : 1.0f;
        const T *x = logits + row * size;
        const float *t = targets + row * size;
        T *d_x = d_logits + row * size;
        for (int64_t k = threadIdx.x % 32; k < size; k += 32) {
            float d = 0;
            if (weight != 0) {
                float z = to_float(x[k]), e = expf(-fabsf(z)), y = (z < 0 ? e : 1.0f) / (1.0f + e);
                d = weight * (y - t[k]) * scale;
            }
            d_x[k] = from_float<T>(accumulate ? to_float(d_x[k]) + d : d);
        }
    }
};

template <class T> sigmoid_bce_row<T> row_of(const op_call *call) {
    const tensor *logits = call->in[SIGMOID_BCE_LOGITS];
    return {tensor_as<T>(logits),
            tensor_f32(call->in[SIGMOID_BCE_TARGETS]),
            tensor_as<float>(call->in[SIGMOID_BCE_WEIGHTS]),
            tensor_as<T>(call->d_in[SIGMOID_BCE_LOGITS]),
            tensor_row_size(logits),
            call->accumulate[SIGMOID_BCE_LOGITS]};
}

double normalizer_of(const op_call *call) {
    return static_cast<const sigmoid_bce_params *>(call->params)->normalizer;
}

void forward(const op_call *call) {
    dispatch_real(op_storage_type(call), [&](auto zero) {
        loss_rows_cuda_forward(call, normalizer_of(call), SIGMOID_BCE_COUNT, row_of<decltype(zero)>(call));
    });
}

void backward(const op_call *call) {
    dispatch_real(op_storage_type(call), [&](auto zero) {
        loss_rows_cuda_backward(call, normalizer_of(call), SIGMOID_BCE_COUNT, row_of<decltype(zero)>(call));
    });
}

const op_kernel warp_rows = {"cuda_warp_rows", forward, backward, loss_rows_cuda_scratch};

} // namespace

extern "C" const op_kernel *const sigmoid_bce_cuda[] = {&warp_rows, nullptr};
