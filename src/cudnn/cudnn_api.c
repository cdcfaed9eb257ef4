#include "cudnn/cudnn_api.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { OLDEST_VERSION = 90800, CAUSE_SIZE = 300 };

static const cudnn_api *replacement;
static cudnn_api loaded;
static char load_failure[CAUSE_SIZE]; /* "": it is loaded */
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* C has no cast from data to function pointer. */
static bool find_symbol(void *function, void *library, const char *name) {
    void *symbol = dlsym(library, name);
    memcpy(function, &symbol, sizeof symbol);
    if (!symbol) snprintf(load_failure, sizeof load_failure, "libcudnn.so.9 lacks %s", name);
    return symbol != NULL;
}

/* cuDNN opens NVRTC for every plan that it compiles and closes it again, which takes time and leaks 70 KB each time. Opened once
 * here, it stays. Where it is not found cuDNN does without, too. */
static void keep_nvrtc(void *cudnn) {
    size_t (*get_cuda_version)(void); /* e.g. 13000 */
    void *symbol = dlsym(cudnn, "cudnnGetCudartVersion");
    char name[64];
    memcpy(&get_cuda_version, &symbol, sizeof symbol);
    if (!symbol) return;
    snprintf(name, sizeof name, "libnvrtc.so.%zu", get_cuda_version() / 1000);
    dlopen(name, RTLD_LAZY | RTLD_LOCAL);
}

/* The library stays open until the program ends: plans hold code of it. */
static void load_library(void) {
    void *library = dlopen("libcudnn.so.9", RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        snprintf(load_failure, sizeof load_failure, "%.*s", CAUSE_SIZE - 1, dlerror());
        return;
    }
    bool complete = find_symbol(&loaded.get_version, library, "cudnnGetVersion") &&
                    find_symbol(&loaded.get_last_error, library, "cudnnGetLastErrorString") &&
                    find_symbol(&loaded.create, library, "cudnnCreate") &&
                    find_symbol(&loaded.destroy, library, "cudnnDestroy") &&
                    find_symbol(&loaded.set_stream, library, "cudnnSetStream") &&
                    find_symbol(&loaded.descriptor_create, library, "cudnnBackendCreateDescriptor") &&
                    find_symbol(&loaded.descriptor_destroy, library, "cudnnBackendDestroyDescriptor") &&
                    find_symbol(&loaded.descriptor_finalize, library, "cudnnBackendFinalize") &&
                    find_symbol(&loaded.descriptor_set, library, "cudnnBackendSetAttribute") &&
                    find_symbol(&loaded.descriptor_get, library, "cudnnBackendGetAttribute") &&
                    find_symbol(&loaded.execute, library, "cudnnBackendExecute");
    if (complete && loaded.get_version() < OLDEST_VERSION)
        snprintf(load_failure, sizeof load_failure, "libcudnn.so.9 has version %zu, older than %d",
                 loaded.get_version(), OLDEST_VERSION);
    keep_nvrtc(library);
}

status cudnn_api_get(const cudnn_api **out) {
    *out = replacement;
    if (replacement) return STATUS_OK;
    pthread_once(&once, load_library);
    if (load_failure[0])
        return error_set(STATUS_NO_DEVICE,
                         "install cuDNN 9.8 or later where the loader finds it (LD_LIBRARY_PATH, ldconfig)",
                         "cuDNN: %s", load_failure);
    *out = &loaded;
    return STATUS_OK;
}

void cudnn_api_replace(const cudnn_api *api) {
    replacement = api;
}
