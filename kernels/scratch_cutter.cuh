/* Cuts a call's scratch into arrays, each aligned to 64 bytes. With memory NULL it only counts the bytes, so that one function
 * serves scratch_bytes and the launches. */
#ifndef KERNELS_SCRATCH_CUTTER_CUH
#define KERNELS_SCRATCH_CUTTER_CUH

#include "cuda_common.cuh"

struct scratch_cutter {
    char *memory;
    size_t used;

    template <class T> T *take(int64_t count) {
        T *part = memory ? reinterpret_cast<T *>(memory + used) : nullptr;
        used += ((size_t)count * sizeof(T) + 63) / 64 * 64;
        return part;
    }
};

/* Of a call; `counting`: for scratch_bytes, whose call has no scratch yet. */
inline scratch_cutter scratch_cutter_of(const op_call *call, bool counting) {
    return {counting ? nullptr : static_cast<char *>(call->scratch), 0};
}

#endif
