/* Execution plans for a convolution's graph: on a GPU, or for a GPU that is not here from a description of it. */
#ifndef CUDNN_CONV_PLANS_H
#define CUDNN_CONV_PLANS_H

#include "cudnn/conv_graph.h"

/* What plans are made for. */
typedef struct cudnn_target {
    const cudnn_api *api;
    cudnnHandle_t handle;            /* borrowed; NULL: no GPU */
    cudnnBackendDescriptor_t device; /* properties of the GPU */
    char name[64];                   /* e.g. "NVIDIA H200" */
    int capability;                  /* compute capability times 10, e.g. 90 */
    size_t version;                  /* of cuDNN */
} cudnn_target;

/* From the JSON text of a GPU's properties, as cuDNN writes it (CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION). DATA: cuDNN
 * does not accept it, or it lacks deviceName or deviceVer. Release in any case. */
status cudnn_target_from_json(cudnn_target *target, const cudnn_api *api, const char *json);

/* From a handle on a GPU, which must outlive the target. NO_DEVICE. */
status cudnn_target_from_handle(cudnn_target *target, const cudnn_api *api, cudnnHandle_t handle);

void cudnn_target_release(cudnn_target *target);

typedef struct conv_limits {
    int64_t workspace;  /* bytes at most */
    bool deterministic; /* only plans that give the same bits every time */
} conv_limits;

typedef struct conv_plan {
    cudnnBackendDescriptor_t plan;
    int64_t workspace;   /* bytes it needs */
    unsigned notes;      /* bit i: cudnnBackendNumericalNote_t i */
    bool compiled;       /* its kernel was compiled at run time */
    double milliseconds; /* measured; negative: not measured */
} conv_plan;

/* How many candidates fell out and why. */
typedef struct conv_plan_counts {
    int candidates; /* engine configurations that the heuristics offer */
    int refused;    /* cuDNN could not finalise them */
    int filtered;   /* by numerical notes */
    int too_large;  /* workspace beyond the limit */
} conv_plan_counts;

enum { CONV_PLANS_MAX = 16 };

/* Makes plans for the graph in the order of heuristics A, then B, then the fallback engines, until `capacity` are there.
 * Returns how many; 0: none fits. conv_plan_release each. */
int conv_plans_find(conv_plan *plans, int capacity, conv_plan_counts *counts, const cudnn_target *target,
                    const conv_graph *graph, const conv_desc *d, const conv_limits *limits);

/* A plan's JSON as one line (free() it), NULL where cuDNN gives none. */
char *conv_plan_json(const cudnn_target *target, const conv_plan *plan);

/* A plan from its JSON; needs a handle. NO_DEVICE where cuDNN does not take it (another version or GPU). */
status conv_plan_from_json(conv_plan *plan, const cudnn_target *target, const char *json);

void conv_plan_release(const cudnn_target *target, conv_plan *plan);

/* "tensor-core nondeterministic" into `text`. */
const char *conv_plan_notes_text(char text[128], const conv_plan *plan);

#endif
