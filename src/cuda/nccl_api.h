/* The functions of NCCL that comm_nccl uses, found at run time: one plug-in serves machines with and without the library. */
#ifndef CUDA_NCCL_API_H
#define CUDA_NCCL_API_H

#include "base/status.h"

#include <nccl.h>

typedef struct nccl_api {
    ncclResult_t (*get_version)(int *version);
    ncclResult_t (*get_unique_id)(ncclUniqueId *id);
    ncclResult_t (*comm_init_rank_config)(ncclComm_t *comm, int ranks, ncclUniqueId id, int rank,
                                          ncclConfig_t *config);
    ncclResult_t (*comm_get_async_error)(ncclComm_t comm, ncclResult_t *error);
    ncclResult_t (*comm_finalize)(ncclComm_t comm);
    ncclResult_t (*comm_destroy)(ncclComm_t comm);
    ncclResult_t (*all_reduce)(const void *send, void *receive, size_t count, ncclDataType_t type,
                               ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream);
    const char *(*get_error_string)(ncclResult_t result);
    const char *(*get_last_error)(ncclComm_t comm);
} nccl_api;

/* Oldest version that will do: communicators that do not block, and their configuration. */
enum { NCCL_API_OLDEST = 21800 };

/* Loads libnccl.so.2; the process keeps it. NO_DEVICE: not there, incomplete, or too old. */
status nccl_api_load(nccl_api *out);

/* "2.28.9" from 22809, into `text`. */
const char *nccl_api_version_text(char text[16], int version);

#endif
