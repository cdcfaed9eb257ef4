#include "channel_norm.h"

#include "base/round_up.h"
#include "base/thread_pool.h"

#include <string.h>

enum { TILE_ELEMENTS = 32768, WIDTH = 8 };

/* Vectors anywhere in an array of floats or doubles. */
typedef float floats __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));
typedef double doubles __attribute__((vector_size(8 * WIDTH), aligned(8), may_alias));
typedef int32_t ints __attribute__((vector_size(4 * WIDTH)));

channel_map channel_map_make(int64_t slabs, int64_t pixels, int64_t channels) {
    channel_map m = {.slabs = slabs, .pixels = pixels, .channels = channels, .tile_pixels = TILE_ELEMENTS};
    if (channels > 0) m.tile_pixels = (TILE_ELEMENTS + channels - 1) / channels;
    m.tiles = (pixels + m.tile_pixels - 1) / m.tile_pixels;
    return m;
}

static size_t sums_bytes(const channel_map *m) {
    return round_up((size_t)(m->slabs * 2 * m->channels + 1) * sizeof(double), 64);
}

static size_t partial_bytes(const channel_map *m) {
    return round_up((size_t)(m->slabs * m->tiles * 2 * m->channels) * sizeof(double), 64);
}

size_t channel_scratch_bytes(const channel_map *m) {
    return sums_bytes(m) + partial_bytes(m) + (size_t)(m->slabs * CHANNEL_ROWS * m->channels) * sizeof(float);
}

channel_scratch channel_scratch_at(const channel_map *m, void *scratch) {
    char *at = scratch;
    return (channel_scratch){.sums = (double *)at,
                             .partial = (double *)(at + sums_bytes(m)),
                             .coefs = (float *)(at + sums_bytes(m) + partial_bytes(m))};
}

/* One pass: what a tile needs. */
typedef struct pass {
    const channel_map *map;
    double *partial;
    const float *coefs, *x;
    float *y;
    bool relu;
    channel_gradient gradient;
} pass;

/* Pixels of a tile: where they begin in the map, how many, and the coefficients of their slab. */
typedef struct span {
    int64_t first, pixels; /* first element; number of pixels */
    const float *coefs;
} span;

static span span_of(const pass *p, int64_t tile) {
    const channel_map *m = p->map;
    int64_t slab = tile / m->tiles, begin = tile % m->tiles * m->tile_pixels, left = m->pixels - begin;
    return (span){.first = (slab * m->pixels + begin) * m->channels,
                  .pixels = left < m->tile_pixels ? left : m->tile_pixels,
                  .coefs = p->coefs ? p->coefs + slab * CHANNEL_ROWS * m->channels : NULL};
}

/* Adds the moments of `count` <= 4 pixels, `channels` apart; inlined for 4 and for 1. Four at a time, so that the
 * sums are loaded and stored once for four numbers. */
static inline __attribute__((always_inline)) void add_moments(double *sum, double *square, const float *x,
                                                              int64_t channels, const int count) {
    int64_t c = 0;
    for (; c + WIDTH <= channels; c += WIDTH) {
        doubles first = {0}, second = {0};
        for (int k = 0; k < count; k++) {
            doubles v = __builtin_convertvector(*(const floats *)(x + k * channels + c), doubles);
            first += v;
            second += v * v;
        }
        *(doubles *)(sum + c) += first;
        *(doubles *)(square + c) += second;
    }
    for (; c < channels; c++) {
        for (int k = 0; k < count; k++) {
            double v = x[k * channels + c];
            sum[c] += v;
            square[c] += v * v;
        }
    }
}

static void moments_tile(void *context, int64_t tile, int thread) {
    (void)thread;
    const pass *p = context;
    span s = span_of(p, tile);
    int64_t channels = p->map->channels, i = 0;
    const float *x = p->x + s.first;
    double *sum = p->partial + tile * 2 * channels, *square = sum + channels;
    memset(sum, 0, (size_t)(2 * channels) * sizeof *sum);
    for (; i + 4 <= s.pixels; i += 4) add_moments(sum, square, x + i * channels, channels, 4);
    for (; i < s.pixels; i++) add_moments(sum, square, x + i * channels, channels, 1);
}

/* sums[slab] = sum of partial[slab] over its tiles, in order. */
static void add_tiles(const channel_map *m, const channel_scratch *scratch) {
    int64_t width = 2 * m->channels;
    for (int64_t s = 0; s < m->slabs; s++) {
        double *sum = scratch->sums + s * width;
        memset(sum, 0, (size_t)width * sizeof *sum);
        for (int64_t t = 0; t < m->tiles; t++) {
            const double *part = scratch->partial + (s * m->tiles + t) * width;
            for (int64_t c = 0; c < width; c++) sum[c] += part[c];
        }
    }
}

void channel_moments(const channel_map *m, const channel_scratch *scratch, const float *x) {
    pass p = {.map = m, .partial = scratch->partial, .x = x};
    parallel_for(m->slabs * m->tiles, moments_tile, &p);
    add_tiles(m, scratch);
}

static void affine_tile(void *context, int64_t tile, int thread) {
    (void)thread;
    const pass *p = context;
    span s = span_of(p, tile);
    int64_t channels = p->map->channels;
    const float *center = s.coefs + CHANNEL_CENTER * channels, *scale = s.coefs + CHANNEL_SCALE * channels,
                *shift = s.coefs + CHANNEL_SHIFT * channels;
    float least = p->relu ? 0.0f : -__builtin_inff();
    for (int64_t i = 0; i < s.pixels; i++) {
        const float *restrict x = p->x + s.first + i * channels;
        float *restrict y = p->y + s.first + i * channels;
        for (int64_t c = 0; c < channels; c++) {
            float v = (x[c] - center[c]) * scale[c] + shift[c];
            y[c] = v < least ? least : v;
        }
    }
}

