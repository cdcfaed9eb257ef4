/* d_weight[k,tap,c] = sum over output pixels of g[pixel,k] x[pixel at tap, c], as sums of outer products.
 * Pixels are taken in slices in their order; within a slice g is packed by groups of output channels and x by
 * panels of input channels, then every block of d_weight is summed over the slice's pixels in registers and
 * added to memory. A block is written by one tile, so the order of its sum is fixed.
 *
 * x is packed in one of three ways. Whole: the slice's rows of x with their padding, once for all taps, of which each
 * sees a shifted view. Gathered: the pixels that a tap reads, tap by tap; for sparse gradients only those of live pixels.
 * Winograd: transformed tiles, whose 16 positions stand in for the taps; the sums are transformed back at the end. */
#include "conv_engine.h"

#include "base/thread_pool.h"
#include "conv_winograd.h"

#include <string.h>

enum {
    SLICE_PIXELS = 1024,     /* output pixels of a slice */
    PACKED_FLOATS = 2 << 20, /* of x at a time */
    GROUP_COLUMNS = 2048,    /* input channels at a time */
    OUTPUT_BLOCKS = 16,      /* blocks of output channels in a tile */
    PACK_PIXELS = 64,
    WINOGRAD_TILES = 256, /* of a slice */
    PACK_TILES = 8,
};

typedef struct source_row {
    int64_t first; /* offset of its first pixel in x; -1: padding */
} source_row;

typedef struct weights {
    conv_shape v;
    conv_weight_gradient to;
    const micro_kernels *micro;
    int64_t taps, output_blocks; /* of micro->rows output channels each */
    conv_panels panels;
    conv_panel *panel;                   /* [panels.count], in scratch */
    int64_t group_panels, group_columns; /* at most, in a group of columns */
    /* whole */
    bool can_be_whole;
    int64_t slice_rows, packed_columns, packed_rows; /* output rows of a slice; at most so many packed rows */
    /* gathered */
    int64_t chunk; /* pixels at a time */
    /* Winograd */
    bool can_be_winograd;
    int64_t all_tiles, tiles_h, tiles_w, tile_chunk;
    /* scratch */
    int64_t *pixels;    /* the output pixels to visit, n_pixels of them */
    float *left;        /* [output_blocks][slice pixels][micro rows] */
    float *packed;      /* [panel][packed pixel][width] */
    source_row *rows;   /* [packed_rows] */
    int64_t *starts;    /* of the runs */
    int64_t *tiles;     /* those with a live pixel */
    float *zero;        /* [max(c,k)] */
    float *sums;        /* Winograd: [k][position][c] */
    float *transformed; /* [threads][PACK_TILES][position][k] */
    /* at present */
    float *dest;            /* d_weight or sums */
    int64_t positions;      /* taps or Winograd's positions */
    int64_t left_positions; /* 1 or Winograd's positions */
    int64_t left_stride;    /* floats from one of them to the next */
    int64_t n_tiles;
    int64_t position_pixels; /* packed pixels from one position to the next */
    int64_t n_pixels;
    int64_t first_panel, end_panel, tile_panels;
    int64_t first, count;  /* in pixels */
    int64_t packed_pixels; /* of one panel */
    int64_t n_rows;        /* packed rows, whole */
    micro_runs runs;       /* as the first tap sees them */
    bool whole, overwrites;
} weights;

static int64_t at_least_1(int64_t x) {
    return x < 1 ? 1 : x;
}

/* Packed rows that `rows` consecutive output rows can need at most. */
static int64_t packed_rows_for(const conv_shape *v, int64_t rows) {
    int64_t images = conv_least(rows, conv_tiles(rows, at_least_1(v->ho)) + 1);
    return rows * v->stride + images * ((v->r - 1) * v->dilation + 1);
}

