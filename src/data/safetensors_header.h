/* The JSON header of a safetensors file, parsed and checked against the size of its data. Internal to the
 * reader. */
#ifndef DATA_SAFETENSORS_HEADER_H
#define DATA_SAFETENSORS_HEADER_H

#include "data/safetensors.h"

typedef struct safetensors_pair {
    const char *key;
    const char *value;
} safetensors_pair;

typedef struct safetensors_header {
    safetensors_tensor *tensors; /* by offset; `data` is not set */
    int64_t *by_name;            /* indices into tensors */
    int64_t count;
    safetensors_pair *metadata; /* by key */
    int64_t metadata_count;
    char *text; /* owns all names, keys and values */
} safetensors_header;

/* Fills `header` from `json` [length]; the data section has `data_bytes` bytes. `path` names the file in
 * messages. Release it also after a failure. */
status safetensors_header_parse(safetensors_header *header, const char *path, const char *json, size_t length,
                                size_t data_bytes);
void safetensors_header_release(safetensors_header *header);

#endif
