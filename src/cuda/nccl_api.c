#include "cuda/nccl_api.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

static const char remedy[] = "install NCCL 2.18 or newer, or put its folder into LD_LIBRARY_PATH";

const char *nccl_api_version_text(char text[16], int version) {
    snprintf(text, 16, "%d.%d.%d", version / 10000 % 100, version / 100 % 100, version % 100);
    return text;
}

status nccl_api_load(nccl_api *out) {
    struct {
        const char *name;
        void *place;
    } functions[] = {
        {"ncclGetVersion", &out->get_version},
        {"ncclGetUniqueId", &out->get_unique_id},
        {"ncclCommInitRankConfig", &out->comm_init_rank_config},
        {"ncclCommGetAsyncError", &out->comm_get_async_error},
        {"ncclCommFinalize", &out->comm_finalize},
        {"ncclCommDestroy", &out->comm_destroy},
        {"ncclAllReduce", &out->all_reduce},
        {"ncclGetErrorString", &out->get_error_string},
        {"ncclGetLastError", &out->get_last_error},
    };
    void *library = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
    if (!library) return error_set(STATUS_NO_DEVICE, remedy, "NCCL: %s", dlerror());
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        void *symbol = dlsym(library, functions[i].name);
        if (!symbol)
            return error_set(STATUS_NO_DEVICE, remedy, "NCCL: libnccl.so.2 lacks %s", functions[i].name);
        memcpy(functions[i].place, &symbol, sizeof symbol); /* C has no cast from data to function pointer */
    }
    int version = 0;
    char text[16];
    ncclResult_t result = out->get_version(&version);
    if (result != ncclSuccess)
        return error_set(STATUS_NO_DEVICE, remedy, "NCCL: %s", out->get_error_string(result));
    if (version < NCCL_API_OLDEST)
        return error_set(STATUS_NO_DEVICE, remedy, "NCCL %s is too old",
                         nccl_api_version_text(text, version));
    return STATUS_OK;
}
