#include "conv_winograd.h"

#include "base/thread_pool.h"

#include <string.h>

enum {
    POSITIONS = WINOGRAD_POSITIONS,
    BLOCK_TILES = 32,  /* 2x2 outputs each; their transformed inputs stay in the L2 cache */
    CHANNEL_STEP = 16, /* channel counts are multiples of it: no tails, whatever the vector length */
    LEAST_CHANNELS = 32,
    MOST_CHANNELS = 2048,
    LEAST_PIXELS = 14 * 14,  /* of one image or RoI; fewer hardly pay for the transformation of the weights */
    WEIGHT_FLOATS = 6 << 20, /* transformed */
    BLOCKS_WANTED = 16,
    WEIGHT_CHUNK = 48, /* channels in one transformation of weights */
    LIST_TILES = 256,
};

bool conv_winograd_suits(const conv_shape *v) {
    return v->r == 3 && v->s == 3 && v->stride == 1 && v->dilation == 1 && v->pad <= 2 &&
           v->c % CHANNEL_STEP == 0 && v->k % CHANNEL_STEP == 0 && v->c >= LEAST_CHANNELS &&
           v->k >= LEAST_CHANNELS && v->c <= MOST_CHANNELS && v->k <= MOST_CHANNELS &&
           v->c * v->k <= WEIGHT_FLOATS / POSITIONS && v->ho * v->wo >= LEAST_PIXELS;
}

typedef struct winograd {
    const float *source;
    const uint8_t *live;
    int64_t n, source_h, source_w, depth, dest_h, dest_w, dest_c, pad;
    conv_epilogue to;
    const float *weight; /* [k][3][3][c] */
    int64_t weight_c;
    bool transposed;
    conv_panels panels;
    const micro_kernels *micro;
    int64_t tiles_h, tiles_w, all_tiles, panel_groups;
    /* scratch */
    float *packed, *zero; /* packed: [panel][position][depth][width] */
    uint8_t *active;      /* [all_tiles], only with `live` */
    int64_t *list;        /* active tiles, only with `live` */
    int64_t n_tiles;      /* to compute */
    uintptr_t threads;
    int64_t thread_bytes;
} winograd;

typedef struct workspace {
    float *input; /* [position][BLOCK_TILES][depth] */
    float *sums;  /* [position][BLOCK_TILES][width] */
    float *output;
} workspace;

/* From one position of the transformed inputs to the next; not a power of two, or all would share a set of the cache. */
static int64_t input_stride(const winograd *w) {
    return BLOCK_TILES * w->depth + CHANNEL_STEP;
}

static workspace workspace_at(const winograd *w, uintptr_t *at) {
    int64_t width = (int64_t)MICRO_MAX_VECTORS * w->micro->lanes;
    return (workspace){.input = conv_take(at, POSITIONS * input_stride(w) * 4),
                       .sums = conv_take(at, POSITIONS * BLOCK_TILES * width * 4),
                       .output = conv_take(at, 4 * width * 4)};
}

static uintptr_t lay_out(winograd *w, uintptr_t at) {
    w->micro = micro_best();
    w->panels = conv_panels_of(w->dest_c);
    w->tiles_h = conv_tiles(w->dest_h, 2);
    w->tiles_w = conv_tiles(w->dest_w, 2);
    w->all_tiles = w->n * w->tiles_h * w->tiles_w;
    w->packed = conv_take(&at, POSITIONS * w->depth * w->panels.vectors * w->micro->lanes * 4);
    w->zero = conv_take(&at, w->depth * 4);
    w->active = conv_take(&at, w->transposed ? w->all_tiles : 0);
    w->list = conv_take(&at, w->transposed ? w->all_tiles * (int64_t)sizeof *w->list : 0);
    w->threads = at;
    workspace_at(w, &at);
    w->thread_bytes = (int64_t)(at - w->threads);
    return w->threads + (uintptr_t)(w->thread_bytes * thread_pool_size());
}

/* --- weights ------------------------------------------------------------------------------------------------------ */

