/* Stand-ins for cuDNN's graph functions, cublasLt and CUDA's events on a machine without a GPU: they keep what they are told and,
 * where the library would start kernels, compute just that in plain loops, strides, leading dimensions and transpositions as
 * described. What the libraries forbid fails or aborts. Workspaces are overwritten with NaN before a result is written. */
#ifndef FAKE_LIBRARIES_H
#define FAKE_LIBRARIES_H

#include "cuda/lt_api.h"
#include "cudnn/cudnn_api.h"

extern const cudnn_api fake_cudnn;
extern const lt_api fake_lt;

typedef struct fake_counts {
    long live;                   /* objects that were made and not destroyed, of both libraries */
    long convolutions, products; /* that ran */
    long plans_restored;         /* from their JSON */
} fake_counts;

extern fake_counts fake_seen;

/* Heuristics offer nothing for fused graphs, as cuDNN does where it cannot compile. */
extern int fake_refuses_fusions;

/* 0: neither library starts, as without a GPU. 1 at first. */
extern int fake_gpu_is_there;

/* 0: cuDNN does not tell what GPU it is. 1 at first. */
extern int fake_gpu_is_described;

/* Frees what destroyed objects still hold (plans outlive the graphs they were made of). */
void fake_libraries_free(void);

#endif
