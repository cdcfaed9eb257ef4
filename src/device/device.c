#include "device/device.h"

#include "base/check.h"
#include "device/device_backend.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PLUGIN_FILE "libmaskrcnn_cuda.so"

/* Folder of the running program; "." where /proc is missing. */
static void program_folder(char out[PATH_MAX]) {
    ssize_t length = readlink("/proc/self/exe", out, PATH_MAX - 1);
    if (length <= 0) {
        snprintf(out, PATH_MAX, ".");
        return;
    }
    out[length] = '\0';
    *strrchr(out, '/') = '\0';
}

static status load_plugin(void **out) {
    static const char *const places[] = {"", "/../lib"};
    char folder[PATH_MAX], path[PATH_MAX + 64];
    program_folder(folder);
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s%s/" PLUGIN_FILE, folder, places[i]);
        if (access(path, F_OK) != 0) continue;
        *out = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (*out) return STATUS_OK;
        return error_set(STATUS_NO_DEVICE,
                         "install the NVIDIA driver and libraries it was built for, or use --device cpu",
                         "device cuda: cannot load the plug-in: %s", dlerror());
    }
    return error_set(STATUS_NO_DEVICE,
                     "build with -DENABLE_CUDA=ON on a machine with the CUDA Toolkit, or use --device cpu",
                     "device cuda: no " PLUGIN_FILE " in %s or its ../lib", folder);
}

/* *out points to a function pointer. */
static status find_function(void *handle, const char *name, void *out) {
    void *symbol = dlsym(handle, name);
    memcpy(out, &symbol, sizeof symbol); /* C has no cast from data to function pointer */
    if (symbol) return STATUS_OK;
    return error_set(STATUS_NO_DEVICE, "build program and plug-in from the same sources",
                     "device cuda: " PLUGIN_FILE " lacks %s", name);
}

static status open_plugin(device **out, int card) {
    void *handle;
    RETURN_IF_ERROR(load_plugin(&handle));
    device_plugin_open_function open_function;
    status result = find_function(handle, DEVICE_PLUGIN_OPEN_NAME, &open_function);
    if (result == STATUS_OK) result = open_function(out, card, DEVICE_PLUGIN_VERSION);
    if (result != STATUS_OK) {
        dlclose(handle);
        return result;
    }
    (*out)->plugin = handle;
    return STATUS_OK;
}

status device_describe_cuda(device_describe_row row, void *context) {
    void *handle;
    RETURN_IF_ERROR(load_plugin(&handle));
    device_plugin_describe_function describe;
    status result = find_function(handle, DEVICE_PLUGIN_DESCRIBE_NAME, &describe);
    if (result == STATUS_OK) result = describe(row, context, DEVICE_PLUGIN_VERSION);
    dlclose(handle);
    return result;
}

/* The number of "cuda" or "cuda:N"; -1 for another name. */
static int card_number(const char *name) {
    if (strncmp(name, "cuda", 4) != 0) return -1;
    if (name[4] == '\0') return 0;
    size_t digits = strspn(name + 5, "0123456789");
    if (name[4] != ':' || digits < 1 || digits > 3 || name[5 + digits] != '\0') return -1;
    return atoi(name + 5);
}

static status open_any(device **out, const char *name) {
    if (strcmp(name, "cpu") == 0) return device_cpu_open(out);
    int card = card_number(name);
    if (card >= 0) return open_plugin(out, card);
    return error_set(STATUS_USAGE, "use --device cpu or --device cuda", "unknown device %s", name);
}

status device_open(device **out, const char *name) {
    *out = NULL;
    RETURN_IF_ERROR(open_any(out, name));
    memory_ranges_init(&(*out)->ranges);
    return STATUS_OK;
}

void device_close(device *d) {
    if (!d) return;
    size_t left = device_memory_used(d);
    CHECK(left == 0, "device %s closed with %zu bytes still allocated", d->name, left);
    void *plugin = d->plugin;
    memory_ranges_release(&d->ranges);
    d->ops->close(d);
    if (plugin) dlclose(plugin);
}

device_kind device_get_kind(const device *d) {
    return d->kind;
}
const char *device_get_name(const device *d) {
    return d->name;
}
bool device_is_host_accessible(const device *d) {
    return d->host_accessible;
}

const struct op_kernel *device_find_kernel(const device *d, const char *op_name) {
    return device_find_variant(d, op_name, 0);
}

const struct op_kernel *device_find_variant(const device *d, const char *op_name, int index) {
    return d->ops->find_kernel ? d->ops->find_kernel(op_name, index) : NULL;
}

status device_open_comm(device *d, struct comm **out, struct comm *host) {
    if (d->ops->open_comm) return d->ops->open_comm(d, out, host);
    return error_set(STATUS_NO_DEVICE, "use MPI through host memory", "device %s has no sums of its own",
                     d->name);
}

uint64_t device_host_waits(const device *d) {
    return atomic_load(&d->host_waits);
}

/* Every wait of the host goes through here. */
static void count_wait(device *d, const char *call) {
    CHECK(!d->capturing, "%s: would wait for the device while a graph is captured", call);
    atomic_fetch_add(&d->host_waits, 1);
}

