/* roi_pool by rows of bins: the map rows of one row of bins are first merged pixel by pixel, for all columns and channels of the
 * region at once; then each bin looks along its columns. Forward: a tile for each region. Backward: a tile for each image and
 * block of channels, which goes through the image's regions in order; so each element of d_x is written by one tile,
 * whatever the number of threads. Backward finds the largest pixels again. */
#include "roi_pool/roi_pool.h"

#include "base/round_up.h"
#include "base/thread_pool.h"
#include "roi_pool/roi_pool_bins.h"

#include <math.h>
#include <string.h>

enum { CHANNEL_BLOCK = 64, CLEAR_FLOATS = 1 << 18, ALIGN = 64 };

typedef struct job {
    const op_call *call;
    int64_t images, height, width, channels, rows, capacity;
    int output_size;
    float scale;
    size_t line_bytes; /* of a merged row: floats, or row numbers */
} job;

static job make_job(const op_call *call) {
    const roi_pool_params *p = call->params;
    const tensor *x = call->in[ROI_POOL_X];
    job j = {.call = call,
             .images = x->shape[0],
             .height = x->shape[1],
             .width = x->shape[2],
             .channels = x->shape[3],
             .capacity = call->in[ROI_POOL_ROIS]->shape[0],
             .output_size = p->output_size,
             .scale = (float)p->spatial_scale};
    j.line_bytes = round_up((size_t)(j.width * j.channels) * sizeof(float), ALIGN);
    return j;
}

/* For each thread a merged row and its row numbers; in backward also the regions by image. */
static size_t scratch_bytes(const op_call *call, bool backward) {
    job j = make_job(call);
    size_t lines = 2 * j.line_bytes * (size_t)thread_pool_size();
    return lines + (backward ? (size_t)(j.capacity + j.images + 1) * sizeof(int32_t) : 0);
}

static float *line_of(const job *j, int thread) {
    return (float *)(void *)((char *)j->call->scratch + 2 * j->line_bytes * (size_t)thread);
}

/* The first region of each image, [images + 1], then the regions by image, in order. */
static int32_t *lists_of(const job *j) {
    return (int32_t *)(void *)((char *)j->call->scratch + 2 * j->line_bytes * (size_t)thread_pool_size());
}

static pool_region region_of(const job *j, int64_t r) {
    return pool_region_make(tensor_f32(j->call->in[ROI_POOL_ROIS]) + 5 * r, j->scale);
}

/* Columns that any bin of the region touches. */
static pool_range columns_of(const job *j, const pool_region *g) {
    return (pool_range){.first = pool_bin(g, 1, 0, j->output_size, j->width).first,
                        .end = pool_bin(g, 1, j->output_size - 1, j->output_size, j->width).end};
}

/* ---- forward ---------------------------------------------------------------------------------------------- */

/* most[i] = the largest of x[y][i]; NaN is never larger. */
static void merge_rows(float *restrict most, const float *restrict x, pool_range y, int64_t stride,
                       int64_t count) {
    for (int64_t i = 0; i < count; i++) most[i] = -INFINITY;
    for (int64_t row = y.first; row < y.end; row++) {
        const float *restrict from = x + row * stride;
        for (int64_t i = 0; i < count; i++) most[i] = from[i] > most[i] ? from[i] : most[i];
    }
}

/* One bin out of the merged columns that begin at `most`. A first pixel that is NaN stays, as no other one is larger. */
static void merge_columns(float *restrict y, const float *restrict most, const float *restrict first,
                          int64_t columns, int64_t channels) {
    for (int64_t c = 0; c < channels; c++) y[c] = most[c];
    for (int64_t x = 1; x < columns; x++) {
        const float *restrict from = most + x * channels;
        for (int64_t c = 0; c < channels; c++) y[c] = from[c] > y[c] ? from[c] : y[c];
    }
    for (int64_t c = 0; c < channels; c++) y[c] = first[c] == first[c] ? y[c] : first[c];
}

