/* select_class, a row of the batch per tile: clearing the mask logits' gradient is worth more than one
 * thread. */
#include "select_class/select_class.h"

#include "base/thread_pool.h"

#include <string.h>

typedef struct job {
    const op_call *call;
    int64_t channels, places;
    int size;
} job;

static job make_job(const op_call *call) {
    const tensor *x = call->in[SELECT_X];
    int64_t channels = x->shape[x->rank - 1];
    return (job){call, channels, channels ? tensor_row_size(x) / channels : 0,
                 ((const select_class_params *)call->params)->size};
}

static void forward_row(void *context, int64_t m, int thread) {
    (void)thread;
    const job *j = context;
    const float *x = tensor_f32(j->call->in[SELECT_X]) + m * j->places * j->channels +
                     (int64_t)tensor_i32(j->call->in[SELECT_LABELS])[m] * j->size;
    float *y = tensor_f32(j->call->out[0]) + m * j->places * j->size;
    for (int64_t s = 0; s < j->places; s++)
        for (int d = 0; d < j->size; d++) y[s * j->size + d] = x[s * j->channels + d];
}

static void backward_row(void *context, int64_t m, int thread) {
    (void)thread;
    const job *j = context;
    float *row = tensor_f32(j->call->d_in[SELECT_X]) + m * j->places * j->channels;
    const float *d_y = tensor_f32(j->call->d_out[0]) + m * j->places * j->size;
    if (!j->call->accumulate[SELECT_X]) memset(row, 0, (size_t)(j->places * j->channels) * sizeof *row);
    float *d_x = row + (int64_t)tensor_i32(j->call->in[SELECT_LABELS])[m] * j->size;
    for (int64_t s = 0; s < j->places; s++)
        for (int d = 0; d < j->size; d++) d_x[s * j->channels + d] += d_y[s * j->size + d];
}

static void forward(const op_call *call) {
    job j = make_job(call);
    parallel_for(tensor_valid_rows(call->in[SELECT_X]), forward_row, &j);
}

static void backward(const op_call *call) {
    job j = make_job(call);
    parallel_for(tensor_valid_rows(call->in[SELECT_X]), backward_row, &j);
}

const op_kernel select_class_threaded = {.name = "threaded", .forward = forward, .backward = backward};
