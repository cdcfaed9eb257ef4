#include "layers/param_store.h"

#include "base/check.h"
#include "base/half.h"
#include "base/philox.h"
#include "base/thread_pool.h"
#include "base/round_up.h"
#include "device/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { RECORD_ALIGNMENT = 16 };

void param_store_init(param_store *store) {
    *store = (param_store){0};
}

/* A flat buffer with the address it goes to; 0 elements: it is not there. */
typedef struct flat_buffer {
    void **memory;
    int64_t elements;
    dtype type;
    const char *what;
} flat_buffer;

enum { FLAT_BUFFERS = 4 };

static void list_buffers(flat_buffer buffers[FLAT_BUFFERS], param_store *store, bool training) {
    int64_t trained = training ? store->trainable : 0;
    buffers[0] = (flat_buffer){(void **)&store->values, store->total, DTYPE_F32, "parameters"};
    buffers[1] = (flat_buffer){&store->gradients, trained, store->precision.storage, "gradients"};
    buffers[2] = (flat_buffer){(void **)&store->momentum, trained, DTYPE_F32, "momentum"};
    buffers[3] = (flat_buffer){&store->copies, dtype_is_half(store->precision.storage) ? store->total : 0,
                               store->precision.storage, "parameters in 16 bits"};
}

void param_store_release(param_store *store) {
    flat_buffer buffers[FLAT_BUFFERS];
    list_buffers(buffers, store, true);
    for (int i = 0; i < FLAT_BUFFERS && store->dev; i++)
        device_free(store->dev, *buffers[i].memory,
                    (size_t)buffers[i].elements * dtype_size(buffers[i].type));
    free(store->params);
    param_store_init(store);
}

int param_store_find(const param_store *store, const char *name) {
    for (int i = 0; i < store->count; i++)
        if (strcmp(store->params[i].name, name) == 0) return i;
    return -1;
}

int param_store_add(param_store *store, const param_spec *spec) {
    CHECK(!store->values, "parameter %s added after the buffers were made", spec->name);
    CHECK(param_store_find(store, spec->name) < 0, "two parameters are called %s", spec->name);
    if (store->count == store->capacity) {
        store->capacity = store->capacity ? 2 * store->capacity : 128;
        store->params = realloc(store->params, (size_t)store->capacity * sizeof *store->params);
        CHECK(store->params, "out of memory for %d parameter records", store->capacity);
    }
    param *p = &store->params[store->count];
    *p = (param){.kind = spec->kind,
                 .layout = spec->layout,
                 .rank = spec->rank,
                 .init = spec->init,
                 .init_value = spec->init_value,
                 .size = 1};
    int length = snprintf(p->name, sizeof p->name, "%s", spec->name);
    CHECK(length < PARAM_NAME_SIZE, "parameter name %s is too long", spec->name);
    p->trainable = spec->trainable && spec->kind != PARAM_BUFFER;
    memcpy(p->shape, spec->shape, sizeof p->shape);
    memcpy(p->map, spec->map, sizeof p->map);
    for (int i = 0; i < p->rank; i++) p->size *= p->shape[i];
    CHECK(p->layout != LAYOUT_FLATTENED || p->shape[1] == p->map[0] * p->map[1] * p->map[2],
          "parameter %s: map does not fit", p->name);
    return store->count++;
}

status param_store_allocate(param_store *store, struct device *dev, const precision *p, bool training) {
    int64_t at = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < store->count; i++) {
            param *record = &store->params[i];
            if (record->trainable != (pass == 0)) continue;
            record->offset = at;
            at += (int64_t)round_up((size_t)record->size, RECORD_ALIGNMENT);
        }
        if (pass == 0) store->trainable = at;
    }
    store->total = at;
    store->dev = dev;
    store->precision = p ? *p : (precision){.storage = DTYPE_F32};
    flat_buffer buffers[FLAT_BUFFERS];
    list_buffers(buffers, store, training);
    for (int i = 0; i < FLAT_BUFFERS; i++) {
        if (!buffers[i].elements) continue;
        void *memory = NULL;
        size_t bytes = (size_t)buffers[i].elements * dtype_size(buffers[i].type);
        RETURN_IF_ERROR(device_alloc(dev, &memory, bytes, buffers[i].what));
        device_fill(dev, NULL, memory, 0, bytes);
        *buffers[i].memory = memory;
    }
    return STATUS_OK;
}