static void forward_tile(void *context, int64_t r, int thread) {
    const job *j = context;
    int64_t c = j->channels, stride = j->width * c;
    pool_region g = region_of(j, r);
    pool_range columns = columns_of(j, &g);
    const float *image = tensor_f32(j->call->in[ROI_POOL_X]) + g.image * j->height * stride;
    float *most = line_of(j, thread),
          *y = tensor_f32(j->call->out[0]) + r * j->output_size * j->output_size * c;
    for (int p = 0; p < j->output_size; p++) {
        pool_range rows = pool_bin(&g, 0, p, j->output_size, j->height);
        if (rows.first < rows.end)
            merge_rows(most, image + columns.first * c, rows, stride, (columns.end - columns.first) * c);
        for (int q = 0; q < j->output_size; q++, y += c) {
            pool_range bin = pool_bin(&g, 1, q, j->output_size, j->width);
            if (rows.first < rows.end && bin.first < bin.end)
                merge_columns(y, most + (bin.first - columns.first) * c,
                              image + rows.first * stride + bin.first * c, bin.end - bin.first, c);
            else
                memset(y, 0, (size_t)c * sizeof *y);
        }
    }
}

static void forward(const op_call *call) {
    job j = make_job(call);
    j.rows = tensor_valid_rows(call->in[ROI_POOL_ROIS]);
    parallel_for(j.rows, forward_tile, &j);
}

/* ---- backward --------------------------------------------------------------------------------------------- */

/* Of the rows, for a block of channels of each column: the largest value, and the first row that has it. */
static void find_rows(float *restrict most, int32_t *restrict where, const float *restrict x, pool_range y,
                      int64_t stride, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        most[i] = -INFINITY;
        where[i] = (int32_t)y.first;
    }
    for (int64_t row = y.first; row < y.end; row++) {
        const float *restrict from = x + row * stride;
        int32_t number = (int32_t)row;
        for (int64_t i = 0; i < count; i++) {
            where[i] = from[i] > most[i] ? number : where[i];
            most[i] = from[i] > most[i] ? from[i] : most[i];
        }
    }
}

/* A block of channels of one region. Columns lie `block` floats apart in most and where. */
typedef struct pooled {
    const job *j;
    const float *image; /* at the block's first channel */
    float *d_image, *most;
    int32_t *where;
    int64_t block;
    pool_range columns;
} pooled;

/* The largest pixel of each channel of a block. */
typedef struct largest {
    float value[CHANNEL_BLOCK];
    int32_t row[CHANNEL_BLOCK], column[CHANNEL_BLOCK];
} largest;

/* Takes the pixels of column x where they are larger, or equal and in an earlier row. */
static void look_at_column(largest *restrict best, const float *restrict most, const int32_t *restrict where,
                           int32_t x, int64_t count) {
    for (int64_t c = 0; c < count; c++) {
        bool is_better =
            (most[c] > best->value[c]) | ((most[c] == best->value[c]) & (where[c] < best->row[c]));
        best->value[c] = is_better ? most[c] : best->value[c];
        best->row[c] = is_better ? where[c] : best->row[c];
        best->column[c] = is_better ? x : best->column[c];
    }
}

/* Gives each channel's gradient to the first of its largest pixels, in order of rows, then columns. */
static void add_bin(const pooled *b, pool_range rows, pool_range bin, const float *d_y) {
    int64_t channels = b->j->channels, stride = b->j->width * channels;
    const float *first = b->image + rows.first * stride + bin.first * channels;
    largest best;
    for (int64_t c = 0; c < b->block; c++) {
        best.value[c] = -INFINITY;
        best.row[c] = (int32_t)rows.first;
        best.column[c] = (int32_t)bin.first;
    }
    for (int64_t x = bin.first; x < bin.end; x++) {
        int64_t at = (x - b->columns.first) * b->block;
        look_at_column(&best, b->most + at, b->where + at, (int32_t)x, b->block);
    }
    for (int64_t c = 0; c < b->block; c++) {
        bool is_first = first[c] != first[c]; /* NaN: no other pixel is larger */
        int64_t row = is_first ? rows.first : best.row[c], column = is_first ? bin.first : best.column[c];
        b->d_image[row * stride + column * channels + c] += d_y[c];
    }
}

