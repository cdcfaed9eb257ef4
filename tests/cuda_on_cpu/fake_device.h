/* A device for tests that looks like a GPU to the program (kind CUDA, three streams, memory the host may not touch) and runs the .cu
 * kernels on the host, at once and in the order queued. What it proves is order: it knows which bytes each op, copy and fill
 * reads and writes and on which stream, and keeps a vector clock for each stream and the host, which only events, waits and
 * the queueing itself advance. An access that is not ordered behind the last write of the same bytes (or, for a write, behind
 * their last reads) would be a race on a GPU: it is recorded as a problem, even though it did no harm here.
 *
 * A recording is checked as CUDA does: a stream takes part once it waits for an event recorded there, and must be joined; events of a
 * recording and of outside do not meet. What CUDA would run at once instead of recording it is a problem too.
 *
 * What it does not see: reads through addresses that are data (image_pack's table of pixels); call fake_device_access for them. */
#ifndef FAKE_DEVICE_H
#define FAKE_DEVICE_H

#include "device/device.h"

/* Close with device_close, which CHECKs that all problems were taken. */
device *fake_device_open(void);

/* The oldest problem that was not taken, NULL: none. Valid until the next call. It names both places: "op relu reads x [0,512) on
 * the compute stream; not ordered behind copy writes ... on the copy stream". */
const char *fake_device_take_problem(device *d);

/* Work that the device table does not see: `what` (lives as long as the device) uses these bytes on a stream; for a stand-in of a library. */
void fake_device_access(device *d, device_stream *stream, const char *what, const void *memory, size_t bytes,
                        bool write);

/* The host itself reads or writes page-locked memory. */
void fake_device_host_access(device *d, const char *what, const void *memory, size_t bytes, bool write);

/* Ops, copies and fills queued so far. */
typedef struct fake_device_counts {
    uint64_t calls, copies, fills, graphs, ranges;
    int open_ranges; /* begun and not ended */
} fake_device_counts;
fake_device_counts fake_device_get_counts(const device *d);

#endif