/* out[position][i] = G w G^T of `count` neighbouring channels; `flipped` turns the kernel by 180 degrees. */
static void transform_weights(float out[POSITIONS][WEIGHT_CHUNK], const float *weight, int64_t stride,
                              int64_t count, bool flipped) {
    const float *tap[9];
    for (int t = 0; t < 9; t++) tap[t] = weight + (flipped ? 8 - t : t) * stride;
    for (int64_t i = 0; i < count; i++) {
        float row[4][3];
        for (int j = 0; j < 3; j++) {
            float a = tap[j][i], b = tap[3 + j][i], c = tap[6 + j][i];
            row[0][j] = a;
            row[1][j] = 0.5f * (a + b + c);
            row[2][j] = 0.5f * (a - b + c);
            row[3][j] = c;
        }
        for (int p = 0; p < 4; p++) {
            float a = row[p][0], b = row[p][1], c = row[p][2];
            out[4 * p][i] = a;
            out[4 * p + 1][i] = 0.5f * (a + b + c);
            out[4 * p + 2][i] = 0.5f * (a - b + c);
            out[4 * p + 3][i] = c;
        }
    }
}

static float *packed_at(const winograd *w, const conv_panel *p, int position, int64_t depth) {
    return w->packed + POSITIONS * w->depth * p->first + (position * w->depth + depth) * p->width;
}

/* Transformed weights of one panel, WEIGHT_CHUNK steps of the depth. */
static void pack_tile(void *context, int64_t tile, int thread) {
    (void)thread;
    float values[POSITIONS][WEIGHT_CHUNK];
    const winograd *w = context;
    int64_t cuts = conv_tiles(w->depth, WEIGHT_CHUNK), c = w->weight_c;
    conv_panel p = conv_panel_at(&w->panels, tile / cuts);
    int64_t first = tile % cuts * WEIGHT_CHUNK, count = conv_least(WEIGHT_CHUNK, w->depth - first);
    if (w->transposed) {
        for (int64_t k = first; k < first + count; k++) {
            transform_weights(values, w->weight + k * 9 * c + p.first, c, p.width, true);
            for (int position = 0; position < POSITIONS; position++)
                memcpy(packed_at(w, &p, position, k), values[position], (size_t)p.width * sizeof(float));
        }
        return;
    }
    for (int64_t column = 0; column < p.width; column++) {
        transform_weights(values, w->weight + (p.first + column) * 9 * c + first, c, count, false);
        for (int position = 0; position < POSITIONS; position++) {
            float *out = packed_at(w, &p, position, first) + column;
            for (int64_t i = 0; i < count; i++) out[i * p.width] = values[position][i];
        }
    }
}

/* --- tiles without a gradient --------------------------------------------------------------------------------------- */

typedef struct tile_place {
    int64_t image, row, column; /* of its first output */
} tile_place;

static tile_place place_of(const winograd *w, int64_t tile) {
    return (tile_place){tile / (w->tiles_h * w->tiles_w), tile / w->tiles_w % w->tiles_h * 2,
                        tile % w->tiles_w * 2};
}

static bool is_active(const winograd *w, tile_place at) {
    for (int64_t row = at.row - w->pad; row < at.row - w->pad + 4; row++) {
        for (int64_t column = at.column - w->pad; column < at.column - w->pad + 4; column++) {
            if (row < 0 || row >= w->source_h || column < 0 || column >= w->source_w) continue;
            if (w->live[(at.image * w->source_h + row) * w->source_w + column]) return true;
        }
    }
    return false;
}

/* Marks active tiles, and clears the outputs of the others unless they are added to. */
static void mark_tiles(void *context, int64_t chunk, int thread) {
    (void)thread;
    const winograd *w = context;
    int64_t end = conv_least((chunk + 1) * LIST_TILES, w->all_tiles);
    for (int64_t tile = chunk * LIST_TILES; tile < end; tile++) {
        tile_place at = place_of(w, tile);
        w->active[tile] = is_active(w, at);
        if (w->active[tile] || w->to.add) continue;
        for (int64_t row = at.row; row < conv_least(at.row + 2, w->dest_h); row++) {
            int64_t count = conv_least(2, w->dest_w - at.column) * w->dest_c;
            memset(w->to.dest + ((at.image * w->dest_h + row) * w->dest_w + at.column) * w->dest_c, 0,
                   (size_t)count * sizeof(float));
        }
    }
}

