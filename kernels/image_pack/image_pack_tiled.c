/* image_pack in bands of output rows, one per tile. Each source row that a band needs is resampled along x
 * once, to 8 bits (antialias) or to floats, and then weighed into the output rows that it touches. */
#include "image_pack/image_pack.h"
#include "image_pack/resample_axis.h"
#include "base/check.h"
#include "base/round_up.h"
#include "base/thread_pool.h"

#include <string.h>

enum { BAND_ROWS = 16, ALIGN = 64 };

/* --- tables of weights --------------------------------------------------------------------------------------- */

/* Where the output pixels of one axis come from. Antialias: pixel i is the sum over j < count[i] of source
 * pixel first[i] + j, with the fixed point weights from at[i] on. Plain: source pixels first[i] and first[i]
 * + count[i], the latter with the weight upper[i]. */
typedef struct axis_table {
    int64_t *at;
    int32_t *first, *count;
    float *upper;
    int32_t *weights;
} axis_table;

static size_t axis_head_bytes(int64_t out) {
    return round_up((size_t)out * (sizeof(int64_t) + 2 * sizeof(int32_t) + sizeof(float)), ALIGN);
}

/* A pixel has at most 2 * max(in/out, 1) + 1 weights. */
static size_t axis_bytes(int64_t in, int64_t out) {
    return axis_head_bytes(out) + round_up((size_t)(2 * in + 3 * out) * sizeof(int32_t), ALIGN);
}

static axis_table axis_at(uint8_t *memory, int64_t out) {
    axis_table t = {.at = (int64_t *)(void *)memory};
    t.first = (int32_t *)(void *)(t.at + out);
    t.count = t.first + out;
    t.upper = (float *)(void *)(t.count + out);
    t.weights = (int32_t *)(void *)(memory + axis_head_bytes(out));
    return t;
}

static void fill_axis(axis_table *t, int in, int out, bool antialias) {
    int64_t at = 0;
    for (int i = 0; i < out; i++) {
        if (antialias) {
            triangle_tap tap = triangle_tap_of(t->weights + at, i, in, out);
            t->at[i] = at;
            t->first[i] = tap.first;
            t->count[i] = tap.count;
            at += tap.count;
        } else {
            bilinear_tap tap = bilinear_tap_of(i, in, out);
            t->first[i] = tap.lower;
            t->count[i] = tap.upper - tap.lower;
            t->upper[i] = (float)tap.upper_weight;
        }
    }
}

/* --- one call ------------------------------------------------------------------------------------------------ */

/* What scratch holds: for each image the tables of columns and rows, for each thread one band. */
typedef struct packing {
    const op_call *call;
    int canvas_height, canvas_width;
    int64_t bands; /* per image */
    size_t columns_bytes, rows_bytes, row_bytes, band_bytes;
} packing;

static packing packing_of(const op_call *call) {
    const image_pack_params *p = call->params;
    const tensor *image = call->in[IMAGE_PACK_IMAGE], *table = call->in[IMAGE_PACK_TABLE];
    packing k = {.call = call,
                 .canvas_height = table ? p->canvas_height : p->height,
                 .canvas_width = table ? p->canvas_width : p->width};
    k.bands = (k.canvas_height + BAND_ROWS - 1) / BAND_ROWS;
    k.columns_bytes = axis_bytes(table ? IMAGE_PACK_MAX_SIDE : image->shape[1], k.canvas_width);
    k.rows_bytes = axis_bytes(table ? IMAGE_PACK_MAX_SIDE : image->shape[0], k.canvas_height);
    k.row_bytes = round_up((size_t)k.canvas_width * 3 * sizeof(float), ALIGN);
    k.band_bytes = k.row_bytes * (2 + BAND_ROWS);
    return k;
}

static size_t scratch_bytes(const op_call *call, bool backward) {
    (void)backward;
    packing k = packing_of(call);
    return (k.columns_bytes + k.rows_bytes) * (size_t)image_pack_count(call) +
           k.band_bytes * (size_t)thread_pool_size();
}

