/* The CUDA backend of the device table, by the CUDA runtime API; and the functions that the plug-in exports.
 *
 * A failed call that has no status to return ends the program: it is either misuse or an error of a kernel that ran earlier,
 * after which nothing on the card can be trusted. Streams do not wait for the legacy default stream. */
#include "device/device_backend.h"

#include "base/check.h"
#include "cuda/cuda_describe.h"
#include "cuda/cuda_kernels.h"
#include "cuda/cuda_library_kernels.h"
#if HAVE_NCCL
#include "cuda/comm_nccl.h"
#endif

#include <cuda_runtime_api.h>
#include <nvtx3/nvToolsExt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_STREAMS = 3 };

typedef struct cuda_device {
    device base;
    int card;
    char pci[32];
#if HAVE_NCCL
    nccl_api nccl;
#endif
} cuda_device;

static void require(device *d, cudaError_t result, const char *call) {
    CHECK(result == cudaSuccess,
          "%s: %s: %s (%s). It may come from a kernel that ran before: CUDA_LAUNCH_BLOCKING=1 names it",
          d->name, call, cudaGetErrorName(result), cudaGetErrorString(result));
}

#define REQUIRE(d, call, ...) require(d, call(__VA_ARGS__), #call)

static cudaStream_t stream_of(device *d, device_stream *stream) {
    return (cudaStream_t)(void *)(stream ? stream : d->streams[DEVICE_STREAM_COMPUTE]);
}

static cudaEvent_t event_of(device_event *event) {
    return (cudaEvent_t)(void *)event;
}

/* CUDA's current card belongs to a thread, and this may be the first call of one. */
static cudaError_t use_card(device *d) {
    return cudaSetDevice(((cuda_device *)d)->card);
}

static status no_memory(device *d, size_t bytes, const char *what, cudaError_t result) {
    cudaGetLastError();
    size_t free_bytes = 0, total = 0;
    if (cudaMemGetInfo(&free_bytes, &total) != cudaSuccess) cudaGetLastError();
    memory_range largest = memory_ranges_largest(&d->ranges, MEMORY_DEVICE);
    char most[160] = "nothing is allocated here yet";
    if (largest.bytes)
        snprintf(most, sizeof most, "the largest part so far: %zu bytes for %s", largest.bytes, largest.what);
    return error_set(
        STATUS_OS,
        "use fewer images per rank, smaller images or 16-bit activations, or stop other programs on this GPU",
        "%s: cannot allocate %zu bytes for %s: %s; %zu of %zu bytes are free, %s", d->name, bytes, what,
        cudaGetErrorString(result), free_bytes, total, most);
}

static status cuda_alloc(device *d, void **out, size_t bytes, const char *what) {
    *out = NULL;
    size_t least = bytes ? bytes : 1;
    cudaError_t result = use_card(d);
    if (result == cudaSuccess) result = cudaMalloc(out, least);
    if (result != cudaSuccess) return no_memory(d, bytes, what, result);
    REQUIRE(d, cudaMemsetAsync, *out, 0, least, stream_of(d, NULL));
    REQUIRE(d, cudaStreamSynchronize, stream_of(d, NULL)); /* other streams may use it at once */
    return STATUS_OK;
}

static void cuda_release(device *d, void *memory, size_t bytes) {
    (void)bytes;
    REQUIRE(d, cudaFree, memory);
}

static status cuda_pin(device *d, void *memory, size_t bytes, const char *what) {
    cudaError_t result = use_card(d);
    if (result == cudaSuccess) result = cudaHostRegister(memory, bytes ? bytes : 1, cudaHostRegisterPortable);
    if (result == cudaSuccess) return STATUS_OK;
    cudaGetLastError();
    return error_set(STATUS_OS, "raise the limit of locked memory (ulimit -l), or free some memory",
                     "%s: cannot page-lock %zu bytes for %s: %s", d->name, bytes, what,
                     cudaGetErrorString(result));
}

static void cuda_unpin(device *d, void *memory, size_t bytes) {
    (void)bytes;
    REQUIRE(d, cudaHostUnregister, memory);
}

static void cuda_copy(device *d, device_stream *stream, void *destination, const void *source, size_t bytes) {
    REQUIRE(d, cudaMemcpyAsync, destination, source, bytes, cudaMemcpyDefault, stream_of(d, stream));
}

static void cuda_fill(device *d, device_stream *stream, void *memory, int byte, size_t bytes) {
    REQUIRE(d, cudaMemsetAsync, memory, byte, bytes, stream_of(d, stream));
}

static void cuda_synchronize(device *d, device_stream *stream) {
    REQUIRE(d, cudaStreamSynchronize, stream_of(d, stream));
}