status device_alloc(device *d, void **out, size_t bytes, const char *what) {
    count_wait(d, "device_alloc");
    RETURN_IF_ERROR(d->ops->alloc(d, out, bytes, what));
    memory_ranges_add(&d->ranges, *out, bytes, MEMORY_DEVICE, what);
    size_t used = atomic_fetch_add(&d->used, bytes) + bytes, peak = atomic_load(&d->peak);
    while (used > peak && !atomic_compare_exchange_weak(&d->peak, &peak, used)) {
    }
    return STATUS_OK;
}

void device_free(device *d, void *memory, size_t bytes) {
    if (!memory) return;
    count_wait(d, "device_free");
    memory_ranges_remove(&d->ranges, memory, bytes, MEMORY_DEVICE);
    d->ops->release(d, memory, bytes);
    size_t before = atomic_fetch_sub(&d->used, bytes);
    CHECK(before >= bytes, "%zu bytes freed, only %zu were allocated", bytes, before);
}

size_t device_memory_used(const device *d) {
    return atomic_load(&d->used);
}
size_t device_memory_peak(const device *d) {
    return atomic_load(&d->peak);
}

status device_alloc_host(device *d, void **out, size_t bytes, const char *what) {
    RETURN_IF_ERROR(host_pages_map(out, bytes, what));
    status result = device_pin(d, *out, bytes, what);
    if (result == STATUS_OK) return STATUS_OK;
    host_pages_unmap(*out, bytes);
    *out = NULL;
    return result;
}

void device_free_host(device *d, void *memory, size_t bytes) {
    if (!memory) return;
    device_unpin(d, memory, bytes);
    host_pages_unmap(memory, bytes);
}

status device_pin(device *d, void *memory, size_t bytes, const char *what) {
    count_wait(d, "device_pin");
    RETURN_IF_ERROR(d->ops->pin(d, memory, bytes, what));
    memory_ranges_add(&d->ranges, memory, bytes, MEMORY_PAGE_LOCKED, what);
    return STATUS_OK;
}

void device_unpin(device *d, void *memory, size_t bytes) {
    count_wait(d, "device_unpin");
    memory_ranges_remove(&d->ranges, memory, bytes, MEMORY_PAGE_LOCKED);
    d->ops->unpin(d, memory, bytes);
}

void device_copy(device *d, device_stream *stream, void *destination, const void *source, size_t bytes) {
    if (bytes == 0) return;
    bool pageable = memory_ranges_find(&d->ranges, destination, bytes) == MEMORY_PAGEABLE ||
                    memory_ranges_find(&d->ranges, source, bytes) == MEMORY_PAGEABLE;
    if (pageable) count_wait(d, "device_copy with pageable memory");
    d->ops->copy(d, stream, destination, source, bytes);
    if (pageable) d->ops->synchronize(d, stream);
}

void device_fill(device *d, device_stream *stream, void *memory, int byte, size_t bytes) {
    if (bytes) d->ops->fill(d, stream, memory, byte, bytes);
}

device_stream *device_get_stream(device *d, device_stream_role role) {
    return d->streams[role];
}

void device_synchronize(device *d, device_stream *stream) {
    count_wait(d, "device_synchronize");
    d->ops->synchronize(d, stream);
}

status device_event_new(device *d, device_event **out) {
    return d->ops->event_new(d, out, false);
}
status device_event_new_timed(device *d, device_event **out) {
    return d->ops->event_new(d, out, true);
}
void device_event_free(device *d, device_event *event) {
    if (event) d->ops->event_free(d, event);
}
void device_event_record(device *d, device_event *event, device_stream *stream) {
    d->ops->event_record(d, event, stream);
}
void device_event_wait(device *d, device_stream *stream, device_event *event) {
    d->ops->event_wait(d, stream, event);
}

void device_event_synchronize(device *d, device_event *event) {
    count_wait(d, "device_event_synchronize");
    d->ops->event_synchronize(d, event);
}

bool device_event_is_reached(device *d, device_event *event) {
    return d->ops->event_is_reached(d, event);
}
void device_range_begin(device *d, const char *name) {
    if (d->ops->range_begin) d->ops->range_begin(d, name);
}

void device_range_end(device *d) {
    if (d->ops->range_end) d->ops->range_end(d);
}

double device_event_seconds(device *d, const device_instant *origin, device_event *event) {
    return origin->seconds + 1e-3 * device_event_milliseconds(d, origin->event, event);
}

double device_event_milliseconds(device *d, device_event *from, device_event *to) {
    return d->ops->event_milliseconds(d, from, to);
}

bool device_can_capture(const device *d) {
    return d->ops->capture_begin != NULL;
}

void device_capture_begin(device *d) {
    CHECK(device_can_capture(d), "device %s cannot capture", d->name);
    CHECK(!d->capturing, "a capture runs already");
    d->ops->capture_begin(d);
    d->capturing = true;
}

status device_capture_end(device *d, device_graph **out) {
    CHECK(d->capturing, "no capture was begun");
    *out = NULL;
    d->capturing = false;
    return d->ops->capture_end(d, out);
}

void device_graph_launch(device *d, device_graph *g) {
    CHECK(!d->capturing, "a graph is launched while another is captured");
    d->ops->graph_launch(d, g);
}
void device_graph_free(device *d, device_graph *g) {
    if (g) d->ops->graph_free(d, g);
}
