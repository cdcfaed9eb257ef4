/* What a backend of comm.h fills in; see there for the meaning of each. Only src/comm and the plug-in include
 * this. */
#ifndef COMM_COMM_BACKEND_H
#define COMM_COMM_BACKEND_H

#include "comm/comm.h"

typedef struct comm_ops {
    const char *name;
    void (*close)(comm *c);
    void (*sum_f64)(comm *c, double *values, size_t count);
    comm_request (*start_sum_f32)(comm *c, float *values, size_t count);
    void (*wait)(comm *c, comm_request request);
    bool (*is_done)(comm *c, comm_request request);
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
};

status comm_single_open(comm **out, const rank_env *env, device *d);
status comm_mpi_host_open(comm **out, const rank_env *env, device *d);

#endif
