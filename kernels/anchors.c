#include "anchors.h"

#include <math.h>

static void exact_base(float base[4], double size, double ratio) {
    double w = sqrt(size * size / ratio), h = ratio * w;
    base[0] = (float)(-w / 2);
    base[1] = (float)(-h / 2);
    base[2] = (float)(w / 2);
    base[3] = (float)(h / 2);
}

static void rounded_base(float base[4], double size, double ratio) {
    float h_ratio = sqrtf((float)ratio), w_ratio = 1.0f / h_ratio;
    float w = w_ratio * (float)size, h = h_ratio * (float)size;
    base[0] = rintf(-w / 2.0f);
    base[1] = rintf(-h / 2.0f);
    base[2] = rintf(w / 2.0f);
    base[3] = rintf(h / 2.0f);
}

static void detectron_base(float base[4], double size, double ratio, int stride) {
    double cell = stride, w = rint(sqrt(cell * cell / ratio)), h = rint(w * ratio), centre = 0.5 * (cell - 1),
           scale = size / cell;
    base[0] = (float)(centre - 0.5 * (w * scale - 1));
    base[1] = (float)(centre - 0.5 * (h * scale - 1));
    base[2] = (float)(centre + 0.5 * (w * scale - 1) + 1);
    base[3] = (float)(centre + 0.5 * (h * scale - 1) + 1);
}

static void make_bases(anchor_level *level, const anchor_spec *spec, int index) {
    int n_sizes = spec->n_sizes[index], n_ratios = spec->n_ratios[index];
    for (int s = 0; s < n_sizes; s++) {
        for (int r = 0; r < n_ratios; r++) {
            double size = spec->sizes[index][s], ratio = spec->ratios[index][r];
            float *by_size = level->base[s * n_ratios + r], *by_ratio = level->base[r * n_sizes + s];
            switch (spec->rounding) {
            case ANCHOR_EXACT:
                exact_base(by_size, size, ratio);
                break;
            case ANCHOR_ROUND_CORNERS:
                rounded_base(by_ratio, size, ratio);
                break;
            case ANCHOR_ROUND_DETECTRON:
                detectron_base(by_ratio, size, ratio, spec->strides[index]);
                break;
            }
        }
    }
}

static int64_t cells(int64_t canvas, int stride) {
    return (canvas + stride - 1) / stride;
}

bool anchor_spec_valid(const anchor_spec *spec, int64_t canvas_height, int64_t canvas_width) {
    enum { MAX_CANVAS = 1 << 20 };
    if (spec->levels < 1 || spec->levels > ANCHOR_MAX_LEVELS) return false;
    if (canvas_height < 1 || canvas_height > MAX_CANVAS || canvas_width < 1 || canvas_width > MAX_CANVAS)
        return false;
    int64_t count = 0;
    int per_cell = spec->n_sizes[0] * spec->n_ratios[0];
    for (int i = 0; i < spec->levels; i++) {
        int n_sizes = spec->n_sizes[i], n_ratios = spec->n_ratios[i];
        if (n_sizes < 1 || n_sizes > ANCHOR_MAX_SIZES || n_ratios < 1 || n_ratios > ANCHOR_MAX_RATIOS)
            return false;
        if (n_sizes * n_ratios != per_cell || per_cell > ANCHOR_MAX_PER_CELL || spec->strides[i] < 1)
            return false;
        for (int s = 0; s < n_sizes; s++)
            if (!(spec->sizes[i][s] > 0)) return false;
        for (int r = 0; r < n_ratios; r++)
            if (!(spec->ratios[i][r] > 0)) return false;
        count += cells(canvas_height, spec->strides[i]) * cells(canvas_width, spec->strides[i]) * per_cell;
    }
    return count <= INT32_MAX;
}

anchor_grid anchor_grid_make(const anchor_spec *spec, int64_t canvas_height, int64_t canvas_width) {
    anchor_grid grid = {.levels = spec->levels, .per_cell = spec->n_sizes[0] * spec->n_ratios[0]};
    for (int i = 0; i < spec->levels; i++) {
        anchor_level *level = &grid.level[i];
        level->height = (int32_t)cells(canvas_height, spec->strides[i]);
        level->width = (int32_t)cells(canvas_width, spec->strides[i]);
        level->stride_y =
            (float)(spec->stride_from_canvas ? canvas_height / level->height : spec->strides[i]);
        level->stride_x = (float)(spec->stride_from_canvas ? canvas_width / level->width : spec->strides[i]);
        level->first_y = (float)(spec->offset * (double)level->stride_y);
        level->first_x = (float)(spec->offset * (double)level->stride_x);
        level->first = grid.count;
        make_bases(level, spec, i);
        grid.count += (int64_t)level->height * level->width * grid.per_cell;
    }
    return grid;
}

void anchor_box(float box[4], const anchor_grid *grid, int64_t index) {
    int l = grid->levels - 1;
    while (index < grid->level[l].first) l--;
    const anchor_level *level = &grid->level[l];
    int64_t cell = (index - level->first) / grid->per_cell;
    anchor_box_at(box, level, cell / level->width, cell % level->width,
                  (int)((index - level->first) % grid->per_cell));
}