static void list_tiles(winograd *w) {
    w->n_tiles = w->all_tiles;
    if (!w->live) return;
    parallel_for(conv_tiles(w->all_tiles, LIST_TILES), mark_tiles, w);
    w->n_tiles = 0;
    for (int64_t tile = 0; tile < w->all_tiles; tile++)
        if (w->active[tile]) w->list[w->n_tiles++] = tile;
}

/* --- sums --------------------------------------------------------------------------------------------------------- */

void conv_winograd_pixels(const float *pixels[16], const float *image, const int64_t hwc[3], int64_t top,
                          int64_t left, const float *zero) {
    for (int64_t i = 0; i < 16; i++) {
        int64_t row = top + i / 4, column = left + i % 4;
        bool inside = row >= 0 && row < hwc[0] && column >= 0 && column < hwc[1];
        pixels[i] = inside ? image + (row * hwc[1] + column) * hwc[2] : zero;
    }
}

typedef struct span {
    tile_place place[BLOCK_TILES];
    int64_t count, groups; /* tiles, and blocks of micro->rows tiles */
} span;

static void transform_inputs(const winograd *w, const workspace *s, const span *tiles) {
    const float *pixels[16];
    int64_t hwc[3] = {w->source_h, w->source_w, w->depth};
    for (int64_t i = 0; i < tiles->count; i++) {
        const tile_place *at = &tiles->place[i];
        const float *image = w->source + at->image * w->source_h * w->source_w * w->depth;
        conv_winograd_pixels(pixels, image, hwc, at->row - w->pad, at->column - w->pad, w->zero);
        w->micro->winograd_input(s->input + i * w->depth, input_stride(w), pixels, w->depth);
    }
}

static void sum_products(const winograd *w, const workspace *s, const span *tiles, const conv_panel *p) {
    int64_t rows = w->micro->rows;
    for (int position = 0; position < POSITIONS; position++) {
        const float *input = s->input + position * input_stride(w), *panel = packed_at(w, p, position, 0);
        for (int64_t group = 0; group < tiles->groups; group++) {
            micro_stretch stretch = {.first = 0, .length = w->depth};
            for (int64_t m = 0; m < rows; m++)
                stretch.rows[m] = input + conv_least(group * rows + m, tiles->count - 1) * w->depth;
            float *block = s->sums + (position * BLOCK_TILES + group * rows) * p->width;
            w->micro->dot[p->vectors - 1](block, &stretch, 1, panel);
        }
    }
}

/* Pixels [first, first + count) of a tile's 2x2 outputs. */
static void write_pixels(const winograd *w, const workspace *s, const tile_place *at, const conv_panel *p,
                         int first, int count) {
    micro_store to = {.bias = w->to.bias ? w->to.bias + p->first : NULL,
                      .rows = count,
                      .columns = p->exist,
                      .width = p->width,
                      .relu = w->to.relu};
    for (int i = 0; i < count; i++) {
        int64_t row = at->row + (first + i) / 2, column = at->column + (first + i) % 2;
        int64_t offset = ((at->image * w->dest_h + row) * w->dest_w + column) * w->dest_c + p->first;
        to.dest[i] = w->to.dest + offset;
        to.add[i] = w->to.add ? w->to.add + offset : NULL;
    }
    w->micro->store(&to, s->output + first * p->width);
}

static void write_outputs(const winograd *w, const workspace *s, const span *tiles, const conv_panel *p) {
    for (int64_t i = 0; i < tiles->count; i++) {
        const tile_place *at = &tiles->place[i];
        bool two_rows = at->row + 1 < w->dest_h, two_columns = at->column + 1 < w->dest_w;
        w->micro->winograd_output(s->output, s->sums + i * p->width, BLOCK_TILES * p->width, p->width);
        if (two_columns) {
            write_pixels(w, s, at, p, 0, two_rows ? 4 : 2);
            continue;
        }
        write_pixels(w, s, at, p, 0, 1);
        if (two_rows) write_pixels(w, s, at, p, 2, 1);
    }
}

