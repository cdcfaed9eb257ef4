/* upsample_add: a tile is one row of top and the two rows of y over it; one pass over memory in each
 * direction. */
#include "upsample_add/upsample_add.h"

#include "base/thread_pool.h"

typedef struct job {
    const op_call *call;
    int64_t columns, channels; /* of top */
} job;

static void forward_row(void *context, int64_t row, int thread) {
    (void)thread;
    const job *j = context;
    int64_t channels = j->channels, width = j->columns * channels;
    const float *top = tensor_f32(j->call->in[UPSAMPLE_ADD_TOP]) + row * width;
    const float *lateral = tensor_f32(j->call->in[UPSAMPLE_ADD_LATERAL]) + row * 4 * width;
    float *y = tensor_f32(j->call->out[0]) + row * 4 * width;
    for (int64_t half = 0; half < 4 * width; half += 2 * width) {
        for (int64_t k = 0; k < 2 * j->columns; k++) {
            const float *restrict t = top + k / 2 * channels, *restrict l = lateral + half + k * channels;
            float *restrict out = y + half + k * channels;
            for (int64_t c = 0; c < channels; c++) out[c] = t[c] + l[c];
        }
    }
}

static void gather_top(const job *j, float *d_top, const float *d_y, bool add) {
    int64_t channels = j->channels, width = j->columns * channels;
    for (int64_t k = 0; k < j->columns; k++) {
        const float *restrict upper = d_y + 2 * k * channels, *restrict lower = upper + 2 * width;
        float *restrict d = d_top + k * channels;
        for (int64_t c = 0; c < channels; c++) {
            float sum = (upper[c] + upper[channels + c]) + (lower[c] + lower[channels + c]);
            d[c] = add ? d[c] + sum : sum;
        }
    }
}

static void backward_row(void *context, int64_t row, int thread) {
    (void)thread;
    const job *j = context;
    int64_t width = j->columns * j->channels;
    const float *d_y = tensor_f32(j->call->d_out[0]) + row * 4 * width;
    tensor *d_top = j->call->d_in[UPSAMPLE_ADD_TOP], *d_lateral = j->call->d_in[UPSAMPLE_ADD_LATERAL];
    if (d_top) gather_top(j, tensor_f32(d_top) + row * width, d_y, j->call->accumulate[UPSAMPLE_ADD_TOP]);
    if (!d_lateral || d_lateral->data == j->call->d_out[0]->data) return;
    float *restrict d = tensor_f32(d_lateral) + row * 4 * width;
    bool add = j->call->accumulate[UPSAMPLE_ADD_LATERAL];
    for (int64_t i = 0; i < 4 * width; i++) d[i] = add ? d[i] + d_y[i] : d_y[i];
}

static void run_rows(const op_call *call, parallel_body body) {
    const int64_t *shape = call->in[UPSAMPLE_ADD_TOP]->shape;
    job j = {.call = call, .columns = shape[2], .channels = shape[3]};
    parallel_for(tensor_valid_rows(call->out[0]) * shape[1], body, &j);
}

static void forward(const op_call *call) {
    run_rows(call, forward_row);
}

static void backward(const op_call *call) {
    run_rows(call, backward_row);
}

const op_kernel upsample_add_tiled = {.name = "tiled", .forward = forward, .backward = backward};
