/* Reference of mask_targets; also the one that ships: a tile per RoI, its pixels in a window of the thread's
 * scratch. */
#include "mask_targets/mask_targets.h"

#include "base/check.h"
#include "base/thread_pool.h"
#include "data/gt_masks.h"
#include "image_info.h"
#include "polygon_window.h"
#include "roi_bins.h"

#include <string.h>

/* Of one thread: pixels of the largest window, column by column, and the original pixel of each column and row; or, for a
 * polygon in the RoI's frame, [S,S] pixels and what drawing them needs. */
typedef struct workspace {
    int32_t *columns, *rows;
    uint8_t *cells;
} workspace;

static size_t frame_bytes(const mask_targets_params *p) {
    return (size_t)(p->resolution * p->resolution) + mask_polygon_scratch_bytes(p->resolution, p->resolution);
}

static size_t workspace_bytes(const mask_targets_params *p) {
    size_t window = (size_t)(p->canvas_height * p->canvas_width), frame = frame_bytes(p);
    size_t places = (size_t)(p->canvas_height + p->canvas_width) * sizeof(int32_t);
    return (places + (window > frame ? window : frame) + 63) / 64 * 64;
}

static size_t scratch_bytes(const op_call *call, bool backward) {
    (void)backward;
    return (size_t)thread_pool_size() * workspace_bytes(call->params);
}

static workspace workspace_of(const op_call *call, int thread) {
    const mask_targets_params *p = call->params;
    char *memory = (char *)call->scratch + (size_t)thread * workspace_bytes(p);
    workspace w = {.columns = (int32_t *)(void *)memory};
    w.rows = w.columns + p->canvas_width;
    w.cells = (uint8_t *)(w.rows + p->canvas_height);
    return w;
}

/* Everything about one RoI. */
typedef struct target {
    const mask_targets_params *p;
    const REAL *roi;
    image_info info;
    gt_mask_view mask;
    workspace space;
    int64_t low[2], size[2]; /* window of the resized image: first row and column, rows and columns */
} target;

/* Original to resized, mirrored image. */
static mask_affine to_resized(const target *t) {
    double x = t->info.width / (double)t->info.original_width,
           y = t->info.height / (double)t->info.original_height;
    return t->info.flip ? (mask_affine){-x, t->info.width, y, 0} : (mask_affine){x, 0, y, 0};
}

static void fill_from_polygon(const target *t, REAL *out) {
    int size = t->p->resolution;
    mask_affine place = to_resized(t);
    const float box[4] = {(float)t->roi[1], (float)t->roi[2], (float)t->roi[3], (float)t->roi[4]};
    uint8_t *bitmap = t->space.cells, *scratch = bitmap + size * size;
    mask_polygon_rasterize_in_box(bitmap, scratch, &t->mask, &place, box, size);
    for (int i = 0; i < size * size; i++) out[i] = bitmap[i];
}

/* --- bitmap of the resized image ---------------------------------------------------------------------------- */

/* Original pixels of resized pixels low .. low + count - 1. */
static void nearest_pixels(int32_t *out, int64_t low, int64_t count, int32_t resized, int32_t original,
                           bool soft) {
    float step_soft = (float)original / (float)resized;
    double step = (double)original / resized, at = 0.5 * step; /* added up, as Pillow does */
    for (int64_t i = 0; i < low + count; i++, at += step) {
        int64_t pixel = soft ? (int64_t)floorf((float)i * step_soft) : (int64_t)at;
        if (i >= low) out[i - low] = (int32_t)(pixel < original - 1 ? pixel : original - 1);
    }
}

/* Original columns of the window; mirrored after the resize (detectron2), or before it (soft: torchvision). */
static void window_columns(const target *t) {
    int32_t *columns = t->space.columns, resized = t->info.width, original = t->info.original_width;
    bool turn = t->info.flip && !t->p->soft;
    int64_t low = turn ? resized - t->low[1] - t->size[1] : t->low[1], n = t->size[1];
    nearest_pixels(columns, low, n, resized, original, t->p->soft);
    for (int64_t i = 0; turn && i < n / 2; i++) {
        int32_t swapped = columns[i];
        columns[i] = columns[n - 1 - i];
        columns[n - 1 - i] = swapped;
    }
    for (int64_t i = 0; t->info.flip && t->p->soft && i < n; i++) columns[i] = original - 1 - columns[i];
}

/* A polygon is rasterised on the resized image (detectron2) or on the original one (soft). */
static void window_from_polygon(const target *t) {
    polygon_window window = {.columns = t->space.columns,
                             .rows = t->space.rows,
                             .n_columns = t->size[1],
                             .n_rows = t->size[0],
                             .cells = t->space.cells};
    if (t->p->soft) {
        window_columns(t);
        nearest_pixels(t->space.rows, t->low[0], t->size[0], t->info.height, t->info.original_height, true);
        window.width = t->info.original_width;
        window.height = t->info.original_height;
        polygon_window_draw(&window, &t->mask, &(mask_affine){1, 0, 1, 0});
    } else {
        for (int64_t i = 0; i < t->size[1]; i++) t->space.columns[i] = (int32_t)(t->low[1] + i);
        for (int64_t i = 0; i < t->size[0]; i++) t->space.rows[i] = (int32_t)(t->low[0] + i);
        window.width = t->info.width;
        window.height = t->info.height;
        mask_affine place = to_resized(t);
        polygon_window_draw(&window, &t->mask, &place);
    }
}

