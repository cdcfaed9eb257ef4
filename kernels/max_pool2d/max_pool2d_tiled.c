/* max_pool2d in bands of rows over the compute threads, vectorised along the channels. Backward gives each
 * band of x's rows to one tile, which looks at all windows that reach into it; so no two tiles write one
 * element. */
#include "max_pool2d/max_pool2d.h"

#include "base/thread_pool.h"

#include <string.h>

enum { BAND_ELEMENTS = 65536, WIDTH = 8 };

typedef float floats
    __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias)); /* anywhere in an array */
typedef int32_t ints __attribute__((vector_size(4 * WIDTH)));

typedef struct job {
    const op_call *call;
    const int64_t *in, *out;     /* shapes */
    int64_t images, band, bands; /* rows in a band (of y forward, of x backward) and bands in an image */
    int kernel, stride, pad;
} job;

static job make_job(const op_call *call, const int64_t *banded) {
    const max_pool2d_params *p = call->params;
    job j = {.call = call,
             .in = call->in[MAX_POOL2D_X]->shape,
             .out = call->out[0]->shape,
             .images = tensor_valid_rows(call->out[0]),
             .kernel = p->kernel,
             .stride = p->stride,
             .pad = p->pad};
    int64_t row = banded[2] * banded[3];
    j.band = row > 0 ? (BAND_ELEMENTS + row - 1) / row : banded[1];
    j.bands = row > 0 ? (banded[1] + j.band - 1) / j.band : 0;
    return j;
}

static int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* Rows or columns of x in window `i`: [first, end). */
typedef struct range {
    int64_t first, end;
} range;

static range window(const job *j, int64_t i, int64_t size) {
    int64_t first = i * j->stride - j->pad;
    return (range){first < 0 ? 0 : first, smaller(first + j->kernel, size)};
}

/* -------------------------------------------------------------------------------------------------------
 * forward */

static void pool_pixel(const job *j, float *restrict y, const float *image, range rows, range columns) {
    int64_t channels = j->in[3], width = j->in[2];
    memcpy(y, image + (rows.first * width + columns.first) * channels, (size_t)channels * sizeof *y);
    for (int64_t r = rows.first; r < rows.end; r++) {
        for (int64_t s = columns.first; s < columns.end; s++) {
            const float *restrict x = image + (r * width + s) * channels;
            for (int64_t c = 0; c < channels; c++) y[c] = x[c] > y[c] || x[c] != x[c] ? x[c] : y[c];
        }
    }
}

static void forward_band(void *context, int64_t tile, int thread) {
    (void)thread;
    const job *j = context;
    int64_t n = tile / j->bands, first = tile % j->bands * j->band, end = smaller(first + j->band, j->out[1]);
    const float *image = tensor_f32(j->call->in[MAX_POOL2D_X]) + n * j->in[1] * j->in[2] * j->in[3];
    float *y = tensor_f32(j->call->out[0]) + (n * j->out[1] + first) * j->out[2] * j->out[3];
    for (int64_t i = first; i < end; i++) {
        range rows = window(j, i, j->in[1]);
        for (int64_t k = 0; k < j->out[2]; k++, y += j->out[3])
            pool_pixel(j, y, image, rows, window(j, k, j->in[2]));
    }
}

static void forward(const op_call *call) {
    job j = make_job(call, call->out[0]->shape);
    parallel_for(j.images * j.bands, forward_band, &j);
}

/* ------------------------------------------------------------------------------------------------------
 * backward */

/* Adds g to the maxima of one window for WIDTH channels, as far as they lie in the rows of the band. `x` and `d_x`
 * point to the first of the channels in pixel (0, 0). */
static void scatter_vector(const job *j, float *d_x, const float *x, const float *g, const range span[3]) {
    range rows = span[0], columns = span[1], band = span[2];
    int64_t stride = j->in[3], width = j->in[2];
    floats best = *(const floats *)(x + (rows.first * width + columns.first) * stride),
           add = *(const floats *)g;
    ints where = {0}, tap = {0};
    for (int64_t r = rows.first; r < rows.end; r++) {
        for (int64_t s = columns.first; s < columns.end; s++, tap += 1) {
            floats v = *(const floats *)(x + (r * width + s) * stride);
            ints better = (v > best) | (v != v);
            best = (floats)(((ints)v & better) | ((ints)best & ~better));
            where = (tap & better) | (where & ~better);
        }
    }
    tap = (ints){0};
    for (int64_t r = rows.first; r < rows.end; r++)
        for (int64_t s = columns.first; s < columns.end; s++, tap += 1)
            if (r >= band.first && r < band.end)
                *(floats *)(d_x + (r * width + s) * stride) += (floats)((ints)add & (where == tap));
}

