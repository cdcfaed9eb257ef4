/* loss_rows.h on CUDA: a warp takes a row, a block's rows are summed in double into one number of scratch, one block adds those
 * in order and divides.
 *
 * An op gives a functor R (passed by value) with
 *   __device__ double loss(int64_t row) const                 every lane of a warp calls it and gets the row's loss
 *   __device__ void gradient(int64_t row, float scale) const  writes d_in[0] of the row, the lanes share its elements */
#ifndef KERNELS_LOSS_ROWS_CUH
#define KERNELS_LOSS_ROWS_CUH

#include "cuda_common.cuh"

constexpr unsigned LOSS_THREADS = 256, LOSS_WARPS = LOSS_THREADS / 32, LOSS_BLOCKS = 1024;

inline unsigned loss_rows_grid(const op_call *call) {
    unsigned grid = cuda_grid(row_count_of(call->in[0]).capacity, LOSS_WARPS);
    return grid < LOSS_BLOCKS ? grid : LOSS_BLOCKS;
}

inline size_t loss_rows_cuda_scratch(const op_call *call, bool backward) {
    return backward ? 0 : loss_rows_grid(call) * sizeof(double);
}

__device__ inline double loss_denominator(double normalizer, const float *count) {
    return normalizer * (count ? fmax((double)*count, 1.0) : 1.0);
}

template <class R>
__global__ void __launch_bounds__(LOSS_THREADS)
    loss_rows_forward_kernel(double *partial, R row_of, row_count rows) {
    int64_t n = valid_rows(rows), step = (int64_t)gridDim.x * LOSS_WARPS;
    double sum = 0;
    for (int64_t i = (int64_t)blockIdx.x * LOSS_WARPS + threadIdx.x / 32; i < n; i += step)
        sum += row_of.loss(i);
    sum = block_sum<LOSS_THREADS>(threadIdx.x % 32 == 0 ? sum : 0.0);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

/* One block. */
template <unsigned THREADS>
__global__ void __launch_bounds__(THREADS)
    loss_rows_sum_kernel(float *loss, const double *partial, int n, double normalizer, const float *count) {
    double sum = 0;
    for (int i = (int)threadIdx.x; i < n; i += THREADS) sum += partial[i];
    sum = block_sum<THREADS>(sum);
    if (threadIdx.x == 0) *loss = (float)(sum / loss_denominator(normalizer, count));
}

template <class R>
__global__ void __launch_bounds__(LOSS_THREADS)
    loss_rows_backward_kernel(R row_of, row_count rows, const float *d_loss, double normalizer,
                              const float *count) {
    int64_t n = valid_rows(rows), step = (int64_t)gridDim.x * LOSS_WARPS;
    float scale = (float)((double)*d_loss / loss_denominator(normalizer, count));
    for (int64_t i = (int64_t)blockIdx.x * LOSS_WARPS + threadIdx.x / 32; i < n; i += step)
        row_of.gradient(i, scale);
}

inline const float *loss_rows_count(const op_call *call, int count_input) {
    return call->in[count_input] ? tensor_f32(call->in[count_input]) : nullptr;
}

template <class R>
void loss_rows_cuda_forward(const op_call *call, double normalizer, int count_input, R row_of) {
    unsigned grid = loss_rows_grid(call);
    double *partial = static_cast<double *>(call->scratch);
    LAUNCH(loss_rows_forward_kernel<R>, grid, LOSS_THREADS, 0, call->stream, partial, row_of,
           row_count_of(call->in[0]));
    LAUNCH(loss_rows_sum_kernel<LOSS_THREADS>, 1, LOSS_THREADS, 0, call->stream, tensor_f32(call->out[0]),
           partial, (int)grid, normalizer, loss_rows_count(call, count_input));
}

template <class R>
void loss_rows_cuda_backward(const op_call *call, double normalizer, int count_input, R row_of) {
    if (!call->d_in[0]) return;
    LAUNCH(loss_rows_backward_kernel<R>, loss_rows_grid(call), LOSS_THREADS, 0, call->stream, row_of,
           row_count_of(call->in[0]), tensor_f32(call->d_out[0]), normalizer,
           loss_rows_count(call, count_input));
}

#endif
