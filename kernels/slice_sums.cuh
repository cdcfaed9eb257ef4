/* The second half of a sum that was cut into slices side by side: partial sums [slices,count] are added in the order of slices
 * and given to a gradient. */
#ifndef KERNELS_SLICE_SUMS_CUH
#define KERNELS_SLICE_SUMS_CUH

#include "cuda_common.cuh"

enum { SLICE_SUM_THREADS = 256, SLICE_SUM_GROUPS = 8 };

/* A block of (columns, groups) threads: group g of a column adds slices g, g + groups, ... */
template <int THREADS>
__global__ void __launch_bounds__(THREADS)
    slice_sums_kernel(gradient_sink to, const float *partial, int slices, int64_t count) {
    SHARED_ARRAY(float, group_sums, THREADS);
    int columns = (int)blockDim.x, groups = (int)blockDim.y, column = (int)threadIdx.x;
    for (int64_t first = (int64_t)blockIdx.x * columns; first < count;
         first += (int64_t)gridDim.x * columns) {
        int64_t i = first + column;
        float sum = 0;
#pragma unroll 4
        for (int s = (int)threadIdx.y; s < slices && i < count; s += groups) sum += partial[s * count + i];
        if (groups > 1) { /* the same in every thread */
            group_sums[threadIdx.y * columns + column] = sum;
            __syncthreads();
            sum = group_sums[column];
            for (int g = 1; g < groups; g++) sum += group_sums[g * columns + column];
            __syncthreads();
        }
        if (threadIdx.y == 0 && i < count) to.put(i, sum);
    }
}

/* to[i] = sum over s < slices of partial[s][i] */
inline void slice_sums(const op_call *call, const gradient_sink &to, const float *partial, int slices,
                       int64_t count) {
    int groups = slices >= 4 * SLICE_SUM_GROUPS ? SLICE_SUM_GROUPS : 1, columns = SLICE_SUM_THREADS / groups;
    LAUNCH(slice_sums_kernel<SLICE_SUM_THREADS>, cuda_grid(count, columns),
           dim3((unsigned)columns, (unsigned)groups), 0, call->stream, to, partial, slices, count);
}

#endif
