/* gather_levels in plain loops; built for float and for double. */
#include "gather_levels/gather_levels.h"

#include "base/check.h"

#include <string.h>

/* Where the row of anchor number `index` lies: the map and the offset of its first value. */
typedef struct place {
    int map;
    int64_t offset;
} place;

static place find(const op_call *call, int64_t index) {
    const gather_levels_params *p = call->params;
    int64_t total = 0;
    for (int i = GATHER_MAP; i < GATHER_MAP + GATHER_MAPS && call->in[i]; i++)
        total += call->in[i]->shape[1] * call->in[i]->shape[2] * p->anchors;
    CHECK(index >= 0 && index < total * call->in[GATHER_MAP]->shape[0],
          "gather_levels: anchor %lld of %lld per image", (long long)index, (long long)total);
    int64_t image = index / total, a = index % total;
    int map = GATHER_MAP;
    for (;; map++) {
        int64_t level = call->in[map]->shape[1] * call->in[map]->shape[2] * p->anchors;
        if (a < level) return (place){map, (image * level + a) * p->size};
        a -= level;
    }
}

static void forward(const op_call *call) {
    const gather_levels_params *p = call->params;
    const int32_t *index = tensor_i32(call->in[GATHER_INDEX]);
    REAL *y = call->out[0]->data;
    int64_t rows = tensor_valid_rows(call->in[GATHER_INDEX]);
    for (int64_t s = 0; s < rows; s++) {
        place at = find(call, index[s]);
        memcpy(y + s * p->size, (const REAL *)call->in[at.map]->data + at.offset,
               (size_t)p->size * sizeof(REAL));
    }
}

static void backward(const op_call *call) {
    const gather_levels_params *p = call->params;
    const int32_t *index = tensor_i32(call->in[GATHER_INDEX]);
    const REAL *d_y = call->d_out[0]->data;
    for (int i = GATHER_MAP; i < GATHER_MAP + GATHER_MAPS; i++)
        if (call->d_in[i] && !call->accumulate[i])
            memset(call->d_in[i]->data, 0, tensor_bytes(call->d_in[i]));
    int64_t rows = tensor_valid_rows(call->in[GATHER_INDEX]);
    for (int64_t s = 0; s < rows; s++) {
        place at = find(call, index[s]);
        if (!call->d_in[at.map]) continue;
        REAL *d = (REAL *)call->d_in[at.map]->data + at.offset;
        for (int i = 0; i < p->size; i++) d[i] += d_y[s * p->size + i];
    }
}

const op_kernel REAL_NAME(gather_levels_reference) = {
    .name = REAL_KERNEL_NAME, .forward = forward, .backward = backward};