static void choose_winograd_sizes(weights *w) {
    const conv_shape *v = &w->v;
    w->can_be_winograd = conv_winograd_suits(v);
    if (!w->can_be_winograd) return;
    w->tiles_h = conv_tiles(v->ho, 2);
    w->tiles_w = conv_tiles(v->wo, 2);
    w->all_tiles = v->n * w->tiles_h * w->tiles_w;
    int64_t fit = PACKED_FLOATS / (at_least_1(w->group_columns) * WINOGRAD_POSITIONS);
    w->tile_chunk = at_least_1(conv_least(conv_least(WINOGRAD_TILES, w->all_tiles), fit));
}

/* Every size grows with the number of images: scratch for all of them is enough for the valid ones. */
static void choose_sizes(weights *w) {
    const conv_shape *v = &w->v;
    w->micro = micro_best();
    w->taps = v->r * v->s;
    w->output_blocks = conv_tiles(v->k, w->micro->rows);
    w->panels = conv_panels_of(v->c);
    int64_t width = (int64_t)MICRO_MAX_VECTORS * w->micro->lanes;
    w->group_panels = conv_least(w->panels.count, at_least_1(GROUP_COLUMNS / width));
    w->group_columns = conv_least(w->group_panels * width, w->panels.vectors * w->micro->lanes);
    int64_t all = v->n * v->ho * v->wo, columns = at_least_1(w->group_columns);
    w->chunk = at_least_1(conv_least(conv_least(SLICE_PIXELS, all), PACKED_FLOATS / (columns * w->taps)));
    w->packed_columns = (v->wo - 1) * v->stride + (v->s - 1) * v->dilation + 1;
    w->slice_rows = at_least_1(SLICE_PIXELS / at_least_1(v->wo));
    while (w->slice_rows > 1 &&
           packed_rows_for(v, w->slice_rows) * w->packed_columns > PACKED_FLOATS / columns)
        w->slice_rows = w->slice_rows / 2;
    int64_t packed_pixels = packed_rows_for(v, w->slice_rows) * w->packed_columns;
    /* Whole only where it packs less than gathering, and within bounds (dilation can make it huge). */
    w->can_be_whole =
        packed_pixels < w->slice_rows * v->wo * w->taps && packed_pixels <= 2 * PACKED_FLOATS / columns;
    w->slice_rows = at_least_1(conv_least(w->slice_rows, v->n * v->ho));
    w->packed_rows = packed_rows_for(v, w->slice_rows);
    choose_winograd_sizes(w);
}

