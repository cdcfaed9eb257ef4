/* mask_paste, a tile per mask. Of each column only the first and the last pixel of every cell are looked at: the value
 * is monotone in between, so where both agree the whole cell does, and elsewhere one change is searched, mostly found
 * at once by interpolation. A column costs what its cells cost, not its pixels. */
#include "mask_paste/mask_place.h"

#include "base/thread_pool.h"

#include <string.h>

/* Of one mask; nodes 0..S+1. */
typedef struct work {
    const mask_paste_params *p;
    int side;
    mask_axis x, y;
    int64_t height;
    float *nodes;              /* [S+2, S+2] the map with its ring, column by column */
    float *column;             /* [S+2] nodes of the pixel column */
    float *at_first, *at_last; /* [S+1] place of each cell's first and last pixel in it */
    float *v_first, *v_last;   /* [S+1] their values */
    int32_t *start;            /* [S+2] first pixel of each cell; its end is the start of the next */
} work;

static size_t thread_bytes(int64_t side) {
    size_t words = (size_t)((side + 2) * (side + 2) + 6 * (side + 2));
    return (words * sizeof(float) + 63) / 64 * 64;
}

static size_t scratch_bytes(const op_call *call, bool backward) {
    (void)backward;
    return (size_t)thread_pool_size() * thread_bytes(call->in[MASK_PASTE_PROBS]->shape[1]);
}

static void fill_nodes(const work *w, const float *map) {
    int n = w->side + 2;
    memset(w->nodes, 0, (size_t)(n * n) * sizeof *w->nodes);
    for (int y = 1; y <= w->side; y++)
        for (int x = 1; x <= w->side; x++) w->nodes[x * n + y] = map[(y - 1) * w->side + x - 1];
}

/* First pixel of the axis, from `low` on, whose cell is `cell` or a later one. */
static int64_t first_of_cell(const mask_axis *axis, int cell, int64_t low) {
    int64_t high = axis->end;
    while (low < high) {
        float place;
        int64_t middle = (low + high) / 2;
        if (mask_axis_at(axis, middle, &place) >= cell)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

static void find_cells(const work *w) {
    int64_t from = w->y.first;
    for (int k = 0; k <= w->side + 1; k++) {
        from = first_of_cell(&w->y, k, from);
        w->start[k] = (int32_t)from;
    }
    for (int k = 0; k <= w->side; k++) {
        w->at_first[k] = w->at_last[k] = 0;
        if (w->start[k] == w->start[k + 1]) continue;
        mask_axis_at(&w->y, w->start[k], &w->at_first[k]);
        mask_axis_at(&w->y, w->start[k + 1] - 1, &w->at_last[k]);
    }
}

/* First pixel of cell k that is not as the cell's first one; the last one is not. */
static int64_t find_change(const work *w, int k, bool first_set) {
    int64_t low = w->start[k], high = w->start[k + 1] - 1;
    float share = ((float)w->p->threshold - w->v_first[k]) / (w->v_last[k] - w->v_first[k]);
    int64_t guess = low + (share >= 0 && share <= 1 ? (int64_t)(share * (float)(high - low)) : 0);
    for (int step = 0; high - low > 1; step++) {
        float place;
        int64_t pixel = step < 2 ? guess : (low + high) / 2;
        pixel = pixel <= low ? low + 1 : pixel >= high ? high - 1 : pixel;
        mask_axis_at(&w->y, pixel, &place);
        if (mask_is_set(w->p, mask_between(w->column[k], w->column[k + 1], place)) == first_set) {
            low = pixel;
            guess = pixel + 1;
        } else {
            high = pixel;
            guess = pixel - 1;
        }
    }
    return high;
}

static void paste_column(const work *w, mask_runs *runs, int64_t x) {
    int64_t open = -1, top = x * w->height; /* open: where a stretch began that still goes on */
    for (int k = 0; k <= w->side; k++) {
        int64_t start = w->start[k];
        if (start == w->start[k + 1]) continue;
        bool first_set = mask_is_set(w->p, w->v_first[k]), last_set = mask_is_set(w->p, w->v_last[k]);
        if (first_set != (open >= 0)) {
            if (open >= 0) mask_runs_add(runs, top + open, top + start);
            open = first_set ? start : -1;
        }
        if (first_set == last_set) continue;
        int64_t change = find_change(w, k, first_set);
        if (open >= 0) mask_runs_add(runs, top + open, top + change);
        open = last_set ? change : -1;
    }
    if (open >= 0) mask_runs_add(runs, top + open, top + w->start[w->side + 1]);
}

static void paste_columns(const work *w, mask_runs *runs) {
    int n = w->side + 2;
    for (int64_t x = w->x.first; x < w->x.end; x++) {
        float right;
        int cell = mask_axis_at(&w->x, x, &right);
        if (cell < 0 || cell > w->side) continue;
        const float *a = w->nodes + cell * n, *b = a + n;
        float *restrict column = w->column, *restrict v_first = w->v_first, *restrict v_last = w->v_last;
        for (int k = 0; k < n; k++) column[k] = mask_between(a[k], b[k], right);
        for (int k = 0; k <= w->side; k++)
            v_first[k] = mask_between(column[k], column[k + 1], w->at_first[k]);
        for (int k = 0; k <= w->side; k++) v_last[k] = mask_between(column[k], column[k + 1], w->at_last[k]);
        paste_column(w, runs, x);
    }
}

static void mask_tile(void *context, int64_t m, int thread) {
    const op_call *call = context;
    const mask_paste_params *p = call->params;
    int side = (int)call->in[MASK_PASTE_PROBS]->shape[1], n = side + 2;
    const float *box = tensor_f32(call->in[MASK_PASTE_BOXES]) + 4 * m;
    const image_info *info = (const image_info *)call->in[MASK_PASTE_INFO]->data +
                             (int64_t)tensor_f32(call->in[MASK_PASTE_ROIS])[5 * m];
    float *memory = (float *)(void *)((char *)call->scratch + (size_t)thread * thread_bytes(side));
    work w = {.p = p,
              .side = side,
              .height = info->original_height,
              .nodes = memory,
              .column = memory + n * n,
              .at_first = memory + n * n + n,
              .at_last = memory + n * n + 2 * n,
              .v_first = memory + n * n + 3 * n,
              .v_last = memory + n * n + 4 * n,
              .start = (int32_t *)(void *)(memory + n * n + 5 * n)};
    mask_runs runs = {.runs = tensor_i32(call->out[MASK_PASTE_RUNS]) + m * p->capacity,
                      .capacity = p->capacity};
    if (mask_axis_make(&w.x, p, side, box[0], box[2], info->original_width) &&
        mask_axis_make(&w.y, p, side, box[1], box[3], info->original_height)) {
        fill_nodes(&w, tensor_f32(call->in[MASK_PASTE_PROBS]) + m * side * side);
        find_cells(&w);
        paste_columns(&w, &runs);
    }
    tensor_i32(call->out[MASK_PASTE_COUNTS])[m] = mask_runs_finish(&runs, w.height * info->original_width);
}

static void forward(const op_call *call) {
    parallel_for(tensor_valid_rows(call->in[MASK_PASTE_PROBS]), mask_tile, (void *)call);
}

const op_kernel mask_paste_by_column = {
    .name = "by_column", .forward = forward, .scratch_bytes = scratch_bytes};
