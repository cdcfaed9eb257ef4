/* gather_levels, a thread for each value of y. Backward clears all maps in one launch of 16-byte stores, then writes where the
 * indices point; as an index comes once at most, no two threads meet. */
#include "cuda_common.cuh"

extern "C" {
#include "gather_levels/gather_levels.h"
}

namespace {

enum { THREADS = 256 };

/* Maps or their gradients (NULL: absent, or not wanted), by level. */
template <class T> struct level_maps {
    T *data[GATHER_MAPS];
    unsigned anchors[GATHER_MAPS]; /* of one image */
    unsigned total;                /* of one image, all levels */
    int size;

    /* Address of the values of anchor `index`; NULL where the map is. */
    __device__ T *at(unsigned index) const {
        unsigned image = index / total, a = index - image * total;
        T *map = nullptr;
        int64_t place = 0;
        bool found = false;
#pragma unroll
        for (int l = 0; l < GATHER_MAPS; l++) { /* unrolled: the members stay in constant memory */
            if (found) continue;
            if (a < anchors[l]) {
                map = data[l];
                place = (int64_t)image * anchors[l] + a;
                found = true;
            } else
                a -= anchors[l];
        }
        return map ? map + place * size : nullptr;
    }
};

template <class T>
__global__ void __launch_bounds__(THREADS)
    forward_kernel(T *y, level_maps<T> maps, const int32_t *index, row_count rows) {
    int64_t count = valid_rows(rows) * maps.size;
    for (int64_t i = global_thread(); i < count; i += global_threads()) {
        unsigned s = (unsigned)i / (unsigned)maps.size, d = (unsigned)i - s * (unsigned)maps.size;
        const T *from = maps.at((unsigned)index[s]);
        if (from) y[i] = from[d];
    }
}

template <class T>
__global__ void __launch_bounds__(THREADS)
    backward_kernel(level_maps<T> maps, const T *d_y, const int32_t *index, row_count rows) {
    int64_t count = valid_rows(rows) * maps.size;
    for (int64_t i = global_thread(); i < count; i += global_threads()) {
        unsigned s = (unsigned)i / (unsigned)maps.size, d = (unsigned)i - s * (unsigned)maps.size;
        T *to = maps.at((unsigned)index[s]);
        if (to) to[d] = from_float<T>(to_float(to[d]) + to_float(d_y[i]));
    }
}

struct alignas(16) sixteen_bytes {
    uint32_t v[4];
};

/* Memory to clear. */
struct clear_list {
    unsigned char *data[GATHER_MAPS];
    int64_t bytes[GATHER_MAPS]; /* 0: left alone */
};

/* blockIdx.y: which one. */
__global__ void __launch_bounds__(THREADS) clear_kernel(clear_list list) {
    unsigned char *data = list.data[blockIdx.y];
    int64_t bytes = list.bytes[blockIdx.y],
            first = reinterpret_cast<uintptr_t>(data) % 16 == 0 ? bytes / 16 : 0;
    for (int64_t i = global_thread(); i < first; i += global_threads())
        reinterpret_cast<sixteen_bytes *>(data)[i] = {{0, 0, 0, 0}};
    for (int64_t i = first * 16 + global_thread(); i < bytes; i += global_threads()) data[i] = 0;
}

template <class T> level_maps<T> maps_of(const op_call *call, tensor *const *maps) {
    const auto *p = static_cast<const gather_levels_params *>(call->params);
    level_maps<T> m = {};
    m.size = p->size;
    int64_t total = 0;
    for (int l = 0; l < GATHER_MAPS && call->in[GATHER_MAP + l]; l++) {
        const int64_t *shape = call->in[GATHER_MAP + l]->shape;
        m.data[l] = tensor_as<T>(maps[GATHER_MAP + l]);
        m.anchors[l] = (unsigned)(shape[1] * shape[2] * p->anchors);
        total += m.anchors[l];
    }
    CHECK(total * call->in[GATHER_MAP]->shape[0] <= INT32_MAX, "gather_levels: %lld anchors in an image",
          (long long)total);
    m.total = (unsigned)total;
    return m;
}

void forward(const op_call *call) {
    const tensor *index = call->in[GATHER_INDEX];
    dispatch_real(op_storage_type(call), [&](auto zero) {
        using T = decltype(zero);
        LAUNCH(forward_kernel<T>, cuda_grid(tensor_count(call->out[0]), THREADS), THREADS, 0, call->stream,
               tensor_as<T>(call->out[0]), maps_of<T>(call, call->in), tensor_i32(index),
               row_count_of(index));
    });
}

void clear(const op_call *call) {
    clear_list list = {};
    int64_t most = 0;
    for (int l = 0; l < GATHER_MAPS; l++) {
        const tensor *d = call->d_in[GATHER_MAP + l];
        if (!d || call->accumulate[GATHER_MAP + l]) continue;
        list.data[l] = static_cast<unsigned char *>(d->data);
        list.bytes[l] = (int64_t)tensor_bytes(d);
        if (list.bytes[l] > most) most = list.bytes[l];
    }
    LAUNCH(clear_kernel, dim3(cuda_grid(most, THREADS * 16), GATHER_MAPS), THREADS, 0, call->stream, list);
}

void backward(const op_call *call) {
    const tensor *index = call->in[GATHER_INDEX];
    clear(call);
    dispatch_real(op_storage_type(call), [&](auto zero) {
        using T = decltype(zero);
        LAUNCH(backward_kernel<T>, cuda_grid(tensor_count(call->out[0]), THREADS), THREADS, 0, call->stream,
               maps_of<T>(call, call->d_in), tensor_as<T>(call->d_out[0]), tensor_i32(index),
               row_count_of(index));
    });
}

const op_kernel by_value = {"cuda_by_value", forward, backward, nullptr};

} // namespace

extern "C" const op_kernel *const gather_levels_cuda[] = {&by_value, nullptr};
