#include "anchors.h"

#include "base/check.h"

#include <math.h>

/* detectron2: the exact box around offset * stride. */
static void exact_base(double box[4], double size, double ratio, double centre) {
    double w = sqrt(size * size / ratio), h = ratio * w;
    box[0] = centre - 0.5 * w;
    box[1] = centre - 0.5 * h;
    box[2] = centre + 0.5 * w;
    box[3] = centre + 0.5 * h;
}

/* torchvision: around the origin, in float32 as there, each corner rounded half to even. */
static void rounded_base(double box[4], double size, double ratio) {
    float h_ratio = sqrtf((float)ratio), w_ratio = 1.0f / h_ratio;
    float w = w_ratio * (float)size, h = h_ratio * (float)size;
    box[0] = nearbyintf(-w / 2.0f);
    box[1] = nearbyintf(-h / 2.0f);
    box[2] = nearbyintf(w / 2.0f);
    box[3] = nearbyintf(h / 2.0f);
}

/* Detectron: the window [0, stride-1] reshaped to the ratio with rounded sides, then scaled by size / stride. Its
 * inclusive corners become continuous ones by adding 1 to the far side. */
static void detectron_base(double box[4], double size, double ratio, double stride) {
    double w = nearbyint(sqrt(stride * stride / ratio)), h = nearbyint(w * ratio);
    double centre = 0.5 * (stride - 1.0), scale = size / stride;
    w *= scale;
    h *= scale;
    box[0] = centre - 0.5 * (w - 1.0);
    box[1] = centre - 0.5 * (h - 1.0);
    box[2] = centre + 0.5 * (w - 1.0) + 1.0;
    box[3] = centre + 0.5 * (h - 1.0) + 1.0;
}

static void make_base(float base[4], const anchor_spec *spec, int level, double size, double ratio) {
    double box[4] = {0};
    switch (spec->rounding) {
    case ANCHOR_EXACT: exact_base(box, size, ratio, spec->offset * spec->strides[level]); break;
    case ANCHOR_ROUND_CORNERS: rounded_base(box, size, ratio); break;
    case ANCHOR_ROUND_DETECTRON: detectron_base(box, size, ratio, spec->strides[level]); break;
    }
    for (int i = 0; i < 4; i++) base[i] = (float)box[i];
}

void anchor_grid_init(anchor_grid *grid, const anchor_spec *spec, const int64_t *grid_heights, const int64_t *grid_widths,
                      int64_t canvas_height, int64_t canvas_width) {
    CHECK(spec->levels >= 1 && spec->levels <= ANCHOR_MAX_LEVELS, "%d anchor levels", spec->levels);
    grid->levels = spec->levels;
    grid->per_place = spec->n_sizes[0] * spec->n_ratios[0];
    CHECK(grid->per_place >= 1 && grid->per_place <= ANCHOR_MAX_PER_PLACE, "%d anchors per place", grid->per_place);
    grid->first[0] = 0;
    for (int l = 0; l < spec->levels; l++) {
        CHECK(spec->n_sizes[l] * spec->n_ratios[l] == grid->per_place, "level %d has another number of anchors per place", l);
        int64_t h = grid_heights[l], w = grid_widths[l];
        grid->height[l] = h;
        grid->width[l] = w;
        grid->first[l + 1] = grid->first[l] + h * w * grid->per_place;
        bool from_canvas = spec->stride_from_canvas && h > 0 && w > 0;
        grid->stride_x[l] = (float)(from_canvas ? canvas_width / w : spec->strides[l]);
        grid->stride_y[l] = (float)(from_canvas ? canvas_height / h : spec->strides[l]);
        for (int s = 0; s < spec->n_sizes[l]; s++)
            for (int r = 0; r < spec->n_ratios[l]; r++)
                make_base(grid->base[l][s * spec->n_ratios[l] + r], spec, l, spec->sizes[l][s], spec->ratios[l][r]);
    }
}

void anchor_box(float box[4], const anchor_grid *grid, int64_t a) {
    int l = 0;
    while (a >= grid->first[l + 1]) l++;
    int64_t place = (a - grid->first[l]) / grid->per_place, base = (a - grid->first[l]) % grid->per_place;
    float x = (float)(place % grid->width[l]) * grid->stride_x[l], y = (float)(place / grid->width[l]) * grid->stride_y[l];
    const float *b = grid->base[l][base];
    box[0] = b[0] + x;
    box[1] = b[1] + y;
    box[2] = b[2] + x;
    box[3] = b[3] + y;
}

void anchor_fpn_grids(int64_t heights[ANCHOR_MAX_LEVELS], int64_t widths[ANCHOR_MAX_LEVELS], int64_t canvas_height, int64_t canvas_width) {
    for (int l = 0; l < ANCHOR_MAX_LEVELS - 1; l++) {
        heights[l] = canvas_height / (4 << l);
        widths[l] = canvas_width / (4 << l);
    }
    heights[ANCHOR_MAX_LEVELS - 1] = (heights[ANCHOR_MAX_LEVELS - 2] + 1) / 2;
    widths[ANCHOR_MAX_LEVELS - 1] = (widths[ANCHOR_MAX_LEVELS - 2] + 1) / 2;
}