void channel_affine(const channel_map *m, const float *coefs, float *y, const float *x, bool relu) {
    pass p = {.map = m, .coefs = coefs, .x = x, .y = y, .relu = relu};
    parallel_for(m->slabs * m->tiles, affine_tile, &p);
}

/* Adds the products of `count` pixels from element `at` on; inlined for the constants. */
static inline __attribute__((always_inline)) void add_products(double *sum, double *product,
                                                               const channel_gradient *map, int64_t at,
                                                               const float *center, int64_t channels,
                                                               const int count, const bool is_masked) {
    const float *g = map->g + at, *x = map->x + at, *y = is_masked ? map->y + at : NULL;
    const floats zero = {0};
    int64_t c = 0;
    for (; c + WIDTH <= channels; c += WIDTH) {
        doubles first = {0}, second = {0};
        for (int k = 0; k < count; k++) {
            int64_t e = k * channels + c;
            floats v = *(const floats *)(g + e);
            if (is_masked) v = (floats)((ints)v & (*(const floats *)(y + e) > zero));
            doubles wide = __builtin_convertvector(v, doubles);
            first += wide;
            second += wide * __builtin_convertvector(*(const floats *)(x + e) - *(const floats *)(center + c),
                                                     doubles);
        }
        *(doubles *)(sum + c) += first;
        *(doubles *)(product + c) += second;
    }
    for (; c < channels; c++) {
        for (int64_t e = c; e < count * channels; e += channels) {
            double v = is_masked && !(y[e] > 0.0f) ? 0.0 : g[e];
            sum[c] += v;
            product[c] += v * (double)(x[e] - center[c]);
        }
    }
}

static void gradient_sums_tile(void *context, int64_t tile, int thread) {
    (void)thread;
    const pass *p = context;
    const channel_gradient *map = &p->gradient;
    span s = span_of(p, tile);
    int64_t channels = p->map->channels, i = 0;
    double *sum = p->partial + tile * 2 * channels, *product = sum + channels;
    const float *center = s.coefs + CHANNEL_CENTER * channels;
    memset(sum, 0, (size_t)(2 * channels) * sizeof *sum);
    for (; map->y && i + 4 <= s.pixels; i += 4)
        add_products(sum, product, map, s.first + i * channels, center, channels, 4, true);
    for (; map->y && i < s.pixels; i++)
        add_products(sum, product, map, s.first + i * channels, center, channels, 1, true);
    for (; i + 4 <= s.pixels; i += 4)
        add_products(sum, product, map, s.first + i * channels, center, channels, 4, false);
    for (; i < s.pixels; i++)
        add_products(sum, product, map, s.first + i * channels, center, channels, 1, false);
}

void channel_gradient_sums(const channel_map *m, const channel_scratch *scratch,
                           const channel_gradient *gradient) {
    pass p = {.map = m, .partial = scratch->partial, .coefs = scratch->coefs, .gradient = *gradient};
    parallel_for(m->slabs * m->tiles, gradient_sums_tile, &p);
    add_tiles(m, scratch);
}

/* One pixel; inlined for each combination of constants, so that the loops have no branches. */
static inline __attribute__((always_inline)) void apply_pixel(const channel_gradient *map, int64_t at,
                                                              const float *coefs, int64_t channels,
                                                              const bool masked, const bool centred,
                                                              const bool add) {
    const float *center = coefs + CHANNEL_CENTER * channels, *scale = coefs + CHANNEL_SCALE * channels,
                *shift = coefs + CHANNEL_SHIFT * channels, *slope = coefs + CHANNEL_SLOPE * channels;
    const float *restrict g = map->g + at, *restrict y = masked ? map->y + at : NULL,
                          *restrict x = centred ? map->x + at : NULL;
    float *restrict d_x = map->d_x + at;
    for (int64_t c = 0; c < channels; c++) {
        float v = g[c];
        if (masked) v = y[c] > 0.0f ? v : 0.0f;
        v *= scale[c];
        if (centred) v += slope[c] * (x[c] - center[c]) + shift[c];
        d_x[c] = add ? d_x[c] + v : v;
    }
}

static void apply_tile(void *context, int64_t tile, int thread) {
    (void)thread;
    const pass *p = context;
    const channel_gradient *map = &p->gradient;
    span s = span_of(p, tile);
    int64_t channels = p->map->channels;
    int kind = (map->y ? 4 : 0) + (map->x ? 2 : 0) + (map->accumulate ? 1 : 0);
    for (int64_t i = 0; i < s.pixels; i++) {
        int64_t at = s.first + i * channels;
        switch (kind) {
        case 0:
            apply_pixel(map, at, s.coefs, channels, false, false, false);
            break;
        case 1:
            apply_pixel(map, at, s.coefs, channels, false, false, true);
            break;
        case 2:
            apply_pixel(map, at, s.coefs, channels, false, true, false);
            break;
        case 3:
            apply_pixel(map, at, s.coefs, channels, false, true, true);
            break;
        case 4:
            apply_pixel(map, at, s.coefs, channels, true, false, false);
            break;
        case 5:
            apply_pixel(map, at, s.coefs, channels, true, false, true);
            break;
        case 6:
            apply_pixel(map, at, s.coefs, channels, true, true, false);
            break;
        default:
            apply_pixel(map, at, s.coefs, channels, true, true, true);
            break;
        }
    }
}

void channel_gradient_apply(const channel_map *m, const float *coefs, const channel_gradient *gradient) {
    pass p = {.map = m, .coefs = coefs, .gradient = *gradient};
    parallel_for(m->slabs * m->tiles, apply_tile, &p);
}
