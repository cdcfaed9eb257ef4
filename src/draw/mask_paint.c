#include "draw/mask_paint.h"

#include <stdlib.h>
#include <string.h>

enum { FILL_PERCENT = 40, STRIPE_PERCENT = 60, STRIPE = 5 };

/* Columns [x0, x0+width) and rows [y0, y0+height) of the canvas. */
typedef struct region {
    int x0, y0, width, height;
} region;

void mask_canvas_release(mask_canvas *c) {
    free(c->rows);
    free(c->inside);
    free(c->core);
    *c = (mask_canvas){0};
}

static bool make_room(uint8_t **bytes, size_t size) {
    uint8_t *grown = realloc(*bytes, size);
    if (grown) *bytes = grown;
    return grown;
}

static status reserve(mask_canvas *c, size_t rows, size_t pixels) {
    bool good = true;
    if (rows > c->rows_capacity) {
        good = make_room(&c->rows, rows);
        if (good) c->rows_capacity = rows;
    }
    if (good && pixels > c->capacity) {
        good = make_room(&c->inside, pixels) && make_room(&c->core, pixels);
        if (good) c->capacity = pixels;
    }
    return good ? STATUS_OK
                : error_set(STATUS_OS, "free some memory", "no memory to paint a mask of %zu pixels", pixels);
}

/* The mask's pixel under the centre of canvas pixel i. */
static int source_of(int i, int source, int target) {
    return (int)(((int64_t)2 * i + 1) * source / ((int64_t)2 * target));
}

/* The first canvas pixel whose centre lies in or behind pixel i of the mask. */
static int first_at(int i, int source, int target) {
    int64_t at =
        ((int64_t)2 * i * target + source - 1) / ((int64_t)2 * source); /* about i * target / source */
    while (at > 0 && source_of((int)at - 1, source, target) >= i) at--;
    while (at < target && source_of((int)at, source, target) < i) at++;
    return (int)at;
}

static region region_of(const mask_canvas *c, const mask_rle *mask, mask_box box) {
    region r = {.x0 = first_at(box.x, mask->width, c->width), .y0 = first_at(box.y, mask->height, c->height)};
    r.width = first_at(box.x + box.width, mask->width, c->width) - r.x0;
    r.height = first_at(box.y + box.height, mask->height, c->height) - r.y0;
    return r;
}

static void find_inside(mask_canvas *c, const mask_rle *mask, mask_box box, region r) {
    size_t row_bytes = ((size_t)box.width + 7) / 8;
    mask_rle_decode_crop(c->rows, mask, box.x, box.y, box.width, box.height);
    for (int y = 0; y < r.height; y++) {
        const uint8_t *row =
            c->rows + row_bytes * (size_t)(source_of(r.y0 + y, mask->height, c->height) - box.y);
        uint8_t *inside = c->inside + (size_t)y * (size_t)r.width;
        for (int x = 0; x < r.width; x++) {
            int from = source_of(r.x0 + x, mask->width, c->width) - box.x;
            inside[x] = row[from >> 3] >> (from & 7) & 1;
        }
    }
}

/* core: pixels whose square of `line` pixels each way is all inside. First along rows, then down the columns, in place:
 * `run` counts the inside pixels so far without a gap, and a pixel is core when the run reaches `line` beyond it. */
static void erode_line(uint8_t *to, const uint8_t *from, int count, size_t step, int line) {
    int run = 0;
    for (int i = 0; i < count + line; i++) {
        run = i < count && from[(size_t)i * step] ? run + 1 : 0;
        if (i >= line) to[(size_t)(i - line) * step] = run > 2 * line;
    }
}

static void find_core(mask_canvas *c, region r, int line) {
    for (int y = 0; y < r.height; y++)
        erode_line(c->core + (size_t)y * (size_t)r.width, c->inside + (size_t)y * (size_t)r.width, r.width, 1,
                   line);
    for (int x = 0; x < r.width; x++) erode_line(c->core + x, c->core + x, r.height, (size_t)r.width, line);
}

static uint32_t blend(uint32_t under, const uint8_t colour[3], unsigned percent) {
    uint32_t out = 0;
    for (int i = 0; i < 3; i++) {
        unsigned shift = 16 - 8 * (unsigned)i, old = under >> shift & 255;
        out |= ((old * (100 - percent) + colour[i] * percent + 50) / 100) << shift;
    }
    return out;
}

status mask_paint(mask_canvas *c, const mask_rle *mask, const mask_style *style) {
    mask_box box = mask_rle_bounding_box(mask);
    if (box.width == 0 || box.height == 0) return STATUS_OK;
    region r = region_of(c, mask, box);
    if (r.width <= 0 || r.height <= 0)
        return STATUS_OK; /* between the centres of a reduced picture's pixels */
    RETURN_IF_ERROR(
        reserve(c, ((size_t)box.width + 7) / 8 * (size_t)box.height, (size_t)r.width * (size_t)r.height));
    find_inside(c, mask, box, r);
    find_core(c, r, style->line);
    const uint8_t *inside = c->inside, *core = c->core;
    for (int y = 0; y < r.height; y++) {
        uint32_t *pixel = c->pixels + (size_t)(r.y0 + y) * (size_t)c->stride + r.x0;
        for (int x = 0; x < r.width; x++, pixel++, inside++, core++) {
            if (!*inside) continue;
            bool between = style->hatched && (r.x0 + x + r.y0 + y) / (STRIPE * style->line) % 2;
            unsigned percent = !*core ? 100 : between ? 0 : style->hatched ? STRIPE_PERCENT : FILL_PERCENT;
            *pixel = blend(*pixel, style->colour, percent);
        }
    }
    return STATUS_OK;
}
