#include "autograd/tensor.h"

#include "base/check.h"
#include "base/half.h"

#include <stdio.h>

size_t dtype_size(dtype type) {
    switch (type) {
    case DTYPE_F32:
        return 4;
    case DTYPE_F64:
        return 8;
    case DTYPE_I32:
        return 4;
    case DTYPE_U8:
        return 1;
    case DTYPE_BF16:
    case DTYPE_F16:
        return 2;
    }
    CHECK(false, "dtype %d", (int)type);
}

const char *dtype_name(dtype type) {
    switch (type) {
    case DTYPE_F32:
        return "F32";
    case DTYPE_F64:
        return "F64";
    case DTYPE_I32:
        return "I32";
    case DTYPE_U8:
        return "U8";
    case DTYPE_BF16:
        return "BF16";
    case DTYPE_F16:
        return "F16";
    }
    CHECK(false, "dtype %d", (int)type);
}

bool dtype_is_half(dtype type) {
    return type == DTYPE_BF16 || type == DTYPE_F16;
}

tensor tensor_make(const char *name, dtype type, int rank, const int64_t *shape, void *data) {
    CHECK(rank >= 0 && rank <= TENSOR_MAX_RANK, "tensor %s: rank %d", name, rank);
    tensor t = {.data = data, .type = type, .rank = rank, .name = name, .id = -1};
    for (int i = 0; i < rank; i++) t.shape[i] = shape[i];
    return t;
}

int64_t tensor_count(const tensor *t) {
    int64_t count = 1;
    for (int i = 0; i < t->rank; i++) count *= t->shape[i];
    return count;
}

size_t tensor_bytes(const tensor *t) {
    return (size_t)tensor_count(t) * dtype_size(t->type);
}

int64_t tensor_row_size(const tensor *t) {
    int64_t count = 1;
    for (int i = 1; i < t->rank; i++) count *= t->shape[i];
    return count;
}

int64_t tensor_valid_rows(const tensor *t) {
    int64_t rows = t->rank == 0 ? 1 : t->shape[0];
    if (!t->rows) return rows;
    int32_t valid = *tensor_i32(t->rows);
    return valid < 0 ? 0 : valid < rows ? valid : rows;
}

bool tensor_same_shape(const tensor *a, const tensor *b) {
    if (a->rank != b->rank) return false;
    for (int i = 0; i < a->rank; i++)
        if (a->shape[i] != b->shape[i]) return false;
    return true;
}

const char *tensor_shape_text(const tensor *t, char *text, size_t size) {
    size_t at = (size_t)snprintf(text, size, "[");
    for (int i = 0; i < t->rank && at < size; i++)
        at += (size_t)snprintf(text + at, size - at, i ? ",%lld" : "%lld", (long long)t->shape[i]);
    if (at < size) snprintf(text + at, size - at, "]");
    return text;
}

double tensor_get(const tensor *t, int64_t index) {
    switch (t->type) {
    case DTYPE_F32:
        return ((const float *)t->data)[index];
    case DTYPE_F64:
        return ((const double *)t->data)[index];
    case DTYPE_I32:
        return ((const int32_t *)t->data)[index];
    case DTYPE_U8:
        return ((const uint8_t *)t->data)[index];
    case DTYPE_BF16:
        return (double)bfloat16_to_float(((const uint16_t *)t->data)[index]);
    case DTYPE_F16:
        return (double)float16_to_float(((const uint16_t *)t->data)[index]);
    }
    CHECK(false, "tensor %s: dtype %d", t->name, (int)t->type);
}

void tensor_set(tensor *t, int64_t index, double value) {
    switch (t->type) {
    case DTYPE_F32:
        ((float *)t->data)[index] = (float)value;
        return;
    case DTYPE_F64:
        ((double *)t->data)[index] = value;
        return;
    case DTYPE_I32:
        ((int32_t *)t->data)[index] = (int32_t)value;
        return;
    case DTYPE_U8:
        ((uint8_t *)t->data)[index] = (uint8_t)value;
        return;
    case DTYPE_BF16:
        ((uint16_t *)t->data)[index] = bfloat16_from_float((float)value);
        return;
    case DTYPE_F16:
        ((uint16_t *)t->data)[index] = float16_from_float((float)value);
        return;
    }
    CHECK(false, "tensor %s: dtype %d", t->name, (int)t->type);
}
