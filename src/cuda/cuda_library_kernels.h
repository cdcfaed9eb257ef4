/* Kernels of conv2d, conv2d_transpose and linear that let cuDNN and cublasLt compute (library_math.h). They stand before the
 * ops' own CUDA kernels, which run wherever a library has no plan or memory is not aligned to 16 bytes.
 *
 * The libraries know no counts of valid rows: rows behind the count are computed from whatever is there, and written; only
 * before a weight's gradient those of x and of the arriving gradient are cleared, so that they add nothing. In 16 bits the
 * bias is rounded like y. */
#ifndef CUDA_CUDA_LIBRARY_KERNELS_H
#define CUDA_CUDA_LIBRARY_KERNELS_H

#include "autograd/op.h"

/* NULL: the op has none. */
const op_kernel *cuda_library_kernel(const char *op_name);

/* Keeps new plans on disk and lets go of the libraries; when the device is closed. */
void cuda_library_close(void);

#endif