static uint8_t *tables_of(const packing *k, int64_t n) {
    return (uint8_t *)k->call->scratch + (size_t)n * (k->columns_bytes + k->rows_bytes);
}

static void fill_tables(void *context, int64_t n, int thread) {
    (void)thread;
    const packing *k = context;
    const image_pack_params *p = k->call->params;
    image_pack_record r = image_pack_record_of(k->call, n);
    CHECK(r.resized_height <= k->canvas_height && r.resized_width <= k->canvas_width &&
              r.width <= IMAGE_PACK_MAX_SIDE && r.height <= IMAGE_PACK_MAX_SIDE,
          "image %lld: %d x %d to %d x %d on a canvas of %d x %d", (long long)n, r.width, r.height,
          r.resized_width, r.resized_height, k->canvas_width, k->canvas_height);
    axis_table columns = axis_at(tables_of(k, n), k->canvas_width);
    axis_table rows = axis_at(tables_of(k, n) + k->columns_bytes, k->canvas_height);
    fill_axis(&columns, r.width, r.resized_width, p->antialias);
    fill_axis(&rows, r.height, r.resized_height, p->antialias);
}

/* --- one band ------------------------------------------------------------------------------------------------ */

typedef struct band {
    const image_pack_params *params;
    image_pack_record record;
    const uint8_t *image;
    axis_table columns, rows;
    int first, end; /* rows of the resized image */
    uint8_t *scratch;
    size_t row_bytes;
    float *y; /* row `first` of the canvas */
    int64_t y_stride;
} band;

static const uint8_t *source_row(const band *b, int y) {
    return b->image + (int64_t)y * b->record.width * 3;
}

/* A pixel and the byte behind it. */
typedef int32_t lanes __attribute__((vector_size(4 * sizeof(int32_t))));
typedef uint32_t unsigned_lanes __attribute__((vector_size(4 * sizeof(uint32_t))));
typedef float float_lanes __attribute__((vector_size(4 * sizeof(float))));

/* `shifts`: 8 times the channel that comes into each lane. */
static lanes load_pixel(const uint8_t *pixel, unsigned_lanes shifts) {
    uint32_t bytes;
    memcpy(&bytes, pixel, sizeof bytes);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    bytes = __builtin_bswap32(bytes);
#endif
    return (lanes)(((unsigned_lanes){bytes, bytes, bytes, bytes} >> shifts) & 255);
}

/* triangle_round of each. */
static lanes round_lanes(lanes sum) {
    lanes v = sum >> TRIANGLE_BITS, too_large = v > 255;
    return (v & ~(v >> 31) & ~too_large) | (255 & too_large);
}

/* How a source row's pixels go to the output's row: already flipped, channels in their order. */
typedef struct row_order {
    int64_t first; /* where column 0 goes */
    int step, channel[3];
    unsigned_lanes shifts;
} row_order;

static row_order row_order_of(const band *b) {
    row_order o = {.first = b->record.flip ? 3 * (int64_t)(b->record.resized_width - 1) : 0,
                   .step = b->record.flip ? -3 : 3};
    for (int c = 0; c < 3; c++) {
        o.channel[c] = (int)b->params->order[c];
        o.shifts[c] = 8 * (uint32_t)o.channel[c];
    }
    return o;
}

/* Behind a row's last pixel there may be no byte to read. */
static lanes last_pixel(const uint8_t *pixel, const row_order *o) {
    return (lanes){pixel[o->channel[0]], pixel[o->channel[1]], pixel[o->channel[2]], 0};
}

