#include "layers/param_store.h"

#include "base/check.h"
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

void param_store_release(param_store *store) {
    if (store->dev) {
        device_free(store->dev, store->values, (size_t)store->total * sizeof(float));
        if (store->gradients)
            device_free(store->dev, store->gradients, (size_t)store->trainable * sizeof(float));
        if (store->momentum)
            device_free(store->dev, store->momentum, (size_t)store->trainable * sizeof(float));
    }
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

status param_store_allocate(param_store *store, struct device *dev, bool training) {
    int64_t at = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < store->count; i++) {
            param *p = &store->params[i];
            if (p->trainable != (pass == 0)) continue;
            p->offset = at;
            at += (int64_t)round_up((size_t)p->size, RECORD_ALIGNMENT);
        }
        if (pass == 0) store->trainable = at;
    }
    store->total = at;
    store->dev = dev;
    struct {
        float **buffer;
        int64_t size;
        const char *what;
    } buffers[] = {{&store->values, store->total, "parameters"},
                   {&store->gradients, training ? store->trainable : 0, "gradients"},
                   {&store->momentum, training ? store->trainable : 0, "momentum"}};
    for (int i = 0; i < 3; i++) {
        if (!buffers[i].size) continue;
        void *memory = NULL;
        size_t bytes = (size_t)buffers[i].size * sizeof(float);
        RETURN_IF_ERROR(device_alloc(dev, &memory, bytes, buffers[i].what));
        device_fill(dev, NULL, memory, 0, bytes);
        *buffers[i].buffer = memory;
    }
    return STATUS_OK;
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
    float *file = malloc((size_t)largest * sizeof *file);
    if (!file)
        return error_set(STATUS_OS, "free some memory", "out of memory for the start values of %lld elements",
                         (long long)largest);
    for (int i = 0; i < store->count; i++) {
        const param *p = &store->params[i];
        uint64_t item = crc32(0, (const unsigned char *)p->name, (unsigned)strlen(p->name));
        init_job job = {.p = p, .key = {.seed = seed, .purpose = PHILOX_INIT, .item = item}, .values = file};
        parallel_for((p->size + INIT_TILE - 1) / INIT_TILE, init_tile, &job);
        param_from_file_order(p, store->values + p->offset, file);
    }
    free(file);
    return STATUS_OK;
}
