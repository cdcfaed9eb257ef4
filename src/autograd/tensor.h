/* Descriptor of a contiguous array. A tensor never owns memory: a parameter store, a tape's plan or a caller
 * does. One layout everywhere: activations NHWC, convolution weights OHWI (K,R,S,C), matrices row-major. */
#ifndef AUTOGRAD_TENSOR_H
#define AUTOGRAD_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TENSOR_MAX_RANK = 5 };

/* BF16 and F16 are how a GPU stores activations, weight copies and gradients; kernels compute in float. */
typedef enum dtype { DTYPE_F32, DTYPE_F64, DTYPE_I32, DTYPE_U8, DTYPE_BF16, DTYPE_F16 } dtype;

typedef struct tensor {
    void *data; /* contiguous, row-major; NULL while unplanned, or when it has no elements */
    dtype type;
    int rank; /* 0 is a scalar */
    int64_t shape[TENSOR_MAX_RANK];
    /* Shapes never depend on data; counts do. When set, this i32 [1] tensor holds, on the same device, how
     * many leading rows (slices of axis 0) are valid. Kernels neither read nor write the rows behind them.
     * NULL: all rows are. */
    const struct tensor *rows;
    struct tensor *grad; /* set by the tape while the gradient of this tensor is wanted, else NULL */
    const char *name;    /* for messages; lives as long as the tensor */
    int id;              /* number on the tape; -1 outside one */
} tensor;

size_t dtype_size(dtype type);
bool dtype_is_half(dtype type);     /* BF16 or F16 */
const char *dtype_name(dtype type); /* "F32", as safetensors writes it */

/* Describes `data` (may be NULL); outside a tape. */
tensor tensor_make(const char *name, dtype type, int rank, const int64_t *shape, void *data);

int64_t tensor_count(const tensor *t); /* elements, valid or not */
size_t tensor_bytes(const tensor *t);

/* Elements of one slice of axis 0 (1 for a scalar). */
int64_t tensor_row_size(const tensor *t);

/* Valid rows as the host sees them: shape[0], or the count that t->rows holds (clamped to shape[0]). CPU
 * kernels only: for a tensor on another device this would be a read-back. A scalar has one row. */
int64_t tensor_valid_rows(const tensor *t);

bool tensor_same_shape(const tensor *a, const tensor *b);

/* "[2,50,68,256]" into `text`; returns `text`. */
const char *tensor_shape_text(const tensor *t, char *text, size_t size);

/* Element access for tests and slow paths: converts from and to double. */
double tensor_get(const tensor *t, int64_t index);
void tensor_set(tensor *t, int64_t index, double value);

static inline float *tensor_f32(const tensor *t) {
    return (float *)t->data;
}
static inline int32_t *tensor_i32(const tensor *t) {
    return (int32_t *)t->data;
}
static inline uint8_t *tensor_u8(const tensor *t) {
    return (uint8_t *)t->data;
}

#endif
