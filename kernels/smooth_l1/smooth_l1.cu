/* smooth_l1, a warp for each row of predictions. */
#include "loss_rows.cuh"

extern "C" {
#include "smooth_l1/smooth_l1.h"
}

namespace {

template <class T> struct smooth_l1_row {
    const T *pred;
    const float *target, *weights;
    T *d_pred; /* backward only */
    int64_t size;
    float beta;
    bool accumulate;

    __device__ double loss(int64_t row) const {
        float weight = weights[row];
        if (weight == 0) return 0;
        const T *x = pred + row * size;
        const float *t = target + row * size;
        double sum = 0;
        for (int64_t k = threadIdx.x % 32; k < size; k += 32) {
            float d = fabsf(to_float(x[k]) - t[k]);
            sum += (double)(d < beta ? 0.5f * d * (d / beta) : d - 0.5f * beta);
        }
        return (double)weight * warp_sum(sum);
    }

    __device__ void gradient(int64_t row, float scale) const {
        float weight = weights[row];
        const T *x = pred + row * size;
        const float *t = target + row * size;
        T *d_x = d_pred + row * size;
        for (int64_t k = threadIdx.x % 32; k < size; k += 32) {
            float d = to_float(x[k]) - t[k], g = 0;
            float slope = fabsf(d) < beta ? d / beta : d > 0 ? 1.0f : d < 0 ? -1.0f : 0.0f;
            if (weight != 0) g = weight * slope * scale;
            d_x[k] = from_float<T>(accumulate ? to_float(d_x[k]) + g : g);
        }
    }
};

const smooth_l1_params *params_of(const op_call *call) {
    return static_cast<const smooth_l1_params *>(call->params);
}

template <class T> smooth_l1_row<T> row_of(const op_call *call) {
    const tensor *pred = call->in[SMOOTH_L1_PRED];
    return {tensor_as<T>(pred),
            tensor_f32(call->in[SMOOTH_L1_TARGET]),
            tensor_f32(call->in[SMOOTH_L1_WEIGHTS]),
            tensor_as<T>(call->d_in[SMOOTH_L1_PRED]),
            tensor_row_size(pred),
            (float)params_of(call)->beta,
            call->accumulate[SMOOTH_L1_PRED]};
}

void forward(const op_call *call) {
    dispatch_real(op_storage_type(call), [&](auto zero) {
        loss_rows_cuda_forward(call, params_of(call)->normalizer, SMOOTH_L1_COUNT,
                               row_of<decltype(zero)>(call));
    });
}

void backward(const op_call *call) {
    dispatch_real(op_storage_type(call), [&](auto zero) {
        loss_rows_cuda_backward(call, params_of(call)->normalizer, SMOOTH_L1_COUNT,
                                row_of<decltype(zero)>(call));
    });
}

const op_kernel warp_rows = {"cuda_warp_rows", forward, backward, loss_rows_cuda_scratch};

} // namespace

extern "C" const op_kernel *const smooth_l1_cuda[] = {&warp_rows, nullptr};
