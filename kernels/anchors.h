/* Anchor boxes of a feature pyramid. Boxes are made on the fly from a few base boxes per level: never stored.
 *
 * The anchors of an image are counted over levels in order, then rows, columns, and base boxes of a cell.
 * Coordinates are continuous pixels of the canvas; the arithmetic is float in every build, as the frameworks
 * have it. */
#ifndef KERNELS_ANCHORS_H
#define KERNELS_ANCHORS_H

#include <stdbool.h>
#include <stdint.h>

enum { ANCHOR_MAX_LEVELS = 5, ANCHOR_MAX_SIZES = 8, ANCHOR_MAX_RATIOS = 8, ANCHOR_MAX_PER_CELL = 16 };

typedef enum anchor_rounding {
    /* detectron2: w = size / sqrt(ratio), h = w * ratio; sizes outside, ratios inside. */
    ANCHOR_EXACT,
    /* torchvision: corners around 0 rounded half to even; ratios outside, sizes inside. */
    ANCHOR_ROUND_CORNERS,
    /* Detectron: ratios are applied to a stride x stride cell and rounded, then scaled; centred on the cell.
     * Its inclusive corners become continuous ones, so widths are 48, 32, 24 for size 32, stride 4. Ratios
     * outside, sizes inside. */
    ANCHOR_ROUND_DETECTRON
} anchor_rounding;

typedef struct anchor_spec {
    int levels;
    int n_sizes[ANCHOR_MAX_LEVELS]; /* times n_ratios: the same for each level */
    int n_ratios[ANCHOR_MAX_LEVELS];
    double sizes[ANCHOR_MAX_LEVELS][ANCHOR_MAX_SIZES];   /* square root of the area, pixels */
    double ratios[ANCHOR_MAX_LEVELS][ANCHOR_MAX_RATIOS]; /* height / width */
    int strides[ANCHOR_MAX_LEVELS];
    double offset; /* of the first centre, in strides (detectron2's OFFSET) */
    anchor_rounding rounding;
    bool stride_from_canvas; /* torchvision: centres are floor(canvas / map) apart, per axis */
} anchor_spec;

typedef struct anchor_level {
    int32_t height, width; /* of the map */
    float stride_y, stride_x, first_y, first_x;
    float base[ANCHOR_MAX_PER_CELL][4]; /* around the first centre's offset */
    int64_t first;                      /* index of its first anchor */
} anchor_level;

typedef struct anchor_grid {
    int levels, per_cell;
    int64_t count; /* anchors of an image */
    anchor_level level[ANCHOR_MAX_LEVELS];
} anchor_grid;

/* Whether a grid can be made: sizes, ratios and strides positive, counts within the limits above, at least
 * one and at most 2^31 - 1 anchors. */
bool anchor_spec_valid(const anchor_spec *spec, int64_t canvas_height, int64_t canvas_width);

/* The grid of a valid spec. A level's map has ceil(canvas / stride) cells per axis. */
anchor_grid anchor_grid_make(const anchor_spec *spec, int64_t canvas_height, int64_t canvas_width);

static inline float anchor_shift_x(const anchor_level *level, int64_t x) {
    return level->first_x + (float)x * level->stride_x;
}
static inline float anchor_shift_y(const anchor_level *level, int64_t y) {
    return level->first_y + (float)y * level->stride_y;
}

static inline void anchor_box_at(float box[4], const anchor_level *level, int64_t y, int64_t x, int a) {
    float dx = anchor_shift_x(level, x), dy = anchor_shift_y(level, y);
    box[0] = dx + level->base[a][0];
    box[1] = dy + level->base[a][1];
    box[2] = dx + level->base[a][2];
    box[3] = dy + level->base[a][3];
}

/* Box of anchor `index` in [0, grid->count). */
void anchor_box(float box[4], const anchor_grid *grid, int64_t index);

#endif
