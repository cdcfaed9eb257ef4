/* y = conv(x) and its transpose by one method: each output pixel is a list of stretches, one for each tap, of
 * pixels of the source and of packed weights; nothing is copied but the weights. The transpose of a
 * convolution with stride s is s*s convolutions with stride 1, one for each class of output pixels (row mod
 * s, column mod s), each with its own taps.
 *
 * Taps that meet only padding or dead pixels are left out of a block's list. Convolutions with few channels
 * (the stem) copy their patches first, so that the sum has one long stretch. */
#include "conv_engine.h"

#include "base/thread_pool.h"

#include <string.h>

enum {
    BLOCK_PIXELS = 96,       /* output pixels of one tile: their sources and one panel stay in the L2 cache */
    STRETCH = 1152,          /* longest stretch of one sum */
    PASS = 2304,             /* steps between two writes of the sums: a panel of them is 442 KB */
    SHORT_DEPTH = 16,        /* fewer channels: copy patches */
    WEIGHT_FLOATS = 4 << 20, /* packed weights at a time */
    TABLE_STRETCHES = 1 << 14, /* in a thread's table */
    TILES_WANTED = 64,
};

/* The map as the method sees it: dest pixel (i,j) of the class reads source pixel (i*step + row, j*step +
 * column). */
typedef struct gather_tap {
    int64_t row, column, weight; /* weight: first row of the packed panel */
} gather_tap;

typedef struct gather_part {
    int64_t tap, offset, length; /* a tap, or a piece of a deep one */
} gather_part;

typedef struct gather {
    /* source */
    const float *source;
    const uint8_t *live;
    int64_t n, source_h, source_w, depth, step;
    /* destination: pixels (first_h + i*spacing, first_w + j*spacing), i < rows, j < columns */
    int64_t dest_h, dest_w, dest_c, first_h, first_w, spacing, rows, columns;
    conv_epilogue to;
    /* weights */
    const float *weight;
    bool transposed;
    int64_t weight_taps; /* r*s */
    conv_panels panels;
    int64_t first_panel, end_panel; /* packed at present */
    /* lists */
    bool copies_patches, contiguous;
    int64_t run_taps; /* neighbouring taps that read neighbouring pixels */
    int64_t taps, parts, passes, block_pixels, block_tiles, panel_groups;
    const micro_kernels *micro;
    /* scratch */
    gather_tap *tap;
    gather_part *part;
    int64_t *pass_end; /* parts up to the end of each pass */
    float *zero, *packed;
    uintptr_t threads;
    int64_t thread_bytes;
} gather;

/* A thread's own scratch. */
typedef struct workspace {
    micro_stretch *stretches; /* [tiles][parts], each pass at its first part */
    int64_t *counts;          /* [tiles][passes] */
    int64_t *dest;            /* [block_pixels] offsets */
    const float **source;     /* [block_pixels][taps], NULL: nothing there */
    float *patches;
} workspace;

static workspace workspace_at(const gather *g, uintptr_t *at) {
    workspace w;
    w.stretches = conv_take(at, g->block_tiles * g->parts * (int64_t)sizeof *w.stretches);
    w.counts = conv_take(at, g->block_tiles * g->passes * (int64_t)sizeof *w.counts);
    w.dest = conv_take(at, g->block_pixels * (int64_t)sizeof *w.dest);
    w.source = conv_take(at, g->copies_patches ? 0 : g->block_pixels * g->taps * (int64_t)sizeof *w.source);
    w.patches = conv_take(at, g->copies_patches ? g->block_pixels * g->weight_taps * g->depth * 4 : 0);
    return w;
}

/* Sizes of lists for `taps` taps at most. */
static void set_sizes(gather *g, int64_t taps) {
    g->micro = micro_best();
    int64_t depth = g->copies_patches ? g->depth * g->weight_taps : g->depth;
    int64_t pieces = conv_tiles(depth, STRETCH), in_lists = g->copies_patches ? 1 : taps;
    g->taps = taps;
    g->parts = in_lists * pieces;
    int64_t longest = conv_least(depth, STRETCH), in_pass = longest > 0 ? PASS / longest : 1;
    g->passes = g->parts > 0 ? conv_tiles(g->parts, in_pass < 1 ? 1 : in_pass) : 1;
    g->block_pixels = TABLE_STRETCHES / (g->parts + taps + 1) * g->micro->rows;
    if (g->block_pixels > BLOCK_PIXELS) g->block_pixels = BLOCK_PIXELS;
    if (g->block_pixels < g->micro->rows) g->block_pixels = g->micro->rows;
    g->block_tiles = conv_tiles(g->block_pixels, g->micro->rows);
}