/* The same for one channel. */
static void scatter_channel(const job *j, float *d_x, const float *x, float g, const range span[3]) {
    range rows = span[0], columns = span[1], band = span[2];
    int64_t stride = j->in[3], width = j->in[2], best = (rows.first * width + columns.first) * stride,
            row = rows.first;
    for (int64_t r = rows.first; r < rows.end; r++) {
        for (int64_t s = columns.first; s < columns.end; s++) {
            int64_t at = (r * width + s) * stride;
            if (!(x[at] > x[best] || x[at] != x[at])) continue;
            best = at;
            row = r;
        }
    }
    if (row >= band.first && row < band.end) d_x[best] += g;
}

static void scatter_pixel(const job *j, float *d_x, const float *x, const float *g, const range span[3]) {
    int64_t channels = j->in[3];
    int64_t c = 0;
    for (; c + WIDTH <= channels; c += WIDTH) scatter_vector(j, d_x + c, x + c, g + c, span);
    for (; c < channels; c++) scatter_channel(j, d_x + c, x + c, g[c], span);
}

/* kernel 1: each pixel of y has its own pixel of x; x is not read. */
static void spread_rows(const job *j, float *d_x, const float *d_y, range band) {
    int64_t channels = j->in[3];
    for (int64_t r = band.first; r < band.end; r++) {
        if (r % j->stride != 0 || r / j->stride >= j->out[1]) continue;
        for (int64_t k = 0; k < j->out[2]; k++) {
            float *restrict d = d_x + (r * j->in[2] + k * j->stride) * channels;
            const float *restrict g = d_y + (r / j->stride * j->out[2] + k) * channels;
            for (int64_t c = 0; c < channels; c++) d[c] += g[c];
        }
    }
}

static void backward_band(void *context, int64_t tile, int thread) {
    (void)thread;
    const job *j = context;
    int64_t n = tile / j->bands, first = tile % j->bands * j->band, row = j->in[2] * j->in[3];
    range band = {first, smaller(first + j->band, j->in[1])};
    const float *x = tensor_f32(j->call->in[MAX_POOL2D_X]) + n * j->in[1] * row;
    float *d_x = tensor_f32(j->call->d_in[MAX_POOL2D_X]) + n * j->in[1] * row;
    const float *d_y = tensor_f32(j->call->d_out[0]) + n * j->out[1] * j->out[2] * j->out[3];
    if (!j->call->accumulate[MAX_POOL2D_X])
        memset(d_x + band.first * row, 0, (size_t)((band.end - band.first) * row) * sizeof *d_x);
    if (j->kernel == 1) {
        spread_rows(j, d_x, d_y, band);
        return;
    }
    /* Windows whose rows [i*stride - pad, i*stride - pad + kernel) meet the band. */
    int64_t low = band.first + j->pad - j->kernel + 1, i = low > 0 ? (low + j->stride - 1) / j->stride : 0;
    int64_t end = smaller((band.end - 1 + j->pad) / j->stride + 1, j->out[1]);
    for (; i < end; i++) {
        for (int64_t k = 0; k < j->out[2]; k++) {
            const range span[3] = {window(j, i, j->in[1]), window(j, k, j->in[2]), band};
            scatter_pixel(j, d_x, x, d_y + (i * j->out[2] + k) * j->out[3], span);
        }
    }
}

static void backward(const op_call *call) {
    if (!call->d_in[MAX_POOL2D_X]) return;
    job j = make_job(call, call->in[MAX_POOL2D_X]->shape);
    parallel_for(j.images * j.bands, backward_band, &j);
}

const op_kernel max_pool2d_tiled = {.name = "tiled", .forward = forward, .backward = backward};
