#include "cuda/lt_api.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define LIBRARY_OF(major) "libcublasLt.so." #major
#define LIBRARY_OF_MAJOR(major) LIBRARY_OF(major)
#define LIBRARY_NAME LIBRARY_OF_MAJOR(CUBLAS_VER_MAJOR)

static const lt_api *replacement;
static lt_api loaded;
static char load_failure[300]; /* "": it is loaded */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static const struct {
    const char *name;
    size_t offset;
} functions[] = {
    {"cublasLtCreate", offsetof(lt_api, create)},
    {"cublasLtDestroy", offsetof(lt_api, destroy)},
    {"cublasLtMatmulDescCreate", offsetof(lt_api, desc_create)},
    {"cublasLtMatmulDescDestroy", offsetof(lt_api, desc_destroy)},
    {"cublasLtMatmulDescSetAttribute", offsetof(lt_api, desc_set)},
    {"cublasLtMatrixLayoutCreate", offsetof(lt_api, layout_create)},
    {"cublasLtMatrixLayoutDestroy", offsetof(lt_api, layout_destroy)},
    {"cublasLtMatmulPreferenceCreate", offsetof(lt_api, preference_create)},
    {"cublasLtMatmulPreferenceDestroy", offsetof(lt_api, preference_destroy)},
    {"cublasLtMatmulPreferenceSetAttribute", offsetof(lt_api, preference_set)},
    {"cublasLtMatmulAlgoGetHeuristic", offsetof(lt_api, heuristic)},
    {"cublasLtMatmul", offsetof(lt_api, matmul)},
};

/* The library stays open until the program ends. C has no cast from data to function pointer. */
static void load_library(void) {
    void *library = dlopen(LIBRARY_NAME, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        snprintf(load_failure, sizeof load_failure, "%s", dlerror());
        return;
    }
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        void *symbol = dlsym(library, functions[i].name);
        memcpy((char *)&loaded + functions[i].offset, &symbol, sizeof symbol);
        if (!symbol) snprintf(load_failure, sizeof load_failure, LIBRARY_NAME " lacks %s", functions[i].name);
    }
}

status lt_api_get(const lt_api **out) {
    *out = replacement;
    if (replacement) return STATUS_OK;
    pthread_once(&once, load_library);
    if (load_failure[0])
        return error_set(STATUS_NO_DEVICE,
                         "install cuBLAS where the loader finds it (LD_LIBRARY_PATH, ldconfig)", "cuBLAS: %s",
                         load_failure);
    *out = &loaded;
    return STATUS_OK;
}

void lt_api_replace(const lt_api *api) {
    replacement = api;
}