/* How many panels are packed at a time. */
static int64_t panels_at_a_time(const gather *g) {
    int64_t rows = g->weight_taps * g->depth, width = (int64_t)MICRO_MAX_VECTORS * g->micro->lanes;
    int64_t count = rows > 0 ? WEIGHT_FLOATS / (rows * width) : g->panels.count;
    return count < 1 ? 1 : conv_least(count, g->panels.count);
}

/* Lays out scratch for everything but the threads' own; the sizes must be those of the largest class. */
static uintptr_t lay_out(gather *g, uintptr_t at) {
    int64_t width = (int64_t)MICRO_MAX_VECTORS * g->micro->lanes;
    int64_t packed = panels_at_a_time(g) * conv_least(width, g->panels.vectors * g->micro->lanes);
    g->tap = conv_take(&at, g->taps * (int64_t)sizeof *g->tap);
    g->part = conv_take(&at, g->parts * (int64_t)sizeof *g->part);
    g->pass_end = conv_take(&at, g->passes * (int64_t)sizeof *g->pass_end);
    g->zero = conv_take(&at, g->depth * 4);
    g->packed = conv_take(&at, packed * g->weight_taps * g->depth * 4);
    g->threads = at;
    uintptr_t end = at;
    workspace_at(g, &end);
    g->thread_bytes = (int64_t)(end - at);
    return at + (uintptr_t)(g->thread_bytes * thread_pool_size());
}

static gather gather_forward(const conv_shape *v) {
    gather g = {.n = v->n,
                .source_h = v->h,
                .source_w = v->w,
                .depth = v->c,
                .step = v->stride,
                .dest_h = v->ho,
                .dest_w = v->wo,
                .dest_c = v->k,
                .spacing = 1,
                .rows = v->ho,
                .columns = v->wo,
                .weight_taps = v->r * v->s,
                .panels = conv_panels_of(v->k)};
    g.copies_patches = g.depth < SHORT_DEPTH && g.weight_taps > 1;
    g.run_taps = v->dilation == 1 ? v->s : 1;
    g.contiguous = g.weight_taps == 1 && v->pad == 0 && v->stride == 1;
    set_sizes(&g, g.weight_taps);
    return g;
}

static gather gather_transposed(const conv_shape *v) {
    gather g = {.n = v->n,
                .source_h = v->ho,
                .source_w = v->wo,
                .depth = v->k,
                .step = 1,
                .dest_h = v->h,
                .dest_w = v->w,
                .dest_c = v->c,
                .spacing = v->stride,
                .transposed = true,
                .weight_taps = v->r * v->s,
                .panels = conv_panels_of(v->c)};
    set_sizes(&g, g.weight_taps);
    return g;
}

/* --- weights ------------------------------------------------------------------------------------------------- */

enum { PACK_ROWS = 256, PACK_SQUARE = 64 };

/* Rows [first, first + count) of a panel from weight [k][rows]: a transposition, in squares that stay in
 * cache. */
static void pack_transposing(const gather *g, const conv_panel *p, float *out, int64_t first, int64_t count) {
    int64_t rows = g->weight_taps * g->depth;
    for (int64_t from = first; from < first + count; from += PACK_SQUARE) {
        int64_t until = conv_least(from + PACK_SQUARE, first + count);
        for (int64_t column = 0; column < p->width; column++) {
            const float *weight = g->weight + (p->first + column) * rows;
            for (int64_t row = from; row < until; row++)
                out[row * p->width + column] = column < p->exist ? weight[row] : 0;
        }
    }
}

/* The same for the transposed map: row (tap, k) holds weight [k][tap][these columns]. */
static void pack_copying(const gather *g, const conv_panel *p, float *out, int64_t first, int64_t count) {
    for (int64_t row = first; row < first + count; row++) {
        int64_t tap = row / g->depth, k = row % g->depth;
        memcpy(out + row * p->width, g->weight + (k * g->weight_taps + tap) * g->dest_c + p->first,
               (size_t)p->exist * 4);
        memset(out + row * p->width + p->exist, 0, (size_t)(p->width - p->exist) * 4);
    }
}

