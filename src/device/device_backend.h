/* What a backend fills in. Only device.c, the backends and the plug-in include this. */
#ifndef DEVICE_DEVICE_BACKEND_H
#define DEVICE_DEVICE_BACKEND_H

#include "device/device.h"
#include "device/memory_ranges.h"

#include <stdatomic.h>

typedef struct device_ops {
    void (*close)(device *d);
    status (*alloc)(device *d, void **out, size_t bytes, const char *what);
    void (*release)(device *d, void *memory, size_t bytes);
    status (*pin)(device *d, void *memory, size_t bytes, const char *what);
    void (*unpin)(device *d, void *memory, size_t bytes);
    void (*copy)(device *d, device_stream *stream, void *destination, const void *source, size_t bytes);
    void (*fill)(device *d, device_stream *stream, void *memory, int byte, size_t bytes);
    void (*synchronize)(device *d, device_stream *stream);
    status (*event_new)(device *d, device_event **out, bool timed);
    void (*event_free)(device *d, device_event *event);
    void (*event_record)(device *d, device_event *event, device_stream *stream);
    void (*event_wait)(device *d, device_stream *stream, device_event *event);
    void (*event_synchronize)(device *d, device_event *event);
    status (*open_comm)(device *d, struct comm **out,
                        struct comm *host); /* see device_open_comm; may be NULL */
    bool (*event_is_reached)(device *d, device_event *event);
    double (*event_milliseconds)(device *d, device_event *from, device_event *to);
    /* All four NULL: the device cannot capture. */
    void (*capture_begin)(device *d);
    status (*capture_end)(device *d, device_graph **out);
    void (*graph_launch)(device *d, device_graph *g);
    void (*graph_free)(device *d, device_graph *g);
    void (*range_begin)(device *d, const char *name); /* see device_range_begin; both may be NULL */
    void (*range_end)(device *d);
    const struct op_kernel *(*find_kernel)(const char *op_name,
                                           int index); /* see device_find_variant; NULL on the CPU */
} device_ops;

/* First member of a backend's own struct, zeroed but for what the backend sets: ops, kind, name, streams (NULL where it has
 * none), host_accessible. */
struct device {
    const device_ops *ops;
    device_kind kind;
    char name[64];
    device_stream *streams[3]; /* by device_stream_role */
    void *plugin;              /* dlopen handle, set by device_open; NULL for the CPU */
    bool host_accessible, capturing;
    atomic_size_t used, peak;
    atomic_uint_least64_t host_waits;
    memory_ranges ranges; /* kept by device.c; a backend may look addresses up */
};

status device_cpu_open(device **out);

/* A plug-in exports `status device_plugin_open(device **out, int card, int version)` and refuses
 * (NO_DEVICE) a version that is not the one it was built with. */
enum { DEVICE_PLUGIN_VERSION = 6 };
typedef status (*device_plugin_open_function)(device **out, int card, int version);
#define DEVICE_PLUGIN_OPEN_NAME "device_plugin_open"

/* And `status device_plugin_describe(row, context, version)`, see device_describe_cuda; it refuses in the same way. */
typedef status (*device_plugin_describe_function)(device_describe_row row, void *context, int version);
#define DEVICE_PLUGIN_DESCRIBE_NAME "device_plugin_describe"

/* Zeroed pages of host memory, committed on first write. */
status host_pages_map(void **out, size_t bytes, const char *what);
void host_pages_unmap(void *memory, size_t bytes);

#endif
