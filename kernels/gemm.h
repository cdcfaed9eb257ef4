/* The one door to CBLAS: row-major single-precision matrix products on the calling thread. The library's own
 * threads are switched off at the first call; callers cut work into tiles by shape and spread them with
 * parallel_for, so the number of threads changes no bit. */
#ifndef KERNELS_GEMM_H
#define KERNELS_GEMM_H

#include <stdbool.h>
#include <stdint.h>

typedef struct gemm_matrix {
    const float *data;
    int64_t stride;  /* elements from one stored row to the next */
    bool transposed; /* use the transpose of what is stored */
} gemm_matrix;

/* c [m,n] (row stride c_stride) = a [m,k] * b [k,n] + beta * c. With beta 0, c is not read. k may be 0. */
void gemm(float *c, int64_t c_stride, gemm_matrix a, gemm_matrix b, const int64_t mnk[3], float beta);

#endif
