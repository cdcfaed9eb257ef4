/* Reference of roi_pool. Channels are the tiles: each is written by one thread, in the order of the regions. */
#include "roi_pool/roi_pool.h"

#include "base/thread_pool.h"
#include "roi_pool/roi_pool_bins.h"

enum { CHANNEL_TILE = 32 };

typedef struct region {
    const REAL *image; /* of x */
    int64_t image_offset;
    pool_region g;
} region;

static region region_of(const op_call *call, int64_t r) {
    const roi_pool_params *p = call->params;
    const tensor *x = call->in[ROI_POOL_X];
    region g = {
        .g = pool_region_make((const REAL *)call->in[ROI_POOL_ROIS]->data + 5 * r, (REAL)p->spatial_scale)};
    g.image_offset = g.g.image * x->shape[1] * x->shape[2] * x->shape[3];
    g.image = (const REAL *)x->data + g.image_offset;
    return g;
}

/* Pixels of one bin on both axes. */
typedef struct bin {
    pool_range y, x;
} bin;

/* Index in the image of the first largest pixel of channel c; -1: the bin is empty. */
static int64_t largest(const region *g, const bin *b, const int64_t shape[4], int64_t c) {
    int64_t best = -1;
    for (int64_t y = b->y.first; y < b->y.end; y++) {
        for (int64_t x = b->x.first; x < b->x.end; x++) {
            int64_t at = (y * shape[2] + x) * shape[3] + c;
            if (best < 0 || g->image[at] > g->image[best]) best = at;
        }
    }
    return best;
}

typedef void (*visit_bin)(const op_call *call, const region *g, int64_t out, int64_t best);

static void read_bin(const op_call *call, const region *g, int64_t out, int64_t best) {
    ((REAL *)call->out[0]->data)[out] = best < 0 ? 0 : g->image[best];
}

static void add_bin(const op_call *call, const region *g, int64_t out, int64_t best) {
    if (best >= 0)
        ((REAL *)call->d_in[ROI_POOL_X]->data)[g->image_offset + best] +=
            ((const REAL *)call->d_out[0]->data)[out];
}

typedef struct job {
    const op_call *call;
    visit_bin visit;
} job;

static void channels_tile(void *context, int64_t tile, int thread) {
    (void)thread;
    const job *j = context;
    const int64_t *shape = j->call->in[ROI_POOL_X]->shape;
    int64_t rows = tensor_valid_rows(j->call->in[ROI_POOL_ROIS]), channels = shape[3];
    int output_size = ((const roi_pool_params *)j->call->params)->output_size;
    int64_t first = tile * CHANNEL_TILE,
            end = first + CHANNEL_TILE < channels ? first + CHANNEL_TILE : channels;
    for (int64_t r = 0; r < rows; r++) {
        region g = region_of(j->call, r);
        for (int p = 0; p < output_size; p++) {
            for (int q = 0; q < output_size; q++) {
                int64_t out = ((r * output_size + p) * output_size + q) * channels;
                bin b = {pool_bin(&g.g, 0, p, output_size, shape[1]),
                         pool_bin(&g.g, 1, q, output_size, shape[2])};
                for (int64_t c = first; c < end; c++)
                    j->visit(j->call, &g, out + c, largest(&g, &b, shape, c));
            }
        }
    }
}

static void each_channel(const op_call *call, visit_bin visit) {
    job j = {call, visit};
    parallel_for((call->in[ROI_POOL_X]->shape[3] + CHANNEL_TILE - 1) / CHANNEL_TILE, channels_tile, &j);
}

static void forward(const op_call *call) {
    each_channel(call, read_bin);
}

static void backward(const op_call *call) {
    tensor *d_x = call->d_in[ROI_POOL_X];
    if (!d_x) return;
    int64_t count = tensor_count(d_x);
    for (int64_t i = 0; i < count && !call->accumulate[ROI_POOL_X]; i++) ((REAL *)d_x->data)[i] = 0;
    if (call->d_out[0]) each_channel(call, add_bin);
}

const op_kernel REAL_NAME(roi_pool_reference) = {
    .name = REAL_KERNEL_NAME, .forward = forward, .backward = backward};
