/* The functions of cuDNN 9 that the program calls, as a table that is filled at run time: program and plug-in start where
 * cuDNN is not installed. Tests put a table of their own in its place. */
#ifndef CUDNN_CUDNN_API_H
#define CUDNN_CUDNN_API_H

#include "base/status.h"

#include <cudnn.h>

typedef struct cudnn_api {
    size_t (*get_version)(void); /* e.g. 91900 */
    void (*get_last_error)(char *message, size_t size);
    cudnnStatus_t (*create)(cudnnHandle_t *handle);
    cudnnStatus_t (*destroy)(cudnnHandle_t handle);
    cudnnStatus_t (*set_stream)(cudnnHandle_t handle, cudaStream_t stream);
    cudnnStatus_t (*descriptor_create)(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *out);
    cudnnStatus_t (*descriptor_destroy)(cudnnBackendDescriptor_t descriptor);
    cudnnStatus_t (*descriptor_finalize)(cudnnBackendDescriptor_t descriptor);
    cudnnStatus_t (*descriptor_set)(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                                    cudnnBackendAttributeType_t type, int64_t count, const void *values);
    cudnnStatus_t (*descriptor_get)(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                                    cudnnBackendAttributeType_t type, int64_t capacity, int64_t *count,
                                    void *values);
    cudnnStatus_t (*execute)(cudnnHandle_t handle, cudnnBackendDescriptor_t plan,
                             cudnnBackendDescriptor_t variant_pack);
} cudnn_api;

/* The table, loaded at the first call. NO_DEVICE: cuDNN is not installed, or older than 9.8, the first that makes plans
 * from a description of a GPU. */
status cudnn_api_get(const cudnn_api **out);

/* Puts another table in its place; NULL: the library's again. */
void cudnn_api_replace(const cudnn_api *api);

#endif
