/* Sums of gradients over ranks while backward still runs.
 *
 * The flat gradient buffer is cut into buckets at parameter borders, from its end to its start, because
 * backward writes the last layers' gradients first. When every parameter of a bucket is ready, its sum begins
 * behind backward's back. Buckets begin in this fixed order on every rank (a bucket that is complete early
 * waits for those before it), so ranks never disagree, and the bucket size changes no bit of a result. */
#ifndef COMM_GRAD_BUCKETS_H
#define COMM_GRAD_BUCKETS_H

#include "comm/comm.h"

typedef struct grad_buckets grad_buckets;

/* Where a parameter's gradient lies, in elements. `count` 0: no gradient (frozen), never ready. */
typedef struct grad_range {
    const char *name; /* borrowed until grad_buckets_free */
    size_t offset, count;
} grad_range;

/* The flat gradient buffer, in device memory. */
typedef struct grad_buffer {
    void *values;
    comm_type type;
} grad_buffer;

typedef struct grad_bucket_times {
    double exposed_seconds; /* how long grad_buckets_finish waited: the part that backward did not hide */
    int buckets, hidden;    /* hidden: sums that were over when finish was called */
} grad_bucket_times;

/* `params` by rising offset, without overlap; its indices are those given to grad_buckets_ready. A bucket
 * holds at most `bucket_bytes` (SOLVER.GRADIENT_BUCKET_MB), but at least one parameter. `c` and `gradients`
 * are borrowed; NULL `c`: one rank. */
status grad_buckets_new(grad_buckets **out, comm *c, const grad_buffer *gradients, const grad_range *params,
                        int count, size_t bucket_bytes);
void grad_buckets_free(grad_buckets *b);

/* Before each backward. */
void grad_buckets_begin(grad_buckets *b);

/* The gradient of parameter `index` is written and will not be touched again by backward. Twice is a CHECK. */
void grad_buckets_ready(grad_buckets *b, int index);

/* grad_buckets_ready as a tape_ready_hook; `context` is the grad_buckets. */
void grad_buckets_ready_hook(void *context, int index);

/* Waits for all sums. A parameter that never became ready is a CHECK that names it. */
grad_bucket_times grad_buckets_finish(grad_buckets *b);

int grad_buckets_count(const grad_buckets *b);

/* From now on it is noted when each sum runs; `origin` as for tape_measure, of the device the gradients are on. */
void grad_buckets_measure(grad_buckets *b, device *dev, const device_instant *origin);

/* When the sum of a bucket ran, on clock_seconds' clock. */
typedef struct grad_bucket_span {
    double start, seconds; /* 0: it took none */
    size_t bytes;
} grad_bucket_span;

/* Of bucket `index` in the order they begin, of the last step, which the device has finished. Needs grad_buckets_measure. */
grad_bucket_span grad_buckets_span(const grad_buckets *b, int index);

#endif
