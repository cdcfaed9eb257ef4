#include "cuda/cuda_kernels.h"

#include <string.h>

/* cuda_ops.def is written by cmake/Cuda.cmake: the ops of ops.def that have a .cu file, in its order. */
#define OP(name) extern const op_kernel *const name##_cuda[];
#include "cuda_ops.def"
#undef OP

static const struct {
    const char *op;
    const op_kernel *const *kernels;
} table[] = {
#define OP(name) {#name, name##_cuda},
#include "cuda_ops.def"
#undef OP
};

const op_kernel *const *cuda_kernels_find(const char *op_name) {
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(table[i].op, op_name) == 0) return table[i].kernels;
    return NULL;
}