bool param_store_in_place(const param_store *store, param_buffer which) {
    return device_is_host_accessible(store->dev) &&
           (which != PARAM_GRADIENTS || !dtype_is_half(store->precision.storage));
}

static char *address_of(const param_store *store, param_buffer which, const param *p) {
    char *buffer = which == PARAM_VALUES     ? (char *)store->values
                   : which == PARAM_MOMENTUM ? (char *)store->momentum
                                             : store->gradients;
    dtype type = which == PARAM_GRADIENTS ? store->precision.storage : DTYPE_F32;
    CHECK(buffer && (which == PARAM_VALUES || p->trainable), "parameter %s: not in this buffer", p->name);
    return buffer + (size_t)p->offset * dtype_size(type);
}

const float *param_store_read(const param_store *store, param_buffer which, const param *p, float *staging) {
    const char *at = address_of(store, which, p);
    if (param_store_in_place(store, which)) return (const float *)at;
    dtype type = which == PARAM_GRADIENTS ? store->precision.storage : DTYPE_F32;
    device_copy(store->dev, NULL, staging, at, (size_t)p->size * dtype_size(type));
    device_synchronize(store->dev, NULL);
    if (!dtype_is_half(type)) return staging;
    /* From the end: the halves lie in the first half of what the floats take. */
    tensor halves = tensor_make(p->name, type, 1, &p->size, staging);
    for (int64_t i = p->size - 1; i >= 0; i--) {
        float value = (float)tensor_get(&halves, i);
        memcpy(staging + i, &value, sizeof value);
    }
    return staging;
}

float *param_store_place(const param_store *store, param_buffer which, const param *p, float *staging) {
    CHECK(which != PARAM_GRADIENTS, "gradients are not written by the host");
    return param_store_in_place(store, which) ? (float *)address_of(store, which, p) : staging;
}

enum { HALF_PIECE = 4096 };

/* Makes the 16-bit copy of a record whose values the host has. */
static void commit_copy(param_store *store, const param *p, const float *values) {
    uint16_t piece[HALF_PIECE];
    uint16_t *to = (uint16_t *)store->copies + p->offset;
    for (int64_t at = 0; at < p->size; at += HALF_PIECE) {
        int64_t count = p->size - at < HALF_PIECE ? p->size - at : HALF_PIECE;
        for (int64_t i = 0; i < count; i++)
            piece[i] = store->precision.storage == DTYPE_BF16 ? bfloat16_from_float(values[at + i])
                                                              : float16_from_float(values[at + i]);
        device_copy(store->dev, NULL, to + at, piece, (size_t)count * sizeof *piece);
        device_synchronize(store->dev, NULL);
    }
}

void param_store_commit(param_store *store, param_buffer which, const param *p, const float *values) {
    char *at = address_of(store, which, p);
    if ((const char *)values != at) {
        device_copy(store->dev, NULL, at, values, (size_t)p->size * sizeof *values);
        device_synchronize(store->dev, NULL);
    }
    if (which == PARAM_VALUES && store->copies) commit_copy(store, p, values);
}

/* A record is `blocks` matrices [rows, columns] in memory that are transposed in the file; one row for equal layouts. */
typedef struct matrices {
    int64_t blocks, rows, columns;
} matrices;