static status cuda_event_new(device *d, device_event **out, bool timed) {
    *out = NULL;
    cudaEvent_t event = NULL;
    unsigned flags = cudaEventBlockingSync | (timed ? 0u : cudaEventDisableTiming);
    cudaError_t result = use_card(d);
    if (result == cudaSuccess) result = cudaEventCreateWithFlags(&event, flags);
    if (result != cudaSuccess) {
        cudaGetLastError();
        return error_set(STATUS_OS, "stop other programs on this GPU", "%s: cannot make an event: %s",
                         d->name, cudaGetErrorString(result));
    }
    *out = (device_event *)(void *)event;
    return STATUS_OK;
}

static void cuda_event_free(device *d, device_event *event) {
    REQUIRE(d, cudaEventDestroy, event_of(event));
}

static void cuda_event_record(device *d, device_event *event, device_stream *stream) {
    REQUIRE(d, cudaEventRecord, event_of(event), stream_of(d, stream));
}

static void cuda_event_wait(device *d, device_stream *stream, device_event *event) {
    REQUIRE(d, cudaStreamWaitEvent, stream_of(d, stream), event_of(event), 0);
}

static void cuda_event_synchronize(device *d, device_event *event) {
    REQUIRE(d, cudaEventSynchronize, event_of(event));
}

static bool cuda_event_is_reached(device *d, device_event *event) {
    cudaError_t result = cudaEventQuery(event_of(event));
    if (result == cudaErrorNotReady) return false;
    require(d, result, "cudaEventQuery");
    return true;
}

static double cuda_event_milliseconds(device *d, device_event *from, device_event *to) {
    float passed = 0;
    REQUIRE(d, cudaEventElapsedTime, &passed, event_of(from), event_of(to));
    return (double)passed;
}

/* ---- graphs ----------------------------------------------------------------------------------------------- */

static void cuda_capture_begin(device *d) {
    /* Calls of other threads (a loader that pins memory) do not disturb it. */
    REQUIRE(d, cudaStreamBeginCapture, stream_of(d, NULL), cudaStreamCaptureModeThreadLocal);
}

static status cuda_capture_end(device *d, device_graph **out) {
    cudaGraph_t graph = NULL;
    cudaGraphExec_t ready = NULL;
    cudaError_t result = cudaStreamEndCapture(stream_of(d, NULL), &graph);
    if (result == cudaSuccess) result = cudaGraphInstantiate(&ready, graph, 0);
    if (graph) cudaGraphDestroy(graph);
    if (result == cudaSuccess)
        result = cudaGraphUpload(ready, stream_of(d, NULL)); /* not on its first launch */
    if (result != cudaSuccess) {
        cudaGetLastError();
        if (ready) cudaGraphExecDestroy(ready);
        return error_set(STATUS_OS, "run without CUDA graphs",
                         "%s: a step cannot be captured as a graph: %s (%s)", d->name,
                         cudaGetErrorName(result), cudaGetErrorString(result));
    }
    *out = (device_graph *)(void *)ready;
    return STATUS_OK;
}

static void cuda_graph_launch(device *d, device_graph *g) {
    REQUIRE(d, cudaGraphLaunch, (cudaGraphExec_t)(void *)g, stream_of(d, NULL));
}

static void cuda_graph_free(device *d, device_graph *g) {
    REQUIRE(d, cudaGraphExecDestroy, (cudaGraphExec_t)(void *)g);
}

/* ---- kernels, ranks --------------------------------------------------------------------------------------- */

/* NVTX finds a tool by itself, and without one returns at once. */
static void cuda_range_begin(device *d, const char *name) {
    (void)d;
    nvtxRangePushA(name);
}

static void cuda_range_end(device *d) {
    (void)d;
    nvtxRangePop();
}

static const op_kernel *cuda_find_kernel(const char *op_name, int index) {
#if HAVE_CUDNN
    const op_kernel *library = cuda_library_kernel(op_name);
    if (library && index-- == 0) return library;
#endif
    const op_kernel *const *kernels = cuda_kernels_find(op_name);
    for (int i = 0; kernels && kernels[i]; i++)
        if (i == index) return kernels[i];
    return NULL;
}

static status cuda_open_comm(device *d, struct comm **out, struct comm *host) {
#if HAVE_NCCL
    cuda_device *c = (cuda_device *)d;
    status loaded = nccl_api_load(&c->nccl);
    return comm_nccl_open(out, host, d, c->pci, loaded == STATUS_OK ? &c->nccl : NULL);
#else
    (void)out, (void)host;
    return error_set(STATUS_NO_DEVICE, "build where nccl.h is installed", "%s: NCCL is not built in",
                     d->name);
#endif
}