/* A source row along x. */
static void triangle_row(uint8_t *restrict row, const uint8_t *restrict from, const band *b) {
    const axis_table *t = &b->columns;
    row_order o = row_order_of(b);
    uint8_t *to = row + o.first;
    for (int x = 0; x < b->record.resized_width; x++, to += o.step) {
        const uint8_t *pixel = from + (int64_t)t->first[x] * 3;
        const int32_t *w = t->weights + t->at[x];
        int count = t->count[x], whole = t->first[x] + count == b->record.width ? count - 1 : count;
        lanes sum = {TRIANGLE_HALF, TRIANGLE_HALF, TRIANGLE_HALF, 0};
        for (int i = 0; i < whole; i++) sum += load_pixel(pixel + 3 * i, o.shifts) * w[i];
        if (whole < count) sum += last_pixel(pixel + 3 * whole, &o) * w[whole];
        lanes rounded = round_lanes(sum);
        for (int c = 0; c < 3; c++) to[c] = (uint8_t)rounded[c];
    }
}

/* The same between two pixels, in floats. */
static void bilinear_row(float *restrict row, const uint8_t *restrict from, const band *b) {
    const axis_table *t = &b->columns;
    row_order o = row_order_of(b);
    float *to = row + o.first;
    for (int x = 0; x < b->record.resized_width; x++, to += o.step) {
        const uint8_t *lower = from + (int64_t)t->first[x] * 3, *upper = lower + (int64_t)t->count[x] * 3;
        bool is_last = t->first[x] + t->count[x] == b->record.width - 1;
        lanes low = t->first[x] == b->record.width - 1 ? last_pixel(lower, &o) : load_pixel(lower, o.shifts),
              high = is_last ? last_pixel(upper, &o) : load_pixel(upper, o.shifts);
        float w = t->upper[x];
        float_lanes value = (1 - w) * __builtin_convertvector(low, float_lanes) +
                            w * __builtin_convertvector(high, float_lanes);
        for (int c = 0; c < 3; c++) to[c] = value[c];
    }
}

static void add_weighted(int32_t *restrict sum, const uint8_t *restrict row, int32_t weight, int values) {
    for (int v = 0; v < values; v++) sum[v] += row[v] * weight;
}

/* Mean and deviation of 16 pixels' values, so that a row is normalised in whole vectors. */
enum { NORM_VALUES = 48 };
typedef struct norm {
    float mean[NORM_VALUES], std[NORM_VALUES];
} norm;

static norm norm_of(const band *b) {
    norm n;
    for (int i = 0; i < NORM_VALUES; i++) {
        n.mean[i] = (float)b->params->mean[i % 3];
        n.std[i] = (float)b->params->std[i % 3];
    }
    return n;
}

/* Sums of 22-bit fixed point to the output row. */
static void finish_triangle_row(float *restrict y, const int32_t *restrict sum, const norm *n, int values) {
    int at = 0;
    for (; at + NORM_VALUES <= values; at += NORM_VALUES)
        for (int i = 0; i < NORM_VALUES; i++)
            y[at + i] = ((float)triangle_round(sum[at + i]) - n->mean[i]) / n->std[i];
    for (int i = 0; at + i < values; i++)
        y[at + i] = ((float)triangle_round(sum[at + i]) - n->mean[i]) / n->std[i];
}

static void triangle_band(const band *b) {
    int values = b->record.resized_width * 3, next = b->first;
    norm n = norm_of(b);
    uint8_t *row = b->scratch;
    uint8_t *sums = b->scratch + 2 * b->row_bytes;
    int begin = b->rows.first[b->first], end = b->rows.first[b->end - 1] + b->rows.count[b->end - 1];
    for (int i = b->first; i < b->end; i++) {
        int32_t *sum = (int32_t *)(void *)(sums + (size_t)(i - b->first) * b->row_bytes);
        for (int v = 0; v < values; v++) sum[v] = TRIANGLE_HALF;
    }
    for (int y = begin; y < end; y++) {
        triangle_row(row, source_row(b, y), b);
        for (int i = next; i < b->end && b->rows.first[i] <= y; i++) {
            int tap = y - b->rows.first[i];
            if (tap >= b->rows.count[i]) { /* filters' ends do not fall from row to row: i is done */
                next = i + 1;
                continue;
            }
            int32_t *sum = (int32_t *)(void *)(sums + (size_t)(i - b->first) * b->row_bytes);
            add_weighted(sum, row, b->rows.weights[b->rows.at[i] + tap], values);
        }
    }
    for (int i = b->first; i < b->end; i++)
        finish_triangle_row(b->y + (i - b->first) * b->y_stride,
                            (const int32_t *)(const void *)(sums + (size_t)(i - b->first) * b->row_bytes), &n,
                            values);
}

