/* What a backend of comm.h fills in; see there for the meaning of each. Only src/comm and the plug-in include
 * this. A backend for the memory of a GPU has a `host` comm and fills in only what is above the line; sums of host memory and
 * the rest then go to `host`. */
#ifndef COMM_COMM_BACKEND_H
#define COMM_COMM_BACKEND_H

#include "comm/comm.h"

typedef struct comm_ops {
    const char *name;
    void (*close)(comm *c);
    void (*sum_f64)(comm *c, double *values, size_t count);
    comm_request (*start_sum)(comm *c, void *values, size_t count, comm_type type);
    void (*wait)(comm *c, comm_request request);
    bool (*is_done)(comm *c, comm_request request);
    bool (*sum_span)(comm *c, comm_request request, double *start, double *end); /* NULL: it cannot tell */
    void (*poll)(comm *c); /* NULL: nothing to look at */
    /* ---- for host memory ---- */
    void (*max_i32)(comm *c, int32_t *values, size_t count);
    void (*broadcast)(comm *c, void *bytes, size_t size, int root);
    void (*barrier)(comm *c);
    void (*gather)(comm *c, void *out, const void *record, size_t record_size);
    void (*gather_bytes)(comm *c, void *out, const size_t *sizes, const void *bytes, size_t size);
    void (*abort)(comm *c, int exit_code);
} comm_ops;

/* First member of a backend's own struct. */
struct comm {
    const comm_ops *ops;
    rank_env env;
    device *device;
    comm *host; /* owned; NULL where the backend itself works on host memory */
};

status comm_single_open(comm **out, const rank_env *env, device *d);

/* Works on host memory only, whatever the device is. */
status comm_mpi_host_open(comm **out, const rank_env *env, device *d);

/* The memory of a device by copies to page-locked memory and back, the rest by `host`, which then belongs to it. The host
 * waits for the device. OS. */
status comm_staged_open(comm **out, comm *host, device *d);

#endif