static float *packed_panel(const gather *g, int64_t panel) {
    int64_t before = conv_panel_first(&g->panels, panel) - conv_panel_first(&g->panels, g->first_panel);
    return g->packed + before * g->micro->lanes * g->weight_taps * g->depth;
}

static void pack_tile(void *context, int64_t tile, int thread) {
    (void)thread;
    const gather *g = context;
    int64_t rows = g->weight_taps * g->depth, cuts = conv_tiles(rows, PACK_ROWS);
    conv_panel p = conv_panel_at(&g->panels, g->first_panel + tile / cuts);
    int64_t first = tile % cuts * PACK_ROWS, count = conv_least(PACK_ROWS, rows - first);
    float *out = packed_panel(g, g->first_panel + tile / cuts);
    if (g->transposed)
        pack_copying(g, &p, out, first, count);
    else
        pack_transposing(g, &p, out, first, count);
}

/* --- lists --------------------------------------------------------------------------------------------------- */

static void list_parts(gather *g) {
    int64_t depth = g->copies_patches ? g->depth * g->weight_taps : g->depth;
    int64_t pieces = conv_tiles(depth, STRETCH), in_lists = g->copies_patches ? 1 : g->taps, steps = 0;
    g->parts = 0;
    g->passes = 0;
    for (int64_t t = 0; t < in_lists; t++) {
        for (int64_t piece = 0; piece < pieces; piece++) {
            int64_t first = depth * piece / pieces, length = depth * (piece + 1) / pieces - first;
            if (steps > 0 && steps + length > PASS) {
                g->pass_end[g->passes++] = g->parts;
                steps = 0;
            }
            steps += length;
            g->part[g->parts++] = (gather_part){t, first, length};
        }
    }
    g->pass_end[g->passes++] = g->parts;
}

/* Source pixel of (image, row, column), or NULL where it counts as zero. */
static const float *source_pixel(const gather *g, int64_t image, int64_t row, int64_t column) {
    if (row < 0 || row >= g->source_h || column < 0 || column >= g->source_w) return NULL;
    int64_t pixel = (image * g->source_h + row) * g->source_w + column;
    return g->live && !g->live[pixel] ? NULL : g->source + pixel * g->depth;
}

/* Copies what the taps of one output pixel read, tap by tap; (top, left) is where a tap at (0,0) reads. */
static void copy_patch(const gather *g, float *patch, int64_t image, int64_t top, int64_t left) {
    for (int64_t t = 0; t < g->taps; t += g->run_taps, patch += g->run_taps * g->depth) {
        int64_t row = top + g->tap[t].row, column = left + g->tap[t].column;
        if (row >= 0 && row < g->source_h && column >= 0 && column + g->run_taps <= g->source_w) {
            const float *from = g->source + ((image * g->source_h + row) * g->source_w + column) * g->depth;
            memcpy(patch, from, (size_t)(g->run_taps * g->depth) * sizeof *patch);
            continue;
        }
        for (int64_t i = 0; i < g->run_taps; i++) {
            const float *from = source_pixel(g, image, row, column + i);
            memcpy(patch + i * g->depth, from ? from : g->zero, (size_t)g->depth * sizeof *patch);
        }
    }
}

static void locate_pixels(const gather *g, const workspace *w, int64_t first, int64_t count) {
    if (g->contiguous) {
        for (int64_t i = 0; i < count; i++) {
            w->dest[i] = (first + i) * g->dest_c;
            w->source[i] = g->source + (first + i) * g->depth;
        }
        return;
    }
    int64_t column = first % g->columns, row = first / g->columns % g->rows,
            image = first / (g->columns * g->rows);
    for (int64_t i = 0; i < count; i++) {
        int64_t h = g->first_h + row * g->spacing, x = g->first_w + column * g->spacing;
        w->dest[i] = ((image * g->dest_h + h) * g->dest_w + x) * g->dest_c;
        if (g->copies_patches)
            copy_patch(g, w->patches + i * g->weight_taps * g->depth, image, row * g->step, column * g->step);
        for (int64_t t = 0; t < g->taps && !g->copies_patches; t++)
            w->source[i * g->taps + t] =
                source_pixel(g, image, row * g->step + g->tap[t].row, column * g->step + g->tap[t].column);
        if (++column < g->columns) continue;
        column = 0;
        if (++row < g->rows) continue;
        row = 0;
        image++;
    }
}

