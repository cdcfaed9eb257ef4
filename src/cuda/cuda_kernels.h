/* The CUDA kernels by op name. The table is built from kernels/ops.def: an op has CUDA kernels when the file
 * kernels/<op>/<op>.cu is there, which defines
 *
 *   extern "C" const op_kernel *const <op>_cuda[] = {&the_one_that_ships, &another, ..., nullptr};
 *
 * It is linked into what contains those kernels (the CUDA plug-in; tests/cuda_on_cpu), never into the program itself: an op's
 * op_def knows its CPU kernels only. */
#ifndef CUDA_CUDA_KERNELS_H
#define CUDA_CUDA_KERNELS_H

#include "autograd/op.h"

/* All CUDA kernels of an op, the one that ships first, NULL behind the last; NULL: it has none. */
const op_kernel *const *cuda_kernels_find(const char *op_name);

#endif
