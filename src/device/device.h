/* The device that computes: memory, streams and events behind one table of functions, so no caller knows a
 * backend. The CPU is built in; CUDA is a plug-in (libmaskrcnn_cuda.so) that device_open loads at run time.
 *
 * Streams: work given to one stream runs in order; a NULL stream is the compute stream. Functions with a
 * stream return at once on a GPU; on the CPU every call is finished when it returns, so streams and events
 * have nothing to do there. */
#ifndef DEVICE_DEVICE_H
#define DEVICE_DEVICE_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct device device;
typedef struct device_stream device_stream;
typedef struct device_event device_event;
typedef struct device_graph device_graph;

struct op_kernel; /* autograd/op.h */
struct comm;      /* comm/comm.h */

typedef enum device_kind { DEVICE_CPU, DEVICE_CUDA } device_kind;

/* Each device has one stream for each of these, made when it is opened. */
typedef enum device_stream_role {
    DEVICE_STREAM_COMPUTE,
    DEVICE_STREAM_COPY,
    DEVICE_STREAM_COMM
} device_stream_role;

/* Opens "cpu", "cuda" (card 0) or "cuda:N" (card N of those CUDA_VISIBLE_DEVICES shows, counted
 * on from 0 again behind the last: a rank passes its local rank, and its launcher may show it one card only). USAGE: unknown name. NO_DEVICE: no plug-in beside the program or in ../lib, or no such card.
 * Close with device_close when all its memory is freed. */
status device_open(device **out, const char *name);
void device_close(device *d);

/* Tells in rows, for people, what the plug-in was built with and what it finds here: driver, cards, libraries, and what is
 * missing. NO_DEVICE: there is no plug-in that can be loaded. */
typedef void (*device_describe_row)(void *context, const char *name, const char *value);
status device_describe_cuda(device_describe_row row, void *context);

device_kind device_get_kind(const device *d);
const char *device_get_name(const device *d); /* "cpu", or the card's own name */

/* Whether the host may read and write memory of device_alloc by its address. */
bool device_is_host_accessible(const device *d);

/* How often the host has waited for the device since it was opened: device_synchronize, device_event_synchronize, copies
 * that are not asynchronous (below), and every call that takes, pins or gives back memory, since those wait inside CUDA.
 * The CPU counts the same calls, so a test can prove there too that a step queues without a wait. */
uint64_t device_host_waits(const device *d);

/* The device's kernel of an op. NULL: it has none; always so for the CPU, whose kernels are in the op's own
 * table. */
const struct op_kernel *device_find_kernel(const device *d, const char *op_name);

/* All its kernels of an op, by falling preference: the first is that of device_find_kernel. NULL behind the last. */
const struct op_kernel *device_find_variant(const device *d, const char *op_name, int index);

/* Collective, for comm_open: sums of this device's memory over the ranks without the host; on success *out owns `host`, which
 * connects the ranks already. NO_DEVICE, on all ranks alike: it cannot, the error says why. */
status device_open_comm(device *d, struct comm **out, struct comm *host);

/* Zeroed memory of the device, aligned to 256 bytes (on the CPU to a page); `what` names its purpose in the error (STATUS_OS with the
 * bytes). On the CPU pages are committed when they are first written, so reserving more than is used costs
 * nothing. 0 bytes give a valid address. `bytes` must be the same for the free. NULL may be freed. */
status device_alloc(device *d, void **out, size_t bytes, const char *what);
void device_free(device *d, void *memory, size_t bytes);

/* Bytes of device_alloc now and at most so far. */
size_t device_memory_used(const device *d);
size_t device_memory_peak(const device *d);

/* Page-locked host memory that copies to and from the device overlap with; rules as for device_alloc. */
status device_alloc_host(device *d, void **out, size_t bytes, const char *what);
void device_free_host(device *d, void *memory, size_t bytes);

/* Page-locks host memory that exists already (the loader's ring), and undoes it. Nothing to do on the CPU. */
status device_pin(device *d, void *memory, size_t bytes, const char *what);
void device_unpin(device *d, void *memory, size_t bytes);

/* Either side may be host or device memory; the ranges must not overlap. A copy is asynchronous if each side is memory of
 * device_alloc or page-locked memory of this device: it is finished when the stream has reached it, and until then the host
 * must neither write the source nor touch the destination. With any other (pageable) host memory it is finished when the call
 * returns, after all earlier work of the stream, and counts as a host wait. */
void device_copy(device *d, device_stream *stream, void *destination, const void *source, size_t bytes);
void device_fill(device *d, device_stream *stream, void *memory, int byte, size_t bytes);

device_stream *device_get_stream(device *d, device_stream_role role);
void device_synchronize(device *d, device_stream *stream); /* the host waits until the stream is empty */

/* An event marks the place in a stream where it was last recorded; one that never was counts as reached. Wait: the stream
 * goes on only after the place was reached. Only timed events can be given to device_event_milliseconds; others cost less. */
status device_event_new(device *d, device_event **out);
status device_event_new_timed(device *d, device_event **out);
void device_event_free(device *d, device_event *event);
void device_event_record(device *d, device_event *event, device_stream *stream);
void device_event_wait(device *d, device_stream *stream, device_event *event);
void device_event_synchronize(device *d, device_event *event); /* the host waits */
bool device_event_is_reached(device *d, device_event *event);  /* the host does not wait */

/* Time between two timed events that are recorded and reached. On the CPU: between the calls that recorded them. */
double device_event_milliseconds(device *d, device_event *from, device_event *to);

/* A moment on the host's clock (clock_seconds) and on the device's: a timed event, recorded while nothing was queued. */
typedef struct device_instant {
    double seconds;
    device_event *event;
} device_instant;

/* When a timed event, recorded and reached since that moment, was reached, on the host's clock. */
double device_event_seconds(device *d, const device_instant *origin, device_event *event);

/* What the host queues until the end of the range is called `name` where a tool watches the device (NVTX, for Nsight). Ranges lie within
 * one another. Costs next to nothing where nobody watches, nothing on the CPU. */
void device_range_begin(device *d, const char *name);
void device_range_end(device *d);

/* A graph is a recording that is queued as a whole, with one call of the driver. Between begin and end, everything queued on
 * the compute stream, and on streams that wait for an event recorded there, is recorded and does not run; such a stream must
 * be joined again (the compute stream waits for its last event) before the end. Nothing in between may wait, take or give
 * back memory. All addresses are those of the recording. Launch queues it on the compute stream. The CPU cannot capture.
 * OS: the driver refused. */
bool device_can_capture(const device *d);
void device_capture_begin(device *d);
status device_capture_end(device *d, device_graph **out);
void device_graph_launch(device *d, device_graph *g);
void device_graph_free(device *d, device_graph *g);

#endif
