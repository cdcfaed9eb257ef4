/* What a device can do at best, measured with what the program has: the bounds that kernels are compared with. */
#ifndef BENCH_PEAK_H
#define BENCH_PEAK_H

#include "autograd/tensor.h"
#include "device/device.h"

/* GFLOP/s of a product of square matrices: the fastest of the kernels of `linear` (on the CPU the program's own and
 * BLAS). Products with Winograd's transform can exceed it, since FLOPs are counted as direct sums. */
status peak_gemm(double *gflops, device *dev, dtype storage, bool tf32);

/* GB/s to and from memory, on arrays far larger than the caches. CPU: the triad a = b + s c on all threads, counted as three
 * floats an element; GPU: a copy within its memory, counted as read and written. */
status peak_memory(double *gb_per_s, device *dev);

#endif