static int64_t larger(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static uintptr_t lay_out(weights *w, uintptr_t at) {
    const conv_shape *v = &w->v;
    int64_t size = sizeof(float), outputs = w->output_blocks * w->micro->rows;
    int64_t packed = w->chunk * w->taps, left = w->chunk;
    if (w->can_be_whole) {
        packed = larger(packed, w->packed_rows * w->packed_columns);
        left = larger(left, w->slice_rows * v->wo);
    }
    if (w->can_be_winograd) {
        packed = larger(packed, (w->tile_chunk + 1) * WINOGRAD_POSITIONS);
        left = larger(left, (w->tile_chunk + 2) * WINOGRAD_POSITIONS);
        w->tiles = conv_take(&at, w->all_tiles * (int64_t)sizeof *w->tiles);
        w->zero = conv_take(&at, larger(v->c, v->k) * size);
        w->sums = conv_take(&at, v->k * WINOGRAD_POSITIONS * v->c * size);
        w->transformed = conv_take(&at, thread_pool_size() * PACK_TILES * WINOGRAD_POSITIONS * v->k * size);
    }
    w->panel = conv_take(&at, w->panels.count * (int64_t)sizeof *w->panel);
    w->pixels = conv_take(&at, v->n * v->ho * v->wo * (int64_t)sizeof *w->pixels);
    w->left = conv_take(&at, outputs * left * size);
    w->packed = conv_take(&at, packed * w->group_columns * size);
    w->rows = conv_take(&at, (w->can_be_whole ? w->packed_rows : 0) * (int64_t)sizeof *w->rows);
    w->starts = conv_take(&at, (w->can_be_whole ? w->slice_rows : 0) * (int64_t)sizeof *w->starts);
    return at;
}

/* --- packing ------------------------------------------------------------------------------------------------- */

/* One block of output channels of one pixel; a full block of 8 (the usual one) is copied in one piece. */
static void pack_left_block(float *out, const float *g, int64_t exist, int64_t rows) {
    if (exist >= 8 && rows == 8) {
        memcpy(out, g, 8 * sizeof *out);
        return;
    }
    for (int64_t m = 0; m < rows; m++) out[m] = m < exist ? g[m] : 0;
}

/* Blocks of output channels of PACK_PIXELS pixels of g. */
static void pack_left(void *context, int64_t tile, int thread) {
    (void)thread;
    const weights *w = context;
    int64_t rows = w->micro->rows, k = w->v.k;
    int64_t first = tile * PACK_PIXELS, end = conv_least(first + PACK_PIXELS, w->count);
    for (int64_t block = 0; block < w->output_blocks; block++) {
        float *out = w->left + block * w->left_stride + first * rows;
        for (int64_t i = first; i < end; i++, out += rows) {
            int64_t pixel = w->whole ? w->first + i : w->pixels[w->first + i];
            pack_left_block(out, w->to.g + pixel * k + block * rows, k - block * rows, rows);
        }
    }
}

/* One packed pixel of every panel in the group; from: its channels in x, or NULL for padding. */
static void pack_pixel(const weights *w, int64_t at, const float *from) {
    const conv_panel *first = &w->panel[w->first_panel], *end = &w->panel[w->end_panel];
    for (const conv_panel *p = first; p < end; p++) {
        float *out = w->packed + (p->first - first->first) * w->packed_pixels + at * p->width;
        if (!from || p->exist < p->width) memset(out, 0, (size_t)p->width * sizeof *out);
        if (from) memcpy(out, from + p->first, (size_t)p->exist * sizeof *out);
    }
}

static void pack_whole(void *context, int64_t row, int thread) {
    (void)thread;
    const weights *w = context;
    int64_t first = w->rows[row].first;
    for (int64_t i = 0; i < w->packed_columns; i++) {
        int64_t column = i - w->v.pad;
        bool exists = first >= 0 && column >= 0 && column < w->v.w;
        pack_pixel(w, row * w->packed_columns + i, exists ? w->to.x + first + column * w->v.c : NULL);
    }
}

static void pack_gathered(void *context, int64_t tile, int thread) {
    (void)thread;
    const weights *w = context;
    const conv_shape *v = &w->v;
    int64_t first = tile * PACK_PIXELS, end = conv_least(first + PACK_PIXELS, w->count);
    for (int64_t i = first; i < end; i++) {
        int64_t pixel = w->pixels[w->first + i], image = pixel / (v->ho * v->wo);
        int64_t top = pixel / v->wo % v->ho * v->stride - v->pad, left = pixel % v->wo * v->stride - v->pad;
        for (int64_t tap = 0; tap < w->taps; tap++) {
            int64_t row = top + tap / v->s * v->dilation, column = left + tap % v->s * v->dilation;
            bool exists = row >= 0 && row < v->h && column >= 0 && column < v->w;
            pack_pixel(w, tap * w->count + i,
                       exists ? w->to.x + ((image * v->h + row) * v->w + column) * v->c : NULL);
        }
    }
}

/* Transforms the pixels of x under a tile, panel by panel. */
static void pack_winograd_input(const weights *w, int64_t i, const float *const pixels[WINOGRAD_POSITIONS]) {
    const float *from[WINOGRAD_POSITIONS];
    for (int64_t panel = w->first_panel; panel < w->end_panel; panel++) {
        const conv_panel *p = &w->panel[panel];
        float *out =
            w->packed + (p->first - w->panel[w->first_panel].first) * w->packed_pixels + i * p->width;
        for (int j = 0; j < WINOGRAD_POSITIONS; j++) from[j] = pixels[j] + p->first;
        w->micro->winograd_input(out, w->position_pixels * p->width, from, p->width);
    }
}

/* Transforms tile i of the slice: x into its place, g into transformed [position][k]. */
static void pack_winograd_tile(const weights *w, int64_t i, float *transformed) {
    const conv_shape *v = &w->v;
    int64_t tile = w->tiles[w->first + i], image = tile / (w->tiles_h * w->tiles_w);
    int64_t row = tile / w->tiles_w % w->tiles_h * 2, column = tile % w->tiles_w * 2;
    const float *pixels[WINOGRAD_POSITIONS];
    conv_winograd_pixels(pixels, w->to.x + image * v->h * v->w * v->c, (int64_t[]){v->h, v->w, v->c},
                         row - v->pad, column - v->pad, w->zero);
    pack_winograd_input(w, i, pixels);
    for (int64_t j = 0; j < 4; j++) {
        bool inside = row + j / 2 < v->ho && column + j % 2 < v->wo;
        pixels[j] =
            inside ? w->to.g + ((image * v->ho + row + j / 2) * v->wo + column + j % 2) * v->k : w->zero;
    }
    w->micro->winograd_gradient(transformed, v->k, pixels, v->k);
}

/* PACK_TILES tiles; g goes through a buffer, because single tiles would touch one line in each of many pages. */
static void pack_winograd(void *context, int64_t index, int thread) {
    const weights *w = context;
    int64_t k = w->v.k, rows = w->micro->rows, first = index * PACK_TILES,
            count = conv_least(PACK_TILES, w->count - first);
    float *transformed = w->transformed + thread * PACK_TILES * WINOGRAD_POSITIONS * k;
    for (int64_t i = 0; i < count; i++)
        pack_winograd_tile(w, first + i, transformed + i * WINOGRAD_POSITIONS * k);
    for (int64_t block = 0; block < w->output_blocks; block++) {
        for (int64_t position = 0; position < WINOGRAD_POSITIONS; position++) {
            float *out = w->left + (block * WINOGRAD_POSITIONS + position) * w->left_stride + first * rows;
            for (int64_t i = 0; i < count; i++)
                pack_left_block(out + i * rows,
                                transformed + (i * WINOGRAD_POSITIONS + position) * k + block * rows,
                                k - block * rows, rows);
        }
    }
}

/* Lists the rows of x that output rows [first, first + count) need, image by image, and where their runs
 * start. */
static void list_rows(weights *w, int64_t first, int64_t count) {
    const conv_shape *v = &w->v;
    int64_t reach = (v->r - 1) * v->dilation + 1;
    w->n_rows = 0;
    for (int64_t row = first; row < first + count;) {
        int64_t image = row / v->ho, p = row % v->ho, in_image = conv_least(v->ho - p, first + count - row);
        for (int64_t i = 0; i < in_image; i++)
            w->starts[row - first + i] = (w->n_rows + i * v->stride) * w->packed_columns;
        for (int64_t i = 0; i < (in_image - 1) * v->stride + reach; i++) {
            int64_t h = p * v->stride - v->pad + i;
            w->rows[w->n_rows++].first = h < 0 || h >= v->h ? -1 : (image * v->h + h) * v->w * v->c;
        }
        row += in_image;
    }
    w->runs = (micro_runs){.start = w->starts, .count = count, .length = v->wo, .step = v->stride};
}

/* --- sums ---------------------------------------------------------------------------------------------------- */

/* One block of output channels at one position, in one panel. */
static void sum_block(const weights *w, const conv_panel *p, int64_t position, int64_t b) {
    _Alignas(64) float block[MICRO_MAX_BLOCK];
    int64_t rows = w->micro->rows, shift = position * w->position_pixels;
    if (w->whole)
        shift = position / w->v.s * w->v.dilation * w->packed_columns + position % w->v.s * w->v.dilation;
    const float *panel =
        w->packed + (p->first - w->panel[w->first_panel].first) * w->packed_pixels + shift * p->width;
    micro_store to = {
        .rows = (int)conv_least(rows, w->v.k - b * rows), .columns = p->exist, .width = p->width};
    for (int m = 0; m < to.rows; m++) {
        to.dest[m] = w->dest + ((b * rows + m) * w->positions + position) * w->v.c + p->first;
        to.add[m] = w->overwrites ? NULL : to.dest[m];
        for (int64_t i = 0; i < p->exist; i += 16) __builtin_prefetch(to.dest[m] + i, 1);
    }
    int64_t left = b * w->left_positions + (w->left_positions > 1 ? position : 0);
    w->micro->outer[p->vectors - 1](block, w->left + left * w->left_stride, panel, &w->runs);
    w->micro->store(&to, block);
}

/* A position, `tile_panels` panels and OUTPUT_BLOCKS blocks of output channels. */
static void sum_tile(void *context, int64_t tile, int thread) {
    (void)thread;
    const weights *w = context;
    int64_t groups = conv_tiles(w->output_blocks, OUTPUT_BLOCKS), group = tile % groups;
    int64_t position = tile / groups % w->positions,
            end = conv_least((group + 1) * OUTPUT_BLOCKS, w->output_blocks);
    int64_t first_panel = w->first_panel + tile / (groups * w->positions) * w->tile_panels;
    int64_t end_panel = conv_least(first_panel + w->tile_panels, w->end_panel);
    for (int64_t panel = first_panel; panel < end_panel; panel++)
        for (int64_t b = group * OUTPUT_BLOCKS; b < end; b++) sum_block(w, &w->panel[panel], position, b);
}

/* Winograd's positions have little data each: both sides of one stay in the L2 cache while all panels are done. */
static void sum_slice(weights *w) {
    int64_t groups = conv_tiles(w->output_blocks, OUTPUT_BLOCKS), panels = w->end_panel - w->first_panel;
    w->tile_panels = w->left_positions > 1 ? panels : 1;
    parallel_for(conv_tiles(panels, w->tile_panels) * w->positions * groups, sum_tile, w);
    w->overwrites = false;
}

static void visit_whole(weights *w) {
    const conv_shape *v = &w->v;
    for (int64_t row = 0; row < v->n * v->ho; row += w->slice_rows) {
        int64_t count = conv_least(w->slice_rows, v->n * v->ho - row);
        list_rows(w, row, count);
        w->first = row * v->wo;
        w->count = count * v->wo;
        w->packed_pixels = w->n_rows * w->packed_columns;
        w->left_stride = w->count * w->micro->rows;
        parallel_for(conv_tiles(w->count, PACK_PIXELS), pack_left, w);
        parallel_for(w->n_rows, pack_whole, w);
        sum_slice(w);
    }
}

static const int64_t one_start = 0;

static void visit_gathered(weights *w) {
    for (w->first = 0; w->first < w->n_pixels; w->first += w->chunk) {
        w->count = conv_least(w->chunk, w->n_pixels - w->first);
        w->packed_pixels = w->count * w->taps;
        w->position_pixels = w->count;
        w->left_stride = w->count * w->micro->rows;
        w->runs = (micro_runs){.start = &one_start, .count = 1, .length = w->count, .step = 1};
        parallel_for(conv_tiles(w->count, PACK_PIXELS), pack_left, w);
        parallel_for(conv_tiles(w->count, PACK_PIXELS), pack_gathered, w);
        sum_slice(w);
    }
}

/* Strides are kept off powers of two, or the positions would share a set of the cache. */
static void visit_winograd(weights *w) {
    for (w->first = 0; w->first < w->n_tiles; w->first += w->tile_chunk) {
        w->count = conv_least(w->tile_chunk, w->n_tiles - w->first);
        w->position_pixels = w->count + 1;
        w->packed_pixels = w->position_pixels * WINOGRAD_POSITIONS;
        w->left_stride = (w->count + 2) * w->micro->rows;
        w->runs = (micro_runs){.start = &one_start, .count = 1, .length = w->count, .step = 1};
        parallel_for(conv_tiles(w->count, PACK_TILES), pack_winograd, w);
        sum_slice(w);
    }
}

static void transform_back(void *context, int64_t block, int thread) {
    (void)thread;
    const weights *w = context;
    int64_t rows = w->micro->rows;
    conv_winograd_kernel_gradient(w->to.d_weight, w->sums, w->v.c, block * rows,
                                  conv_least(rows, w->v.k - block * rows), w->to.accumulate);
}

static bool tile_is_live(const weights *w, int64_t tile) {
    const conv_shape *v = &w->v;
    int64_t image = tile / (w->tiles_h * w->tiles_w);
    int64_t row = tile / w->tiles_w % w->tiles_h * 2, column = tile % w->tiles_w * 2;
    for (int64_t p = row; p < conv_least(row + 2, v->ho); p++)
        for (int64_t q = column; q < conv_least(column + 2, v->wo); q++)
            if (w->to.live[(image * v->ho + p) * v->wo + q]) return true;
    return false;
}

/* Lists what there is to visit and takes the method with the fewest products. */
static bool choose_method(weights *w) {
    const conv_shape *v = &w->v;
    int64_t all = v->n * v->ho * v->wo;
    for (int64_t pixel = 0; pixel < all; pixel++)
        if (!w->to.live || w->to.live[pixel]) w->pixels[w->n_pixels++] = pixel;
    for (int64_t tile = 0; tile < w->all_tiles && w->can_be_winograd; tile++)
        if (!w->to.live || tile_is_live(w, tile)) w->tiles[w->n_tiles++] = tile;
    w->whole = w->can_be_whole && w->n_pixels > all / 4 * 3;
    return w->can_be_winograd && w->n_tiles * WINOGRAD_POSITIONS < w->n_pixels * w->taps;
}

void conv_weight_backward(const conv_shape *shape, const conv_weight_gradient *to, void *scratch) {
    weights w = {.v = *shape, .to = *to};
    choose_sizes(&w);
    lay_out(&w, (uintptr_t)scratch);
    for (int64_t i = 0; i < w.panels.count; i++) w.panel[i] = conv_panel_at(&w.panels, i);
    bool winograd = choose_method(&w);
    if (w.n_pixels == 0 && !to->accumulate)
        memset(to->d_weight, 0, (size_t)(shape->k * w.taps * shape->c) * sizeof *to->d_weight);
    if (w.n_pixels == 0) return;
    w.whole = w.whole && !winograd;
    w.dest = winograd ? w.sums : to->d_weight;
    w.positions = winograd ? WINOGRAD_POSITIONS : w.taps;
    w.left_positions = winograd ? WINOGRAD_POSITIONS : 1;
    if (winograd) memset(w.zero, 0, (size_t)larger(shape->c, shape->k) * sizeof *w.zero);
    for (w.first_panel = 0; w.first_panel < w.panels.count; w.first_panel = w.end_panel) {
        w.end_panel = conv_least(w.first_panel + w.group_panels, w.panels.count);
        w.overwrites = winograd || !to->accumulate;
        if (winograd)
            visit_winograd(&w);
        else if (w.whole)
            visit_whole(&w);
        else
            visit_gathered(&w);
    }
    if (winograd) parallel_for(w.output_blocks, transform_back, &w);
}

size_t conv_weight_backward_scratch(const conv_shape *shape) {
    weights w = {.v = *shape};
    choose_sizes(&w);
    return lay_out(&w, 0);
}
