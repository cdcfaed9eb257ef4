/* Strict reader and streaming writer of safetensors files (https://github.com/huggingface/safetensors):
 *
 *   8 bytes   length of the header, little-endian, at most 16 MiB
 *   header    a JSON object: name -> {"dtype", "shape", "data_offsets": [begin, end]}, and optionally
 *             "__metadata__": {string: string}; may end in spaces
 *   data      row-major, little-endian; offsets count from its first byte
 *
 * A file is accepted only if every rule holds: valid JSON without duplicate or unknown names, known dtypes,
 * shapes whose product times the dtype's size is exactly end - begin, and tensors that cover the data without
 * hole or overlap. What is refused ends in STATUS_DATA with file, tensor and rule; an absent file in
 * STATUS_NO_INPUT. */
#ifndef DATA_SAFETENSORS_H
#define DATA_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#define SAFETENSORS_MAX_HEADER ((size_t)16 << 20)
#define SAFETENSORS_MAX_RANK 8

typedef enum safetensors_dtype {
#define DTYPE(name, bytes) SAFETENSORS_##name,
#include "data/safetensors_dtypes.def"
#undef DTYPE
    SAFETENSORS_DTYPES
} safetensors_dtype;

/* "F32" and so on, and bytes per element. */
const char *safetensors_dtype_name(safetensors_dtype dtype);
size_t safetensors_dtype_size(safetensors_dtype dtype);

typedef struct safetensors_tensor {
    const char *name;
    safetensors_dtype dtype;
    int rank;                            /* 0 for a scalar, whose shape is [] and whose elements are 1 */
    int64_t shape[SAFETENSORS_MAX_RANK]; /* as in the file; sizes may be 0 */
    int64_t elements;
    size_t offset;    /* of the first byte, counted from the start of the data */
    size_t bytes;     /* elements * size of dtype */
    const void *data; /* in the mapped file; aligned only as the file is, so read it with memcpy */
} safetensors_tensor;

typedef struct safetensors safetensors;

/* Maps `path` read-only and checks it completely. On success *out is closed with safetensors_close; on
 * failure it is NULL. */
status safetensors_open(safetensors **out, const char *path);

/* The same on bytes that the caller keeps alive; `name` stands in messages for the path. */
status safetensors_open_memory(safetensors **out, const char *name, const void *bytes, size_t size);

/* NULL is allowed. */
void safetensors_close(safetensors *file);

const char *safetensors_path(const safetensors *file);
int64_t safetensors_count(const safetensors *file);

/* Tensor `index` in the order of their data. */
const safetensors_tensor *safetensors_at(const safetensors *file, int64_t index);

/* NULL where there is none of this name. */
const safetensors_tensor *safetensors_find(const safetensors *file, const char *name);

/* Value of `__metadata__`[key], NULL where absent. */
const char *safetensors_metadata(const safetensors *file, const char *key);
int64_t safetensors_metadata_count(const safetensors *file);

/* Entry `index` in the order of the keys' bytes. */
void safetensors_metadata_at(const char **key, const char **value, const safetensors *file, int64_t index);

/* Copies all elements to `out` [elements] as float; F32, F64, F16 and BF16, others are STATUS_DATA. */
status safetensors_read_f32(float *out, const safetensors *file, const safetensors_tensor *tensor);

/* "[2, 3]" into `text` (at least SAFETENSORS_SHAPE_TEXT bytes); returns `text`. */
#define SAFETENSORS_SHAPE_TEXT (SAFETENSORS_MAX_RANK * 22 + 3)
char *safetensors_shape_text(char *text, const int64_t *shape, int rank);

/* Writer. Declare everything, begin, append the bytes of every tensor in the order of declaration, commit:
 *
 *   safetensors_writer *w;
 *   RETURN_IF_ERROR(safetensors_writer_new(&w, "model.safetensors"));
 *   safetensors_writer_metadata(w, "format", "pt");
 *   safetensors_writer_declare(w, "x", SAFETENSORS_F32, 2, shape);
 *   status s = safetensors_writer_begin(w);
 *   if (s == STATUS_OK) s = safetensors_writer_append(w, x, bytes);
 *   return safetensors_writer_finish(w, s);
 *
 * Nothing is copied: bytes go from the caller to the file. The file is written beside its place, synced and
 * renamed, so the path holds the old content or the new, never a part. */
typedef struct safetensors_writer safetensors_writer;

status safetensors_writer_new(safetensors_writer **out, const char *path);
void safetensors_writer_metadata(safetensors_writer *writer, const char *key, const char *value);

/* Names are unique and valid UTF-8 without control characters. Data is aligned to its dtype if wider dtypes
 * are declared first. */
void safetensors_writer_declare(safetensors_writer *writer, const char *name, safetensors_dtype dtype,
                                int rank, const int64_t *shape);
status safetensors_writer_begin(safetensors_writer *writer);

/* The next `size` bytes of the data; chunks need not end where tensors do. */
status safetensors_writer_append(safetensors_writer *writer, const void *bytes, size_t size);

/* Publishes the file if `so_far` is STATUS_OK and all bytes came (CHECKed), removes it otherwise. Frees
 * `writer`. Returns `so_far`, or the failure of the last steps. */
status safetensors_writer_finish(safetensors_writer *writer, status so_far);

#endif
