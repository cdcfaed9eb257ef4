/* Convolutions and matrix products by cuDNN and cublasLt on the GPU of this process: which of them computes what, with which
 * plan. Where a library is missing, or has nothing for a description, nothing here answers and the caller's own kernel runs.
 *
 * The first use of a description looks for a kept plan (cudnn/plan_cache.h), else takes what the heuristics put first; in
 * tuning mode candidates are timed on the operands, and the fastest is kept. Only plans that give the same
 * bits every time are used. All is for one thread. */
#ifndef CUDA_LIBRARY_MATH_H
#define CUDA_LIBRARY_MATH_H

#include "autograd/op.h"
#include "cudnn/conv_graph.h"

/* While on, library_run times a description that it has not timed yet: device memory is written more than once and the host
 * waits, so never in a step. */
void library_tune(bool on);

/* Whether library_run can compute it with these operands (by CONV_X..., the one that is written included): something has a
 * plan, they are aligned to 16 bytes, and the workspace to OP_SCRATCH_ALIGNMENT. */
bool library_has(const conv_desc *d, void *const operands[CONV_OPERANDS], const void *workspace);

/* Queues it; only after library_has. The workspace has conv_desc_workspace(d) bytes. */
void library_run(const conv_desc *d, void *const operands[CONV_OPERANDS], void *workspace,
                 struct device_stream *stream);

/* Writes new plans to the cache and lets go of libraries and plans; the next use opens them again. */
void library_close(void);

#endif