/* Between two rows; w is the share of the second. */
static void finish_bilinear_row(float *restrict y, const float *const rows[2], float w, const norm *n,
                                int values) {
    const float *restrict lower = rows[0], *restrict upper = rows[1];
    int at = 0;
    for (; at + NORM_VALUES <= values; at += NORM_VALUES)
        for (int i = 0; i < NORM_VALUES; i++)
            y[at + i] = ((1 - w) * lower[at + i] + w * upper[at + i] - n->mean[i]) / n->std[i];
    for (int i = 0; at + i < values; i++)
        y[at + i] = ((1 - w) * lower[at + i] + w * upper[at + i] - n->mean[i]) / n->std[i];
}

/* Two source rows are kept, even and odd ones: neighbours never share a place. */
static void bilinear_band(const band *b) {
    int kept[2] = {-1, -1};
    norm n = norm_of(b);
    for (int i = b->first; i < b->end; i++) {
        int wanted[2] = {b->rows.first[i], b->rows.first[i] + b->rows.count[i]};
        float *row[2];
        for (int k = 0; k < 2; k++) {
            row[k] = (float *)(void *)(b->scratch + (size_t)(wanted[k] & 1) * b->row_bytes);
            if (kept[wanted[k] & 1] == wanted[k]) continue;
            bilinear_row(row[k], source_row(b, wanted[k]), b);
            kept[wanted[k] & 1] = wanted[k];
        }
        finish_bilinear_row(b->y + (i - b->first) * b->y_stride, (const float *const[]){row[0], row[1]},
                            b->rows.upper[i], &n, b->record.resized_width * 3);
    }
}

static void clear_padding(const band *b, int canvas_rows) {
    size_t inside = (size_t)b->record.resized_width * 3, all = (size_t)b->y_stride;
    for (int i = 0; i < canvas_rows; i++) {
        float *y = b->y + (int64_t)i * b->y_stride;
        size_t from = i < b->end - b->first ? inside : 0;
        memset(y + from, 0, (all - from) * sizeof *y);
    }
}

static void pack_band(void *context, int64_t tile, int thread) {
    const packing *k = context;
    int64_t n = tile / k->bands;
    int first = (int)(tile % k->bands) * BAND_ROWS;
    int canvas_end = first + BAND_ROWS < k->canvas_height ? first + BAND_ROWS : k->canvas_height;
    band b = {.params = k->call->params,
              .record = image_pack_record_of(k->call, n),
              .columns = axis_at(tables_of(k, n), k->canvas_width),
              .rows = axis_at(tables_of(k, n) + k->columns_bytes, k->canvas_height),
              .first = first,
              .scratch = tables_of(k, image_pack_count(k->call)) + (size_t)thread * k->band_bytes,
              .row_bytes = k->row_bytes,
              .y_stride = (int64_t)k->canvas_width * 3};
    b.image = tensor_u8(k->call->in[IMAGE_PACK_IMAGE]) + (int64_t)b.record.offset * IMAGE_PACK_ALIGNMENT;
    b.y = tensor_f32(k->call->out[0]) + (n * k->canvas_height + first) * b.y_stride;
    b.end = canvas_end < b.record.resized_height ? canvas_end : b.record.resized_height;
    if (b.end > b.first && b.params->antialias) triangle_band(&b);
    if (b.end > b.first && !b.params->antialias) bilinear_band(&b);
    clear_padding(&b, canvas_end - first);
}

static void forward(const op_call *call) {
    packing k = packing_of(call);
    int64_t images = image_pack_count(call);
    parallel_for(images, fill_tables, &k);
    parallel_for(images * k.bands, pack_band, &k);
}

const op_kernel image_pack_tiled = {.name = "tiled", .forward = forward, .scratch_bytes = scratch_bytes};
