/* all_reduce_counts; built for float and for double (training uses float). */
#include "all_reduce_counts/all_reduce_counts.h"

#include "comm/comm.h"

#include <string.h>

static void sum_over_ranks(struct comm *c, REAL *values, size_t count) {
#if REAL_IS_FLOAT
    comm_allreduce_sum_f32(c, values, count);
#else
    comm_allreduce_sum_f64(c, values, count);
#endif
}

static void forward(const op_call *call) {
    const tensor *a = call->in[ALL_REDUCE_A], *b = call->in[ALL_REDUCE_B];
    REAL *y = call->out[0]->data;
    if (tensor_count(a)) memcpy(y, a->data, tensor_bytes(a));
    if (tensor_count(b)) memcpy(y + a->shape[0], b->data, tensor_bytes(b));
    if (call->comm) sum_over_ranks(call->comm, y, (size_t)tensor_count(call->out[0]));
}

const op_kernel REAL_NAME(all_reduce_counts_reference) = {.name = REAL_KERNEL_NAME, .forward = forward};