static void find_columns(const pooled *b, pool_range rows) {
    int64_t channels = b->j->channels, stride = b->j->width * channels, n = b->columns.end - b->columns.first;
    const float *from = b->image + b->columns.first * channels;
    if (b->block == channels) {
        find_rows(b->most, b->where, from, rows, stride, n * channels);
        return;
    }
    for (int64_t x = 0; x < n; x++)
        find_rows(b->most + x * b->block, b->where + x * b->block, from + x * channels, rows, stride,
                  b->block);
}

static void add_region(pooled *b, const pool_region *g, const float *d_y) {
    const job *j = b->j;
    b->columns = columns_of(j, g);
    for (int p = 0; p < j->output_size; p++) {
        pool_range rows = pool_bin(g, 0, p, j->output_size, j->height);
        if (rows.first >= rows.end) continue;
        find_columns(b, rows);
        for (int q = 0; q < j->output_size; q++) {
            pool_range bin = pool_bin(g, 1, q, j->output_size, j->width);
            if (bin.first < bin.end) add_bin(b, rows, bin, d_y + (p * j->output_size + q) * j->channels);
        }
    }
}

static int64_t block_count(const job *j) {
    return (j->channels + CHANNEL_BLOCK - 1) / CHANNEL_BLOCK;
}

static void backward_tile(void *context, int64_t tile, int thread) {
    const job *j = context;
    int64_t image = tile / block_count(j), channel = tile % block_count(j) * CHANNEL_BLOCK,
            offset = image * j->height * j->width * j->channels + channel;
    const int32_t *first = lists_of(j), *regions = first + j->images + 1;
    pooled b = {.j = j,
                .image = tensor_f32(j->call->in[ROI_POOL_X]) + offset,
                .d_image = tensor_f32(j->call->d_in[ROI_POOL_X]) + offset,
                .most = line_of(j, thread),
                .block = j->channels - channel < CHANNEL_BLOCK ? j->channels - channel : CHANNEL_BLOCK};
    b.where = (int32_t *)(void *)((char *)b.most + j->line_bytes);
    for (int32_t i = first[image]; i < first[image + 1]; i++) {
        int64_t r = regions[i];
        pool_region g = region_of(j, r);
        add_region(&b, &g,
                   tensor_f32(j->call->d_out[0]) + r * j->output_size * j->output_size * j->channels +
                       channel);
    }
}

/* A stable counting sort of the regions by image. */
static void list_regions(const job *j) {
    int32_t *first = lists_of(j), *regions = first + j->images + 1;
    const float *rois = tensor_f32(j->call->in[ROI_POOL_ROIS]);
    memset(first, 0, (size_t)(j->images + 1) * sizeof *first);
    for (int64_t r = 0; r < j->rows; r++) first[(int64_t)rois[5 * r]]++;
    int32_t end = 0;
    for (int64_t n = 0; n < j->images; n++) first[n] = end += first[n];
    first[j->images] = end;
    for (int64_t r = j->rows; r-- > 0;) regions[--first[(int64_t)rois[5 * r]]] = (int32_t)r;
}

static void clear_tile(void *context, int64_t tile, int thread) {
    (void)thread;
    const tensor *d_x = context;
    int64_t first = tile * CLEAR_FLOATS, left = tensor_count(d_x) - first;
    memset(tensor_f32(d_x) + first, 0, (size_t)(left < CLEAR_FLOATS ? left : CLEAR_FLOATS) * sizeof(float));
}

static void backward(const op_call *call) {
    tensor *d_x = call->d_in[ROI_POOL_X];
    if (!d_x) return;
    job j = make_job(call);
    j.rows = tensor_valid_rows(call->in[ROI_POOL_ROIS]);
    if (!call->accumulate[ROI_POOL_X])
        parallel_for((tensor_count(d_x) + CLEAR_FLOATS - 1) / CLEAR_FLOATS, clear_tile, d_x);
    if (!call->d_out[0] || j.rows == 0) return;
    list_regions(&j);
    parallel_for(j.images * block_count(&j), backward_tile, &j);
}

const op_kernel roi_pool_rows = {
    .name = "rows", .forward = forward, .backward = backward, .scratch_bytes = scratch_bytes};