static void window_from_bitmap(const target *t) {
    window_columns(t);
    nearest_pixels(t->space.rows, t->low[0], t->size[0], t->info.height, t->info.original_height, t->p->soft);
    for (int64_t x = 0; x < t->size[1]; x++)
        for (int64_t y = 0; y < t->size[0]; y++)
            t->space.cells[x * t->size[0] + y] = gt_mask_bit(&t->mask, t->space.columns[x], t->space.rows[y]);
}

/* The pixels that samples of the bins can touch. */
static void choose_window(target *t, const roi_bins *bins) {
    const int32_t sizes[2] = {t->info.height, t->info.width};
    for (int axis = 0; axis < 2; axis++) {
        REAL low = floor(bins->start[axis]) - 1,
             high = ceil(bins->start[axis] + bins->bin[axis] * (REAL)t->p->resolution) + 2,
             size = (REAL)sizes[axis];
        t->low[axis] = low > 0 ? low < size ? (int64_t)low : sizes[axis] : 0;
        t->size[axis] = (high > 0 ? high < size ? (int64_t)high : sizes[axis] : 0) - t->low[axis];
        if (t->size[axis] < 0) t->size[axis] = 0;
    }
}

/* Mean of a bin's samples, in torchvision's order of operations. */
static REAL bin_mean(const target *t, const roi_bins *bins, int p, int q) {
    REAL sum = 0;
    for (int64_t i = 0; i < bins->samples[0]; i++) {
        int64_t y0, y1, x0, x1;
        REAL ly, lx;
        if (!roi_neighbours(roi_sample_at(bins, 0, p, i), t->info.height, &y0, &y1, &ly)) continue;
        int64_t top = y0 - t->low[0], bottom = y1 - t->low[0];
        for (int64_t j = 0; j < bins->samples[1]; j++) {
            if (!roi_neighbours(roi_sample_at(bins, 1, q, j), t->info.width, &x0, &x1, &lx)) continue;
            const uint8_t *left = t->space.cells + (x0 - t->low[1]) * t->size[0],
                          *right = t->space.cells + (x1 - t->low[1]) * t->size[0];
            REAL hy = 1 - ly, hx = 1 - lx;
            sum += hy * hx * (REAL)left[top] + hy * lx * (REAL)right[top] + ly * hx * (REAL)left[bottom] +
                   ly * lx * (REAL)right[bottom];
        }
    }
    int64_t samples = bins->samples[0] * bins->samples[1];
    return samples > 1 ? sum / (REAL)samples : sum;
}

static void fill_from_bitmap(target *t, REAL *out) {
    roi_sampling sampling = {t->p->resolution, 0, !t->p->soft};
    roi_bins bins = roi_bins_make(t->roi, 1, &sampling);
    choose_window(t, &bins);
    memset(t->space.cells, 0, (size_t)(t->size[0] * t->size[1]));
    if (t->mask.kind == GT_MASK_POLYGON)
        window_from_polygon(t);
    else
        window_from_bitmap(t);
    int s = t->p->resolution;
    for (int y = 0; y < s; y++) {
        for (int x = 0; x < s; x++) {
            REAL mean = bin_mean(t, &bins, y, x);
            out[y * s + x] = t->p->soft ? mean : mean >= (REAL)0.5;
        }
    }
}

static void roi_tile(void *context, int64_t m, int thread) {
    const op_call *call = context;
    const mask_targets_params *p = call->params;
    int32_t gt = tensor_i32(call->in[MASK_TARGETS_GT])[m];
    int64_t image = gt / call->in[MASK_TARGETS_RECORDS]->shape[1];
    const gt_mask_record *record = (const gt_mask_record *)call->in[MASK_TARGETS_RECORDS]->data + gt;
    target t = {.p = p,
                .roi = (const REAL *)call->in[MASK_TARGETS_ROIS]->data + 5 * m,
                .info = ((const image_info *)call->in[MASK_TARGETS_INFO]->data)[image],
                .mask = gt_mask_view_of(record, tensor_u8(call->in[MASK_TARGETS_BLOB])),
                .space = workspace_of(call, thread)};
    CHECK(t.info.height <= p->canvas_height && t.info.width <= p->canvas_width,
          "image of %d x %d on a canvas of %lld x %lld", t.info.height, t.info.width,
          (long long)p->canvas_height, (long long)p->canvas_width);
    REAL *out = (REAL *)call->out[0]->data + m * p->resolution * p->resolution;
    if (t.mask.kind == GT_MASK_POLYGON && !p->soft && !p->bitmaps)
        fill_from_polygon(&t, out);
    else
        fill_from_bitmap(&t, out);
}

static void forward(const op_call *call) {
    parallel_for(tensor_valid_rows(call->in[MASK_TARGETS_ROIS]), roi_tile, (void *)call);
}

const op_kernel REAL_NAME(mask_targets_reference) = {
    .name = REAL_KERNEL_NAME, .forward = forward, .scratch_bytes = scratch_bytes};