static void block_tile(void *context, int64_t index, int thread) {
    const winograd *w = context;
    uintptr_t at = w->threads + (uintptr_t)(w->thread_bytes * thread);
    workspace s = workspace_at(w, &at);
    int64_t first = index / w->panel_groups * BLOCK_TILES, group = index % w->panel_groups;
    span tiles = {.count = conv_least(BLOCK_TILES, w->n_tiles - first)};
    tiles.groups = conv_tiles(tiles.count, w->micro->rows);
    for (int64_t i = 0; i < tiles.count; i++)
        tiles.place[i] = place_of(w, w->live ? w->list[first + i] : first + i);
    transform_inputs(w, &s, &tiles);
    int64_t end = w->panels.count * (group + 1) / w->panel_groups;
    for (int64_t panel = w->panels.count * group / w->panel_groups; panel < end; panel++) {
        conv_panel p = conv_panel_at(&w->panels, panel);
        sum_products(w, &s, &tiles, &p);
        write_outputs(w, &s, &tiles, &p);
    }
}

static void run(winograd *w, void *scratch) {
    lay_out(w, (uintptr_t)scratch);
    memset(w->zero, 0, (size_t)w->depth * sizeof(float));
    list_tiles(w);
    if (w->n_tiles == 0) return;
    parallel_for(w->panels.count * conv_tiles(w->depth, WEIGHT_CHUNK), pack_tile, w);
    int64_t blocks = conv_tiles(w->n_tiles, BLOCK_TILES);
    w->panel_groups = conv_least(w->panels.count, conv_tiles(BLOCKS_WANTED, blocks));
    parallel_for(blocks * w->panel_groups, block_tile, w);
}

static winograd forward_of(const conv_shape *v) {
    return (winograd){.n = v->n,
                      .source_h = v->h,
                      .source_w = v->w,
                      .depth = v->c,
                      .dest_h = v->ho,
                      .dest_w = v->wo,
                      .dest_c = v->k,
                      .pad = v->pad,
                      .weight_c = v->c};
}

static winograd transposed_of(const conv_shape *v) {
    return (winograd){.n = v->n,
                      .source_h = v->ho,
                      .source_w = v->wo,
                      .depth = v->k,
                      .dest_h = v->h,
                      .dest_w = v->w,
                      .dest_c = v->c,
                      .pad = 2 - v->pad,
                      .weight_c = v->c,
                      .transposed = true};
}

void conv_winograd(const conv_shape *shape, const float *x, const float *weight, const conv_epilogue *to,
                   void *scratch) {
    winograd w = forward_of(shape);
    w.source = x;
    w.weight = weight;
    w.to = *to;
    run(&w, scratch);
}

void conv_winograd_transposed(const conv_shape *shape, const float *g, const uint8_t *live,
                              const float *weight, const conv_epilogue *to, void *scratch) {
    winograd w = transposed_of(shape);
    w.source = g;
    w.live =
        live && !to->bias && !to->relu ? live : NULL; /* else even tiles of zeros have outputs to compute */
    w.weight = weight;
    w.to = *to;
    run(&w, scratch);
}

size_t conv_winograd_scratch(const conv_shape *shape) {
    winograd w = forward_of(shape);
    return lay_out(&w, 0);
}

size_t conv_winograd_transposed_scratch(const conv_shape *shape) {
    winograd w = transposed_of(shape);
    return lay_out(&w, 0);
}

void conv_winograd_kernel_gradient(float *d_weight, const float *sums, int64_t c, int64_t first,
                                   int64_t count, bool accumulate) {
    for (int64_t k = first; k < first + count; k++) {
        const float *u = sums + k * POSITIONS * c;
        float *d = d_weight + k * 9 * c;
        for (int64_t i = 0; i < c; i++) {
            float row[3][4];
            for (int j = 0; j < 4; j++) {
                float a = u[j * c + i], b = u[(4 + j) * c + i], e = u[(8 + j) * c + i],
                      f = u[(12 + j) * c + i];
                row[0][j] = a + 0.5f * (b + e);
                row[1][j] = 0.5f * (b - e);
                row[2][j] = 0.5f * (b + e) + f;
            }
            for (int r = 0; r < 3; r++) {
                float value[3] = {row[r][0] + 0.5f * (row[r][1] + row[r][2]), 0.5f * (row[r][1] - row[r][2]),
                                  0.5f * (row[r][1] + row[r][2]) + row[r][3]};
                for (int s = 0; s < 3; s++) {
                    float *to = &d[(3 * r + s) * c + i];
                    *to = accumulate ? *to + value[s] : value[s];
                }
            }
        }
    }
}
