#include "layers/param_store.h"

#include "base/check.h"
#include "base/philox.h"
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

/* Where element `i` of the record in memory lies in the file's layout. */
static int64_t file_index(const param *p, int64_t i) {
    switch (p->layout) {
    case LAYOUT_SAME:
        return i;
    case LAYOUT_CONV:
    case LAYOUT_DECONV: { /* memory [A,R,S,B] -> file [A,B,R,S] */
        int64_t taps = p->shape[1] * p->shape[2], last = p->shape[3];
        int64_t b = i % last, tap = i / last % taps, a = i / last / taps;
        return (a * last + b) * taps + tap;
    }
    case LAYOUT_FLATTENED: { /* memory [K, HW, C] -> file [K, C, HW] */
        int64_t places = p->map[0] * p->map[1], channels = p->map[2];
        int64_t c = i % channels, place = i / channels % places, k = i / channels / places;
        return (k * channels + c) * places + place;
    }
    }
    CHECK(false, "parameter %s: layout %d", p->name, (int)p->layout);
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

void param_store_initialise(param_store *store, uint64_t seed) {
    for (int i = 0; i < store->count; i++) {
        const param *p = &store->params[i];
        float *values = store->values + p->offset;
        philox_key key = {.seed = seed,
                          .purpose = PHILOX_INIT,
                          .item = crc32(0, (const unsigned char *)p->name, (unsigned)strlen(p->name))};
        for (int64_t j = 0; j < p->size; j++) {
            uint64_t index = (uint64_t)file_index(p, j);
            switch (p->init) {
            case INIT_CONSTANT:
                values[j] = (float)p->init_value;
                break;
            case INIT_NORMAL:
                values[j] = (float)(p->init_value * philox_normal(&key, index));
                break;
            case INIT_UNIFORM:
                values[j] = (float)(p->init_value * (2.0 * philox_uniform(&key, index) - 1.0));
                break;
            }
        }
    }
}