/* The stretches of one tile of micro->rows pixels, without those that only add zeros. */
static void list_stretches(const gather *g, const workspace *w, int64_t tile, int64_t count) {
    int64_t pass = 0, listed = 0, first_pixel = tile * g->micro->rows, patch = g->depth * g->weight_taps;
    for (int64_t i = 0; i < g->parts; i++) {
        const gather_part *part = &g->part[i];
        while (i >= g->pass_end[pass]) {
            w->counts[tile * g->passes + pass++] = listed;
            listed = 0;
        }
        int64_t start = pass ? g->pass_end[pass - 1] : 0;
        micro_stretch *stretch = &w->stretches[tile * g->parts + start + listed];
        bool any = g->copies_patches;
        for (int64_t m = 0; m < g->micro->rows; m++) {
            int64_t pixel = first_pixel + (m < count ? m : 0);
            const float *from =
                g->copies_patches ? w->patches + pixel * patch : w->source[pixel * g->taps + part->tap];
            stretch->rows[m] = from ? from + part->offset : g->zero;
            any |= from != NULL;
        }
        stretch->first = (g->copies_patches ? 0 : g->tap[part->tap].weight) + part->offset;
        stretch->length = part->length;
        listed += any;
    }
    w->counts[tile * g->passes + pass] = listed;
    while (++pass < g->passes) w->counts[tile * g->passes + pass] = 0;
}

/* --- sums ---------------------------------------------------------------------------------------------------- */

typedef struct span {
    int64_t first, count; /* pixels of the class */
    int64_t pass, panel;
} span;

static void prefetch(const float *from, int64_t count) {
    for (int64_t i = 0; i < count; i += 16) __builtin_prefetch(from + i);
}

/* The pixels that a tile of a 1x1 convolution reads: nobody read them just before, unlike those of larger kernels. */
static void prefetch_tile(const gather *g, const workspace *w, const span *s, int64_t tile) {
    int64_t start = s->pass ? g->pass_end[s->pass - 1] : 0;
    const micro_stretch *stretch = &w->stretches[tile * g->parts + start];
    for (int64_t i = 0; i < w->counts[tile * g->passes + s->pass]; i++)
        for (int m = 0; m < g->micro->rows; m++) prefetch(stretch[i].rows[m], stretch[i].length);
}

static void sum_tile(const gather *g, const workspace *w, const span *s, int64_t tile) {
    _Alignas(64) float block[MICRO_MAX_BLOCK];
    conv_panel p = conv_panel_at(&g->panels, s->panel);
    bool first = s->pass == 0, last = s->pass == g->passes - 1;
    const float *add = first ? g->to.add : g->to.dest;
    int64_t listed = w->counts[tile * g->passes + s->pass], start = first ? 0 : g->pass_end[s->pass - 1];
    micro_store to = {.rows = (int)conv_least(g->micro->rows, s->count - tile * g->micro->rows),
                      .bias = first && g->to.bias ? g->to.bias + p.first : NULL,
                      .columns = p.exist,
                      .width = p.width,
                      .relu = last && g->to.relu};
    if (listed == 0 && add == g->to.dest && !to.bias && !to.relu) return;
    if (listed == 0 && !add && !to.bias) {
        for (int m = 0; m < to.rows; m++)
            memset(g->to.dest + w->dest[tile * g->micro->rows + m] + p.first, 0,
                   (size_t)p.exist * sizeof(float));
        return;
    }
    for (int m = 0; m < to.rows; m++) {
        int64_t at = w->dest[tile * g->micro->rows + m] + p.first;
        to.dest[m] = g->to.dest + at;
        to.add[m] = add ? add + at : NULL;
        prefetch(to.dest[m], p.exist);
        if (add && add != g->to.dest) prefetch(to.add[m], p.exist);
    }
    g->micro->dot[p.vectors - 1](block, &w->stretches[tile * g->parts + start], listed,
                                 packed_panel(g, s->panel));
    g->micro->store(&to, block);
}

