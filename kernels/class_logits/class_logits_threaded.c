/* class_logits, a row per tile. Each row's sums for its class lie in scratch until those of a class are added in the order of
 * rows. */
#include "class_logits/class_logits.h"

#include "base/thread_pool.h"

#include <string.h>

enum { LANES = 16 }; /* independent sums, so that the compiler may use vectors */

typedef struct job {
    const op_call *call;
    int64_t rows, places, channels;
    const int32_t *labels;
    const float *x, *weight;
    float *sums; /* [rows,channels+1]: d_weight, then d_bias */
} job;

static job make_job(const op_call *call) {
    const tensor *x = call->in[CLASS_LOGITS_X];
    return (job){.call = call,
                 .rows = tensor_valid_rows(x),
                 .places = x->shape[1] * x->shape[2],
                 .channels = x->shape[3],
                 .labels = tensor_i32(call->in[CLASS_LOGITS_LABELS]),
                 .x = tensor_f32(x),
                 .weight = tensor_f32(call->in[CLASS_LOGITS_WEIGHT]),
                 .sums = call->scratch};
}

static float dot(const float *a, const float *b, int64_t n) {
    float lanes[LANES] = {0}, sum = 0;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int lane = 0; lane < LANES; lane++) lanes[lane] += a[i + lane] * b[i + lane];
    for (int lane = 0; lane < LANES; lane++) sum += lanes[lane];
    for (; i < n; i++) sum += a[i] * b[i];
    return sum;
}

static void forward_row(void *context, int64_t row, int thread) {
    (void)thread;
    const job *j = context;
    const float *x = j->x + row * j->places * j->channels, *w = j->weight + j->labels[row] * j->channels;
    float bias = tensor_f32(j->call->in[CLASS_LOGITS_BIAS])[j->labels[row]];
    float *y = tensor_f32(j->call->out[0]) + row * j->places;
    for (int64_t p = 0; p < j->places; p++) y[p] = bias + dot(x + p * j->channels, w, j->channels);
}

static void input_row(const job *j, int64_t row, const float *d_y) {
    const float *restrict w = j->weight + j->labels[row] * j->channels;
    float *restrict d_x = tensor_f32(j->call->d_in[CLASS_LOGITS_X]) + row * j->places * j->channels;
    bool adds = j->call->accumulate[CLASS_LOGITS_X];
    for (int64_t p = 0; p < j->places; p++, d_x += j->channels) {
        if (adds)
            for (int64_t c = 0; c < j->channels; c++) d_x[c] += d_y[p] * w[c];
        else
            for (int64_t c = 0; c < j->channels; c++) d_x[c] = d_y[p] * w[c];
    }
}

static void sum_row(const job *j, int64_t row, const float *d_y) {
    const float *restrict x = j->x + row * j->places * j->channels;
    float *restrict sums = j->sums + row * (j->channels + 1);
    memset(sums, 0, (size_t)(j->channels + 1) * sizeof *sums);
    for (int64_t p = 0; p < j->places; p++, x += j->channels) {
        for (int64_t c = 0; c < j->channels; c++) sums[c] += d_y[p] * x[c];
        sums[j->channels] += d_y[p];
    }
}

static bool wants_sums(const op_call *call) {
    return call->d_in[CLASS_LOGITS_WEIGHT] || call->d_in[CLASS_LOGITS_BIAS];
}

static void backward_row(void *context, int64_t row, int thread) {
    (void)thread;
    const job *j = context;
    const float *d_y = tensor_f32(j->call->d_out[0]) + row * j->places;
    if (j->call->d_in[CLASS_LOGITS_X]) input_row(j, row, d_y);
    if (wants_sums(j->call)) sum_row(j, row, d_y);
}

static void add_sums(float *to, bool adds, const float *sums, const job *j, int64_t label, int64_t count) {
    if (!adds) memset(to, 0, (size_t)count * sizeof *to);
    for (int64_t row = 0; row < j->rows; row++) {
        if (j->labels[row] != label) continue;
        for (int64_t c = 0; c < count; c++) to[c] += sums[row * (j->channels + 1) + c];
    }
}

static void backward_class(void *context, int64_t label, int thread) {
    (void)thread;
    const job *j = context;
    const op_call *call = j->call;
    if (call->d_in[CLASS_LOGITS_WEIGHT])
        add_sums(tensor_f32(call->d_in[CLASS_LOGITS_WEIGHT]) + label * j->channels,
                 call->accumulate[CLASS_LOGITS_WEIGHT], j->sums, j, label, j->channels);
    if (call->d_in[CLASS_LOGITS_BIAS])
        add_sums(tensor_f32(call->d_in[CLASS_LOGITS_BIAS]) + label, call->accumulate[CLASS_LOGITS_BIAS],
                 j->sums + j->channels, j, label, 1);
}

static void forward(const op_call *call) {
    job j = make_job(call);
    parallel_for(j.rows, forward_row, &j);
}

static void backward(const op_call *call) {
    job j = make_job(call);
    parallel_for(j.rows, backward_row, &j);
    if (wants_sums(call)) parallel_for(call->in[CLASS_LOGITS_WEIGHT]->shape[0], backward_class, &j);
}

static size_t scratch_bytes(const op_call *call, bool backward_too) {
    const tensor *x = call->in[CLASS_LOGITS_X];
    return backward_too && wants_sums(call) ? (size_t)(x->shape[0] * (x->shape[3] + 1)) * sizeof(float) : 0;
}

const op_kernel class_logits_threaded = {
    .name = "threaded", .forward = forward, .backward = backward, .scratch_bytes = scratch_bytes};
