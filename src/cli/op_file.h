/* One op on the arrays of a safetensors file. Inputs are found by their names; where the file also holds
 * `grad_<output>`, backward runs and `grad_<input>` of every differentiable input is written beside the
 * outputs. Other tensors of the file are ignored. Everything is checked before a kernel sees it: the file is
 * the world's. */
#ifndef CLI_OP_FILE_H
#define CLI_OP_FILE_H

#include "autograd/op.h"

struct device;

typedef struct op_file_job {
    const op_def *op;
    const char *const *attrs; /* NAME=VALUE */
    int attr_count;
    struct device *dev;      /* where the kernel runs */
    const op_kernel *kernel; /* NULL: the one that ships */
} op_file_job;

/* USAGE: attributes. DATA: a tensor is missing, or has another rank, size, dtype or value than the op allows
 * (it is named; for a mismatch both are). NO_INPUT: `in` is absent.
 * NO_DEVICE: `dev` has no kernel for the op. CANT_CREATE, NO_PERMISSION, IO: `out`. */
status op_file_run(const char *out, const char *in, const op_file_job *job);

#endif
