#include "conv_engine.h"

#include "base/thread_pool.h"
#include "conv_winograd.h"

#include <string.h>

enum { SCRATCH_ALIGNMENT = 64 };

void *conv_take(uintptr_t *at, int64_t bytes) {
    uintptr_t start = *at;
    *at = (start + (uintptr_t)bytes + SCRATCH_ALIGNMENT - 1) / SCRATCH_ALIGNMENT * SCRATCH_ALIGNMENT;
    return (void *)start;
}

conv_panels conv_panels_of(int64_t columns) {
    int64_t vectors = conv_tiles(columns, micro_best()->lanes);
    return (conv_panels){
        .columns = columns, .vectors = vectors, .count = conv_tiles(vectors, MICRO_MAX_VECTORS)};
}

conv_panel conv_panel_at(const conv_panels *p, int64_t panel) {
    int64_t lanes = micro_best()->lanes, from = conv_panel_first(p, panel),
            to = conv_panel_first(p, panel + 1);
    conv_panel at = {.first = from * lanes, .width = (to - from) * lanes, .vectors = (int)(to - from)};
    at.exist = conv_least(at.width, p->columns - at.first);
    return at;
}

/* --- the choice of the method, by shape ---------------------------------------------------------------------------- */

void conv_apply(const conv_shape *shape, const float *x, const float *weight, const conv_epilogue *to,
                void *scratch) {
    if (conv_winograd_suits(shape))
        conv_winograd(shape, x, weight, to, scratch);
    else
        conv_gather(shape, x, weight, to, scratch);
}

void conv_apply_transposed(const conv_shape *shape, const float *g, const uint8_t *live, const float *weight,
                           const conv_epilogue *to, void *scratch) {
    if (conv_winograd_suits(shape))
        conv_winograd_transposed(shape, g, live, weight, to, scratch);
    else
        conv_gather_transposed(shape, g, live, weight, to, scratch);
}

size_t conv_apply_scratch(const conv_shape *shape) {
    return conv_winograd_suits(shape) ? conv_winograd_scratch(shape) : conv_gather_scratch(shape);
}

size_t conv_apply_transposed_scratch(const conv_shape *shape) {
    return conv_winograd_suits(shape) ? conv_winograd_transposed_scratch(shape)
                                      : conv_gather_transposed_scratch(shape);
}

/* --- the incoming gradient ----------------------------------------------------------------------------------- */

enum { MOST_SLICES = 64, LEAST_PIXELS = 128 };

static int64_t slices_of(int64_t pixels) {
    int64_t slices = conv_tiles(pixels, LEAST_PIXELS);
    return conv_least(slices, MOST_SLICES);
}

typedef struct receive_job {
    const conv_incoming *in;
    int64_t slices;
    double *sums; /* [slices][k] */
} receive_job;

/* Whether any bit but the sign is set. */
static bool has_value(const float *g, int64_t k) {
    uint32_t bits = 0;
    for (int64_t i = 0; i < k; i++) {
        uint32_t value;
        memcpy(&value, &g[i], sizeof value);
        bits |= value;
    }
    return bits << 1 != 0;
}

static void receive_pixel(const conv_incoming *in, int64_t pixel, double *sums) {
    int64_t k = in->k;
    float *g = in->g + pixel * k;
    bool live = has_value(g, k);
    if (live && in->y) {
        const float *y = in->y + pixel * k;
        for (int64_t i = 0; i < k; i++) g[i] = y[i] > 0 ? g[i] : 0;
        live = has_value(g, k);
    }
    if (in->live) in->live[pixel] = live;
    if (live && sums)
        for (int64_t i = 0; i < k; i++) sums[i] += g[i];
    if (!in->d_residual || in->d_residual == in->g) return;
    float *residual = in->d_residual + pixel * k;
    if (!in->accumulate_residual)
        memcpy(residual, g, (size_t)k * sizeof *g);
    else if (live)
        for (int64_t i = 0; i < k; i++) residual[i] += g[i];
}

static void receive_slice(void *context, int64_t slice, int thread) {
    (void)thread;
    const receive_job *job = context;
    const conv_incoming *in = job->in;
    double *sums = in->d_bias ? job->sums + slice * in->k : NULL;
    if (sums) memset(sums, 0, (size_t)in->k * sizeof *sums);
    int64_t end = in->pixels * (slice + 1) / job->slices;
    for (int64_t pixel = in->pixels * slice / job->slices; pixel < end; pixel++)
        receive_pixel(in, pixel, sums);
}

void conv_receive_gradient(const conv_incoming *in, void *scratch) {
    receive_job job = {.in = in, .slices = slices_of(in->pixels), .sums = scratch};
    parallel_for(job.slices, receive_slice, &job);
    for (int64_t i = 0; i < in->k && in->d_bias; i++) {
        double sum = in->accumulate_bias ? in->d_bias[i] : 0;
        for (int64_t slice = 0; slice < job.slices; slice++) sum += job.sums[slice * in->k + i];
        in->d_bias[i] = (float)sum;
    }
}

size_t conv_receive_gradient_scratch(int64_t pixels, int64_t k) {
    return (size_t)(slices_of(pixels) * k) * sizeof(double);
}

/* --- backward ------------------------------------------------------------------------------------------------ */

void conv_run_backward(const conv_backward *job, void *scratch) {
    const conv_shape *v = &job->shape;
    conv_incoming in = job->incoming;
    uintptr_t at = (uintptr_t)scratch;
    in.pixels = v->n * v->ho * v->wo;
    in.k = v->k;
    in.live = conv_take(&at, in.pixels);
    conv_receive_gradient(&in, (void *)at);
    if (job->d_weight) {
        conv_weight_gradient to = {.x = job->x,
                                   .g = in.g,
                                   .live = in.live,
                                   .d_weight = job->d_weight,
                                   .accumulate = job->accumulate_weight};
        conv_weight_backward(v, &to, (void *)at);
    }
    if (!job->d_x) return;
    conv_epilogue to = {.dest = job->d_x, .add = job->accumulate_x ? job->d_x : NULL};
    conv_apply_transposed(v, in.g, in.live, job->weight, &to, (void *)at);
}

size_t conv_backward_scratch(const conv_shape *v, bool wants_x, bool wants_weight) {
    size_t largest = conv_receive_gradient_scratch(v->n * v->ho * v->wo, v->k);
    size_t weight = wants_weight ? conv_weight_backward_scratch(v) : 0,
           x = wants_x ? conv_apply_transposed_scratch(v) : 0;
    if (weight > largest) largest = weight;
    if (x > largest) largest = x;
    uintptr_t at = 0;
    conv_take(&at, v->n * v->ho * v->wo);
    return at + largest;
}
