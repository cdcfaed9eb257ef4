#include "cuda/cuda_describe.h"

#include "cuda/cuda_kernels.h"
#if HAVE_NCCL
#include "cuda/nccl_api.h"
#endif

#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The build defines CUDA_ARCHITECTURES, e.g. 80, 86, 90: there is machine code for each, and PTX of the last. */
static const int architectures[] = {CUDA_ARCHITECTURES};
enum { N_ARCHITECTURES = sizeof architectures / sizeof *architectures };

const char *cuda_version_text(char text[16], int version) {
    snprintf(text, 16, "%d.%d", version / 1000 % 1000, version % 1000 / 10);
    return text;
}

/* Why there is no card, as one line. */
static void explain_no_card(char *text, size_t size, cudaError_t result) {
    int driver = 0;
    char has[16], needs[16];
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0)
        snprintf(text, size, "no CUDA driver is installed (libcuda.so.1 cannot be loaded)");
    else if (result == cudaErrorInsufficientDriver)
        snprintf(text, size, "the driver is for CUDA %s, too old for this program's CUDA %s",
                 cuda_version_text(has, driver), cuda_version_text(needs, CUDART_VERSION));
    else if (result == cudaSuccess || result == cudaErrorNoDevice)
        snprintf(text, size, "the driver finds no GPU%s%s", visible ? "; CUDA_VISIBLE_DEVICES=" : "",
                 visible ? visible : "");
    else
        snprintf(text, size, "the driver cannot be used: %s", cudaGetErrorString(result));
}

status cuda_count_cards(int *out) {
    *out = 0;
    cudaError_t result = cudaGetDeviceCount(out);
    if (result == cudaSuccess && *out > 0) return STATUS_OK;
    char reason[256];
    explain_no_card(reason, sizeof reason, result);
    cudaGetLastError();
    *out = 0;
    return error_set(STATUS_NO_DEVICE, "check with nvidia-smi, or use --device cpu", "device cuda: %s",
                     reason);
}

static void list_architectures(char *text, size_t size) {
    size_t at = 0;
    for (int i = 0; i < N_ARCHITECTURES && at < size; i++)
        at += (size_t)snprintf(text + at, size - at, "%ssm_%d", i ? ", " : "", architectures[i]);
}

status cuda_check_capability(const char *card, int major, int minor) {
    for (int i = 0; i < N_ARCHITECTURES; i++)
        if (architectures[i] / 10 == major && architectures[i] % 10 <= minor) return STATUS_OK;
    if (10 * major + minor > architectures[N_ARCHITECTURES - 1]) return STATUS_OK;
    char list[128];
    list_architectures(list, sizeof list);
    return error_set(STATUS_NO_DEVICE, "build with -DCUDA_ARCHITECTURES for this card, or use another",
                     "device cuda: %s has compute capability %d.%d, this program was built for %s", card,
                     major, minor, list);
}

static void describe_cards(device_describe_row row, void *context) {
    int cards = 0;
    if (cuda_count_cards(&cards) != STATUS_OK) {
        row(context, "GPU", strchr(error_cause(), ':') + 2);
        error_clear();
    }
    for (int i = 0; i < cards; i++) {
        char name[16], text[512];
        snprintf(name, sizeof name, "GPU %d", i);
        struct cudaDeviceProp card;
        if (cudaGetDeviceProperties(&card, i) != cudaSuccess) {
            row(context, name, cudaGetErrorString(cudaGetLastError()));
            continue;
        }
        status usable = cuda_check_capability(card.name, card.major, card.minor);
        snprintf(text, sizeof text, "%s, %.1f GiB, compute capability %d.%d%s", card.name,
                 (double)card.totalGlobalMem / (double)(1 << 30), card.major, card.minor,
                 usable == STATUS_OK ? "" : ": not one this program was built for");
        row(context, name, text);
        error_clear();
    }
}

/* A library by the function that tells its version, e.g. 91300 for 9.13.0. It stays loaded: some keep memory of their own. */
static void describe_library(device_describe_row row, void *context, const char *name, const char *file,
                             const char *symbol) {
    char text[256];
    void *library = dlopen(file, RTLD_LAZY | RTLD_LOCAL);
    size_t (*get_version)(void) = NULL;
    void *found = library ? dlsym(library, symbol) : NULL;
    memcpy(&get_version, &found, sizeof found);
    if (!get_version) {
        row(context, name, dlerror());
    } else {
        size_t v = get_version();
        snprintf(text, sizeof text, "%zu.%zu.%zu", v / 10000, v / 100 % 100, v % 100);
        row(context, name, text);
    }
}

static void describe_nccl(device_describe_row row, void *context) {
#if HAVE_NCCL
    nccl_api api;
    char built[16], found[16], text[64];
    int version = 0;
    if (nccl_api_load(&api) != STATUS_OK) {
        row(context, "NCCL", error_cause());
        error_clear();
        return;
    }
    api.get_version(&version);
    snprintf(text, sizeof text, "%s (built with %s)", nccl_api_version_text(found, version),
             nccl_api_version_text(built, NCCL_VERSION_CODE));
    row(context, "NCCL", text);
#else
    row(context, "NCCL", "not built in: ranks sum through the host's memory");
#endif
}

status cuda_describe(device_describe_row row, void *context) {
    char text[256], list[128], version[16];
    int driver = 0;
    list_architectures(list, sizeof list);
    snprintf(text, sizeof text, "%s, built for %s and newer", cuda_version_text(version, CUDART_VERSION),
             list);
    row(context, "CUDA", text);
    if (cudaDriverGetVersion(&driver) != cudaSuccess) driver = 0;
    snprintf(text, sizeof text, "up to CUDA %s", cuda_version_text(version, driver));
    row(context, "NVIDIA driver", driver ? text : "none: libcuda.so.1 cannot be loaded");
    describe_cards(row, context);
    describe_library(row, context, "cuDNN", "libcudnn.so.9", "cudnnGetVersion");
    snprintf(text, sizeof text, "libcublasLt.so.%d", CUDART_VERSION / 1000);
    describe_library(row, context, "cublasLt", text, "cublasLtGetVersion");
    describe_nccl(row, context);
    return STATUS_OK;
}
