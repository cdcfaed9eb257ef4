/* Anchor boxes of the RPN. They are never stored: a table of at most 16 base boxes per level, shifted by the place.
 *
 * Anchor number a of an image counts levels in order, then rows, columns and base boxes: for level l with grid h x w,
 * a = first[l] + (y * w + x) * per_place + base. Its box is base + (x * stride_x, y * stride_y) in both corners. */
#ifndef KERNELS_ANCHORS_H
#define KERNELS_ANCHORS_H

#include <stdbool.h>
#include <stdint.h>

enum { ANCHOR_MAX_LEVELS = 5, ANCHOR_MAX_SIZES = 4, ANCHOR_MAX_RATIOS = 8, ANCHOR_MAX_PER_PLACE = 16 };

typedef enum anchor_rounding {
    ANCHOR_EXACT,          /* detectron2: w = s / sqrt(r), h = s * sqrt(r), centred on offset * stride */
    ANCHOR_ROUND_CORNERS,  /* torchvision: corners of the exact base box, rounded half to even */
    ANCHOR_ROUND_DETECTRON /* Detectron: widths and heights quantised to the stride's window, centre (stride - 1) / 2 */
} anchor_rounding;

typedef struct anchor_spec {
    int levels;
    int strides[ANCHOR_MAX_LEVELS];
    int n_sizes[ANCHOR_MAX_LEVELS], n_ratios[ANCHOR_MAX_LEVELS]; /* n_sizes * n_ratios is equal on all levels */
    double sizes[ANCHOR_MAX_LEVELS][ANCHOR_MAX_SIZES];
    double ratios[ANCHOR_MAX_LEVELS][ANCHOR_MAX_RATIOS]; /* height / width */
    double offset; /* of the first centre, in strides (ANCHOR_EXACT) */
    anchor_rounding rounding;
    bool stride_from_canvas; /* torchvision: places are floor(canvas / grid) apart instead of the level's stride */
} anchor_spec;

/* The anchors of one canvas. */
typedef struct anchor_grid {
    int levels, per_place;
    int64_t height[ANCHOR_MAX_LEVELS], width[ANCHOR_MAX_LEVELS];
    int64_t first[ANCHOR_MAX_LEVELS + 1]; /* first[levels] is their number */
    float stride_x[ANCHOR_MAX_LEVELS], stride_y[ANCHOR_MAX_LEVELS];
    float base[ANCHOR_MAX_LEVELS][ANCHOR_MAX_PER_PLACE][4];
} anchor_grid;

/* Grid l has grid_heights[l] x grid_widths[l] places on a canvas of canvas_height x canvas_width pixels. Base boxes
 * enumerate sizes, then ratios within a size, as detectron2 does (torchvision's order is the same for one size per
 * level). */
void anchor_grid_init(anchor_grid *grid, const anchor_spec *spec, const int64_t *grid_heights, const int64_t *grid_widths,
                      int64_t canvas_height, int64_t canvas_width);

/* Box x1 y1 x2 y2 of anchor a, 0 <= a < first[levels]. */
void anchor_box(float box[4], const anchor_grid *grid, int64_t a);

/* Sides of P2..P6's grids for a canvas: stride 4..32 exactly, the last one ceil(P5 / 2). */
void anchor_fpn_grids(int64_t heights[ANCHOR_MAX_LEVELS], int64_t widths[ANCHOR_MAX_LEVELS], int64_t canvas_height, int64_t canvas_width);

#endif
