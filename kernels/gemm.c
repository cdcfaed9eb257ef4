#include "gemm.h"

#include <cblas.h>
#include <pthread.h>
#include <string.h>

/* Present in OpenBLAS only; another CBLAS is told through its environment variables. */
extern void openblas_set_num_threads(int count) __attribute__((weak));

static void use_one_thread(void) {
    if (openblas_set_num_threads) openblas_set_num_threads(1);
}

void gemm(float *c, int64_t c_stride, gemm_matrix a, gemm_matrix b, const int64_t mnk[3], float beta) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, use_one_thread);
    int64_t m = mnk[0], n = mnk[1], k = mnk[2];
    if (m <= 0 || n <= 0) return;
    if (k == 0) {
        for (int64_t i = 0; i < m && beta == 0.0f; i++) memset(c + i * c_stride, 0, (size_t)n * sizeof *c);
        return;
    }
    cblas_sgemm(CblasRowMajor, a.transposed ? CblasTrans : CblasNoTrans,
                b.transposed ? CblasTrans : CblasNoTrans, (blasint)m, (blasint)n, (blasint)k, 1.0f, a.data,
                (blasint)a.stride, b.data, (blasint)b.stride, beta, c, (blasint)c_stride);
}