/* ---- opening ---------------------------------------------------------------------------------------------- */

static void cuda_close(device *d) {
#if HAVE_CUDNN
    cuda_library_close();
#endif
    for (int i = 0; i < N_STREAMS; i++)
        if (d->streams[i]) cudaStreamDestroy((cudaStream_t)(void *)d->streams[i]);
    free(d);
}

static const device_ops cuda_ops = {
    .close = cuda_close,
    .alloc = cuda_alloc,
    .release = cuda_release,
    .pin = cuda_pin,
    .unpin = cuda_unpin,
    .copy = cuda_copy,
    .fill = cuda_fill,
    .synchronize = cuda_synchronize,
    .event_new = cuda_event_new,
    .event_free = cuda_event_free,
    .event_record = cuda_event_record,
    .event_wait = cuda_event_wait,
    .event_synchronize = cuda_event_synchronize,
    .open_comm = cuda_open_comm,
    .event_is_reached = cuda_event_is_reached,
    .event_milliseconds = cuda_event_milliseconds,
    .capture_begin = cuda_capture_begin,
    .capture_end = cuda_capture_end,
    .graph_launch = cuda_graph_launch,
    .graph_free = cuda_graph_free,
    .range_begin = cuda_range_begin,
    .range_end = cuda_range_end,
    .find_kernel = cuda_find_kernel,
};

static status card_failed(const cuda_device *c, const char *call, cudaError_t result) {
    cudaGetLastError();
    return error_set(STATUS_NO_DEVICE, "check the card with nvidia-smi, or use another",
                     "device cuda:%d: %s: %s", c->card, call, cudaGetErrorString(result));
}

static status name_card(cuda_device *c) {
    struct cudaDeviceProp card;
    cudaError_t result = cudaGetDeviceProperties(&card, c->card);
    if (result != cudaSuccess) return card_failed(c, "cudaGetDeviceProperties", result);
    snprintf(c->base.name, sizeof c->base.name, "%.63s", card.name);
    result = cudaDeviceGetPCIBusId(c->pci, sizeof c->pci, c->card);
    if (result != cudaSuccess) return card_failed(c, "cudaDeviceGetPCIBusId", result);
    return cuda_check_capability(card.name, card.major, card.minor);
}

/* Sums and copies go first where both could run: others wait for them. A waiting host thread sleeps: the loader's processes
 * need the cores. */
static status make_streams(cuda_device *c) {
    int lowest = 0, highest = 0;
    cudaError_t result = cudaSetDevice(c->card);
    if (result == cudaSuccess) result = cudaSetDeviceFlags(cudaDeviceScheduleBlockingSync);
    if (result == cudaSuccess) result = cudaDeviceGetStreamPriorityRange(&lowest, &highest);
    if (result != cudaSuccess) return card_failed(c, "cudaSetDevice", result);
    for (int i = 0; i < N_STREAMS; i++) {
        cudaStream_t stream = NULL;
        result = cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking,
                                              i == DEVICE_STREAM_COMPUTE ? lowest : highest);
        if (result != cudaSuccess) return card_failed(c, "cudaStreamCreateWithPriority", result);
        c->base.streams[i] = (device_stream *)(void *)stream;
    }
    return STATUS_OK;
}

static status check_version(int version) {
    if (version == DEVICE_PLUGIN_VERSION) return STATUS_OK;
    return error_set(STATUS_NO_DEVICE, "build program and plug-in from the same sources",
                     "device cuda: the plug-in has version %d of the device table, the program %d",
                     DEVICE_PLUGIN_VERSION, version);
}

status device_plugin_open(device **out, int card, int version);
status device_plugin_open(device **out, int card, int version) {
    *out = NULL;
    int cards;
    RETURN_IF_ERROR(check_version(version));
    RETURN_IF_ERROR(cuda_count_cards(&cards));
    cuda_device *c = calloc(1, sizeof *c);
    if (!c) return error_set(STATUS_OS, "free some memory", "no memory for the CUDA device");
    c->base.ops = &cuda_ops;
    c->base.kind = DEVICE_CUDA;
    c->card = card % cards;
    status s = name_card(c);
    if (s == STATUS_OK) s = make_streams(c);
    if (s != STATUS_OK) {
        cuda_close(&c->base);
        return s;
    }
    *out = &c->base;
    return STATUS_OK;
}

status device_plugin_describe(device_describe_row row, void *context, int version);
status device_plugin_describe(device_describe_row row, void *context, int version) {
    RETURN_IF_ERROR(check_version(version));
    return cuda_describe(row, context);
}