static void gather_tile(void *context, int64_t index, int thread) {
    const gather *g = context;
    uintptr_t at = g->threads + (uintptr_t)(g->thread_bytes * thread);
    workspace w = workspace_at(g, &at);
    int64_t panels = g->end_panel - g->first_panel, group = index % g->panel_groups;
    span s = {.first = index / g->panel_groups * g->block_pixels};
    s.count = conv_least(g->block_pixels, g->n * g->rows * g->columns - s.first);
    int64_t tiles = conv_tiles(s.count, g->micro->rows);
    locate_pixels(g, &w, s.first, s.count);
    for (int64_t tile = 0; tile < tiles; tile++)
        list_stretches(g, &w, tile, conv_least(g->micro->rows, s.count - tile * g->micro->rows));
    for (s.pass = 0; s.pass < g->passes; s.pass++) {
        int64_t end = g->first_panel + panels * (group + 1) / g->panel_groups;
        int64_t first = g->first_panel + panels * group / g->panel_groups;
        for (s.panel = first; s.panel < end; s.panel++) {
            for (int64_t tile = 0; tile < tiles; tile++) {
                if (g->weight_taps == 1 && s.panel == first && tile + 1 < tiles)
                    prefetch_tile(g, &w, &s, tile + 1);
                sum_tile(g, &w, &s, tile);
            }
        }
    }
}

/* All pixels of one class with the panels that are packed. */
static void run_class(gather *g) {
    int64_t blocks = conv_tiles(g->n * g->rows * g->columns, g->block_pixels),
            panels = g->end_panel - g->first_panel;
    if (blocks == 0) return;
    g->panel_groups = conv_least(panels, conv_tiles(TILES_WANTED, blocks));
    list_parts(g);
    parallel_for(blocks * g->panel_groups, gather_tile, g);
}

static void run_forward(gather *g, const conv_shape *v) {
    for (int64_t t = 0; t < g->taps; t++)
        g->tap[t] =
            (gather_tap){t / v->s * v->dilation - v->pad, t % v->s * v->dilation - v->pad, t * g->depth};
    run_class(g);
}

/* The taps that reach rows h0 + i*stride, columns w0 + j*stride of x. */
static void list_class_taps(gather *g, const conv_shape *v) {
    g->taps = 0;
    for (int64_t t = 0; t < g->weight_taps; t++) {
        int64_t row = g->first_h + v->pad - t / v->s * v->dilation,
                column = g->first_w + v->pad - t % v->s * v->dilation;
        if (row % v->stride != 0 || column % v->stride != 0) continue;
        g->tap[g->taps++] = (gather_tap){row / v->stride, column / v->stride, t * g->depth};
    }
}

static void run_transposed(gather *g, const conv_shape *v) {
    for (int64_t h = 0; h < conv_least(v->stride, v->h); h++) {
        for (int64_t w = 0; w < conv_least(v->stride, v->w); w++) {
            g->first_h = h;
            g->first_w = w;
            g->rows = conv_tiles(v->h - h, v->stride);
            g->columns = conv_tiles(v->w - w, v->stride);
            list_class_taps(g, v);
            g->contiguous = v->r == 1 && v->s == 1 && v->pad == 0 && v->stride == 1 && !g->live;
            run_class(g);
        }
    }
}

static void run(gather *g, const conv_shape *v, void *scratch) {
    lay_out(g, (uintptr_t)scratch);
    if (g->panels.count == 0) return;
    memset(g->zero, 0, (size_t)g->depth * 4);
    int64_t at_a_time = panels_at_a_time(g), rows = g->weight_taps * g->depth;
    for (g->first_panel = 0; g->first_panel < g->panels.count; g->first_panel = g->end_panel) {
        g->end_panel = conv_least(g->first_panel + at_a_time, g->panels.count);
        parallel_for((g->end_panel - g->first_panel) * conv_tiles(rows, PACK_ROWS), pack_tile, g);
        if (g->transposed)
            run_transposed(g, v);
        else
            run_forward(g, v);
    }
}

void conv_gather(const conv_shape *shape, const float *x, const float *weight, const conv_epilogue *to,
                 void *scratch) {
    gather g = gather_forward(shape);
    g.source = x;
    g.weight = weight;
    g.to = *to;
    run(&g, shape, scratch);
}

void conv_gather_transposed(const conv_shape *shape, const float *g, const uint8_t *live, const float *weight,
                            const conv_epilogue *to, void *scratch) {
    gather job = gather_transposed(shape);
    job.source = g;
    job.live = live;
    job.weight = weight;
    job.to = *to;
    run(&job, shape, scratch);
}

size_t conv_gather_scratch(const conv_shape *shape) {
    gather g = gather_forward(shape);
    return lay_out(&g, 0);
}

size_t conv_gather_transposed_scratch(const conv_shape *shape) {
    gather g = gather_transposed(shape);
    return lay_out(&g, 0);
}
