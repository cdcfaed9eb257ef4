/* The device that computes: memory, streams and events behind one table of functions, so no caller knows a
 * backend. The CPU is built in; CUDA is a plug-in (libmaskrcnn_cuda.so) that device_open loads at run time.
 *
 * Streams: work given to one stream runs in order; a NULL stream is the compute stream. Functions with a
 * stream return at once on a GPU; on the CPU every call is finished when it returns, so streams and events
 * have nothing to do there. */
#ifndef DEVICE_DEVICE_H
#define DEVICE_DEVICE_H

#include "base/status.h"

#include <stddef.h>

typedef struct device device;
typedef struct device_stream device_stream;
typedef struct device_event device_event;

struct op_kernel; /* autograd/op.h */
struct comm;      /* comm/comm.h */

typedef enum device_kind { DEVICE_CPU, DEVICE_CUDA } device_kind;

/* Each device has one stream for each of these, made when it is opened. */
typedef enum device_stream_role {
    DEVICE_STREAM_COMPUTE,
    DEVICE_STREAM_COPY,
    DEVICE_STREAM_COMM
} device_stream_role;

/* Opens "cpu", "cuda" (card 0) or "cuda:N" (card N of those CUDA_VISIBLE_DEVICES shows; a rank passes its
 * local rank). USAGE: unknown name. NO_DEVICE: no plug-in beside the program or in ../lib, or no such card.
 * Close with device_close when all its memory is freed. */
status device_open(device **out, const char *name);
void device_close(device *d);

device_kind device_get_kind(const device *d);
const char *device_get_name(const device *d); /* "cpu", or the card's own name */

/* The device's kernel of an op. NULL: it has none; always so for the CPU, whose kernels are in the op's own
 * table. */
const struct op_kernel *device_find_kernel(const device *d, const char *op_name);

/* Collective, for comm_open: sums of this device's memory over the ranks without the host; on success *out owns `host`, which
 * connects the ranks already. NO_DEVICE, on all ranks alike: it cannot, the error says why. */
status device_open_comm(device *d, struct comm **out, struct comm *host);

/* Zeroed, page-aligned memory of the device; `what` names its purpose in the error (STATUS_OS with the
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

/* Either side may be host or device memory; the ranges must not overlap. */
void device_copy(device *d, device_stream *stream, void *destination, const void *source, size_t bytes);
void device_fill(device *d, device_stream *stream, void *memory, int byte, size_t bytes);

device_stream *device_get_stream(device *d, device_stream_role role);
void device_synchronize(device *d, device_stream *stream); /* the host waits until the stream is empty */

/* An event marks a place in a stream. Wait: the stream goes on only after the place was reached. */
status device_event_new(device *d, device_event **out);
void device_event_free(device *d, device_event *event);
void device_event_record(device *d, device_event *event, device_stream *stream);
void device_event_wait(device *d, device_stream *stream, device_event *event);
void device_event_synchronize(device *d, device_event *event); /* the host waits */

#endif