static matrices matrices_of(const param *p) {
    switch (p->layout) {
    case LAYOUT_CONV:
    case LAYOUT_DECONV:
        return (matrices){p->shape[0], p->shape[1] * p->shape[2], p->shape[3]};
    case LAYOUT_FLATTENED:
        return (matrices){p->shape[0], p->map[0] * p->map[1], p->map[2]};
    default:
        return (matrices){1, 1, p->size};
    }
}

void param_to_file_order(const param *p, float *file, const float *memory) {
    matrices m = matrices_of(p);
    for (int64_t b = 0, size = m.rows * m.columns; b < m.blocks; b++)
        for (int64_t c = 0; c < m.columns; c++)
            for (int64_t r = 0; r < m.rows; r++)
                file[b * size + c * m.rows + r] = memory[b * size + r * m.columns + c];
}

void param_from_file_order(const param *p, float *memory, const float *file) {
    matrices m = matrices_of(p);
    for (int64_t b = 0, size = m.rows * m.columns; b < m.blocks; b++)
        for (int64_t c = 0; c < m.columns; c++)
            for (int64_t r = 0; r < m.rows; r++)
                memory[b * size + r * m.columns + c] = file[b * size + c * m.rows + r];
}

int param_file_shape(const param *p, int64_t shape[PARAM_MAX_RANK]) {
    memcpy(shape, p->shape, sizeof p->shape);
    if (p->layout == LAYOUT_CONV || p->layout == LAYOUT_DECONV) {
        shape[1] = p->shape[3];
        shape[2] = p->shape[1];
        shape[3] = p->shape[2];
    }
    return p->rank;
}

enum { INIT_TILE = 1 << 16 };

/* Start values of one record in the file's order. */
typedef struct init_job {
    const param *p;
    philox_key key;
    float *values;
} init_job;

static void init_tile(void *context, int64_t tile, int thread) {
    (void)thread;
    const init_job *job = context;
    const param *p = job->p;
    int64_t first = tile * INIT_TILE, last = first + INIT_TILE < p->size ? first + INIT_TILE : p->size;
    float scale = (float)p->init_value;
    switch (p->init) {
    case INIT_CONSTANT:
        for (int64_t i = first; i < last; i++) job->values[i] = scale;
        return;
    case INIT_NORMAL:
        philox_normals(job->values + first, &job->key, (uint64_t)first, last - first);
        for (int64_t i = first; i < last; i++)
            job->values[i] = (float)(p->init_value * (double)job->values[i]);
        return;
    case INIT_UNIFORM:
        for (int64_t i = first; i < last; i++)
            job->values[i] =
                (float)(p->init_value * (2.0 * (double)philox_uniform(&job->key, (uint64_t)i) - 1.0));
        return;
    }
}

status param_store_initialise(param_store *store, uint64_t seed) {
    int64_t largest = 1;
    for (int i = 0; i < store->count; i++)
        if (store->params[i].size > largest) largest = store->params[i].size;
    float *file = malloc((size_t)largest * sizeof *file), *staging = NULL;
    bool is_staged = !param_store_in_place(store, PARAM_VALUES);
    if (is_staged) staging = malloc((size_t)largest * sizeof *staging);
    if (!file || (is_staged && !staging)) {
        free(file);
        free(staging);
        return error_set(STATUS_OS, "free some memory", "out of memory for the start values of %lld elements",
                         (long long)largest);
    }
    for (int i = 0; i < store->count; i++) {
        const param *p = &store->params[i];
        uint64_t item = crc32(0, (const unsigned char *)p->name, (unsigned)strlen(p->name));
        init_job job = {.p = p, .key = {.seed = seed, .purpose = PHILOX_INIT, .item = item}, .values = file};
        parallel_for((p->size + INIT_TILE - 1) / INIT_TILE, init_tile, &job);
        float *place = param_store_place(store, PARAM_VALUES, p, staging);
        param_from_file_order(p, place, file);
        param_store_commit(store, PARAM_VALUES, p, place);
    }
    free(file);
    free(staging);
    return STATUS_OK;
}
