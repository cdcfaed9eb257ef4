/* rpn_targets without a matrix. A tile per object finds its best IoU among the anchors that can meet it; a
 * tile per band of map rows then finds each anchor's best object and keeps the band's smallest sampling keys;
 * a tile per image merges them. IoU comes from one function in both passes, so that "equal to the object's
 * best" is exact. */
#include "rpn_targets/rpn_label.h"

#include "base/thread_pool.h"
#include "sample_heap.h"

#include <string.h>

enum { BAND_ROWS = 8 };

/* Anchor rows are worked on in one vector of places per base box. */
typedef struct row_buffer {
    float *iou, *best;     /* [width] */
    int32_t *gt, *is_best; /* [width] */
    int8_t *labels;        /* [width * A] */
    int32_t *matches;      /* [width * A] */
} row_buffer;

typedef struct job {
    const op_call *call;
    anchor_grid grid;
    int64_t images, capacity; /* capacity: objects */
    int64_t width;            /* of the widest map */
    int64_t bands, samples;   /* per image: tiles; places for their samples, objects and background alike */
    int64_t batch, most_objects;
} job;

/* ----------------------------------------------------------------------------------------------------
 * scratch ---- */

static int64_t level_bands(const anchor_level *level) {
    return (level->height + BAND_ROWS - 1) / BAND_ROWS;
}

/* Samples that a band can hold. */
static int64_t band_capacity(const job *j, const anchor_level *level) {
    int64_t anchors = (int64_t)BAND_ROWS * level->width * j->grid.per_cell;
    return anchors < j->batch ? anchors : j->batch;
}

static job make_job(const op_call *call) {
    const rpn_targets_params *p = call->params;
    job j = {.call = call,
             .images = call->in[RPN_TARGETS_INFO]->shape[0],
             .capacity = call->in[RPN_TARGETS_GT_BOXES]->shape[1]};
    j.grid = anchor_grid_make(&p->anchors, p->canvas_height, p->canvas_width);
    j.batch = rpn_batch(p, &j.grid);
    j.most_objects = rpn_max_objects(p, &j.grid);
    for (int l = 0; l < j.grid.levels; l++) {
        const anchor_level *level = &j.grid.level[l];
        if (level->width > j.width) j.width = level->width;
        j.bands += level_bands(level);
        j.samples += level_bands(level) * band_capacity(&j, level);
    }
    return j;
}

static size_t row_bytes(const job *j) {
    return (size_t)j->width * (4 + (size_t)j->grid.per_cell) * 4 +
           (size_t)(j->width * j->grid.per_cell + 63) / 64 * 64;
}

/* In order: samples of bands and of images ([2] kinds), their counts, best IoU per object, rows per thread. */
static size_t sample_count(const job *j) {
    return (size_t)(j->images * 2 * (j->samples + j->batch));
}

static size_t heap_count(const job *j) {
    return (size_t)(j->images * 2 * (j->bands + 1));
}

static size_t scratch_bytes(const op_call *call, bool backward) {
    (void)backward;
    job j = make_job(call);
    return sample_count(&j) * sizeof(sample) + heap_count(&j) * sizeof(int64_t) +
           (size_t)(j.images * j.capacity) * sizeof(float) + (size_t)thread_pool_size() * row_bytes(&j);
}

static sample *band_samples(const job *j, int64_t image, int kind) {
    return (sample *)j->call->scratch + (image * 2 + kind) * j->samples;
}

static sample *image_samples(const job *j, int64_t image, int kind) {
    return (sample *)j->call->scratch + j->images * 2 * j->samples + (image * 2 + kind) * j->batch;
}

static int64_t *band_counts(const job *j, int64_t image, int kind) {
    return (int64_t *)(void *)((sample *)j->call->scratch + sample_count(j)) + (image * 2 + kind) * j->bands;
}

static int64_t *image_count(const job *j, int64_t image, int kind) {
    return band_counts(j, j->images, 0) + image * 2 + kind;
}

static float *best_ious(const job *j) {
    return (float *)(void *)image_count(j, j->images, 0);
}

static row_buffer row_of(const job *j, int thread) {
    char *memory = (char *)(best_ious(j) + j->images * j->capacity) + (size_t)thread * row_bytes(j);
    row_buffer r = {.iou = (float *)(void *)memory};
    r.best = r.iou + j->width;
    r.gt = (int32_t *)(void *)(r.best + j->width);
    r.is_best = r.gt + j->width;
    r.matches = r.is_best + j->width;
    r.labels = (int8_t *)(r.matches + j->width * j->grid.per_cell);
    return r;
}

/* --------------------------------------------------------------------------------------------------------
 * IoU ---- */

/* Cells [*first, *end) of an axis whose anchors [low + shift, high + shift] can meet [gt_low, gt_high]; a
 * cell too many on each side does no harm. */
static void meeting_cells(int64_t *first, int64_t *end, const float gt[2], const float base[2],
                          const float grid[2], int64_t cells) {
    double from = ((double)gt[0] - base[1] - grid[0]) / grid[1],
           to = ((double)gt[1] - base[0] - grid[0]) / grid[1];
    from = floor(from) - 1;
    to = ceil(to) + 2;
    *first = from > 0 ? from < (double)cells ? (int64_t)from : cells : 0;
    *end = to < (double)cells ? to > 0 ? (int64_t)to : 0 : cells;
}

static void meeting_columns(int64_t *first, int64_t *end, const float *gt, const anchor_level *level, int a) {
    meeting_cells(first, end, (float[2]){gt[0], gt[2]}, (float[2]){level->base[a][0], level->base[a][2]},
                  (float[2]){level->first_x, level->stride_x}, level->width);
}

static void meeting_rows(int64_t *first, int64_t *end, const float *gt, const anchor_level *level, int a) {
    meeting_cells(first, end, (float[2]){gt[1], gt[3]}, (float[2]){level->base[a][1], level->base[a][3]},
                  (float[2]){level->first_y, level->stride_y}, level->height);
}

/* iou[x] of one object with base box a in row y, columns [first, end). The same operations as box_iou. */
static void iou_row(float *restrict iou, const float *gt, const anchor_level *level, int a, int64_t y,
                    int64_t first, int64_t end) {
    const float dy = anchor_shift_y(level, y), b0 = level->base[a][0], b2 = level->base[a][2];
    const float y1 = dy + level->base[a][1], y2 = dy + level->base[a][3];
    const float gx1 = gt[0], gx2 = gt[2], area_g = box_area(gt);
    float h = box_min(gt[3], y2) - box_max(gt[1], y1);
    h = h > 0 ? h : 0;
    for (int64_t x = first; x < end; x++) {
        float dx = anchor_shift_x(level, x), x1 = dx + b0, x2 = dx + b2;
        float w = box_min(gx2, x2) - box_max(gx1, x1);
        float inter = (w > 0 ? w : 0) * h, area_a = (x2 - x1) * (y2 - y1);
        iou[x] = inter > 0 ? inter / (area_g + area_a - inter) : 0;
    }
}

static const float *gt_box(const job *j, int64_t image, int64_t g) {
    return tensor_f32(j->call->in[RPN_TARGETS_GT_BOXES]) + (image * j->capacity + g) * 4;
}

static void object_tile(void *context, int64_t tile, int thread) {
    const job *j = context;
    int64_t image = tile / j->capacity, g = tile % j->capacity;
    if (g >= rpn_gt_count(j->call, image)) return;
    const float *gt = gt_box(j, image, g);
    row_buffer row = row_of(j, thread);
    float best = 0;
    for (int l = 0; l < j->grid.levels; l++) {
        const anchor_level *level = &j->grid.level[l];
        for (int a = 0; a < j->grid.per_cell; a++) {
            int64_t y, y_end, x, x_end;
            meeting_rows(&y, &y_end, gt, level, a);
            meeting_columns(&x, &x_end, gt, level, a);
            for (; y < y_end; y++) {
                iou_row(row.iou, gt, level, a, y, x, x_end);
                for (int64_t i = x; i < x_end; i++) best = row.iou[i] > best ? row.iou[i] : best;
            }
        }
    }
    best_ious(j)[tile] = best;
}

/* ------------------------------------------------------------------------------------------------------
 * bands ---- */

/* Labels and objects of row y's anchors with base box a, into every A-th place of row->labels and
 * row->matches. */
static void label_row(const job *j, row_buffer *row, int64_t image, const anchor_level *level, int64_t y,
                      int a) {
    const rpn_targets_params *p = j->call->params;
    const image_info *info = (const image_info *)j->call->in[RPN_TARGETS_INFO]->data + image;
    int64_t n = rpn_gt_count(j->call, image), width = level->width, per_cell = j->grid.per_cell;
    memset(row->best, 0, (size_t)width * sizeof *row->best);
    memset(row->gt, 0, (size_t)width * sizeof *row->gt);
    memset(row->is_best, 0, (size_t)width * sizeof *row->is_best);
    for (int64_t g = 0; g < n; g++) {
        const float *gt = gt_box(j, image, g);
        const float best_of = best_ious(j)[image * j->capacity + g];
        int64_t first, end;
        meeting_rows(&first, &end, gt, level, a);
        if (y < first || y >= end) continue;
        meeting_columns(&first, &end, gt, level, a);
        iou_row(row->iou, gt, level, a, y, first, end);
        float *restrict best = row->best, *restrict iou = row->iou;
        int32_t *restrict match = row->gt, *restrict is_best = row->is_best, index = (int32_t)g;
        for (int64_t x = first; x < end; x++) {
            match[x] = iou[x] > best[x] ? index : match[x];
            best[x] = iou[x] > best[x] ? iou[x] : best[x];
            is_best[x] |= (iou[x] > 0) & (iou[x] == best_of);
        }
    }
    for (int64_t x = 0; x < width; x++) {
        float box[4];
        int label = rpn_label(p, row->best[x], row->is_best[x]);
        if (p->straddle >= 0) {
            anchor_box_at(box, level, y, x, a);
            if (!rpn_inside(p, box, info)) label = RPN_IGNORED;
        }
        row->labels[x * per_cell + a] = (int8_t)label;
        row->matches[x * per_cell + a] = row->gt[x];
    }
}

/* Offers anchors first .. first + count - 1, with the labels and matches of `row`, to the heaps of both
 * kinds. */
static void offer(sample_heap heaps[2], const row_buffer *row, const philox_key *key, int64_t first,
                  int64_t count) {
    uint32_t block[4];
    for (int64_t i = 0; i < count; i++) {
        int64_t anchor = first + i;
        if (i == 0 || anchor % 4 == 0) philox_block(key, (uint32_t)(anchor / 4), block);
        if (row->labels[i] != RPN_IGNORED)
            sample_heap_push(&heaps[row->labels[i]], sample_make(block[anchor % 4], anchor, row->matches[i]));
    }
}

static void band_tile(void *context, int64_t tile, int thread) {
    const job *j = context;
    int64_t image = tile / j->bands, band = tile % j->bands, places = 0, in_level = band;
    int l = 0;
    for (; in_level >= level_bands(&j->grid.level[l]); l++) {
        in_level -= level_bands(&j->grid.level[l]);
        places += level_bands(&j->grid.level[l]) * band_capacity(j, &j->grid.level[l]);
    }
    const anchor_level *level = &j->grid.level[l];
    int64_t capacity = band_capacity(j, level), row_anchors = (int64_t)level->width * j->grid.per_cell;
    places += in_level * capacity;
    sample_heap heaps[2] = {{.items = band_samples(j, image, 0) + places, .capacity = capacity},
                            {.items = band_samples(j, image, 1) + places,
                             .capacity = capacity < j->most_objects ? capacity : j->most_objects}};
    row_buffer row = row_of(j, thread);
    philox_key key = rpn_sample_key(j->call, image);
    int64_t y = in_level * BAND_ROWS, y_end = y + BAND_ROWS < level->height ? y + BAND_ROWS : level->height;
    for (; y < y_end; y++) {
        for (int a = 0; a < j->grid.per_cell; a++) label_row(j, &row, image, level, y, a);
        offer(heaps, &row, &key, level->first + y * row_anchors, row_anchors);
    }
    band_counts(j, image, 0)[band] = heaps[0].count;
    band_counts(j, image, 1)[band] = heaps[1].count;
}

/* -----------------------------------------------------------------------------------------------------
 * images ---- */

static int64_t merge(const job *j, int64_t image, int kind, int64_t most) {
    sample_heap heap = {.items = image_samples(j, image, kind), .capacity = most};
    const sample *place = band_samples(j, image, kind);
    int64_t band = 0;
    for (int l = 0; l < j->grid.levels; l++) {
        const anchor_level *level = &j->grid.level[l];
        for (int64_t b = 0; b < level_bands(level); b++, band++, place += band_capacity(j, level))
            for (int64_t i = 0; i < band_counts(j, image, kind)[band]; i++) sample_heap_push(&heap, place[i]);
    }
    sample_heap_sort_by_index(&heap);
    *image_count(j, image, kind) = heap.count;
    return heap.count;
}

static void image_tile(void *context, int64_t image, int thread) {
    (void)thread;
    const job *j = context;
    int64_t objects = merge(j, image, RPN_OBJECT, j->most_objects);
    merge(j, image, RPN_BACKGROUND, j->batch - objects);
}

static void forward(const op_call *call) {
    job j = make_job(call);
    parallel_for(j.images * j.capacity, object_tile, &j);
    parallel_for(j.images * j.bands, band_tile, &j);
    parallel_for(j.images, image_tile, &j);
    int64_t row = 0, objects = 0;
    for (int64_t image = 0; image < j.images; image++) {
        for (int kind = RPN_OBJECT; kind >= RPN_BACKGROUND; kind--) {
            const sample *s = image_samples(&j, image, kind);
            for (int64_t i = 0; i < *image_count(&j, image, kind); i++, row++, objects += kind)
                rpn_write_sample(call, &j.grid, row, image, s[i].index,
                                 kind ? gt_box(&j, image, s[i].match) : NULL);
        }
    }
    rpn_write_counts(call, row, objects);
}

const op_kernel rpn_targets_bands = {.name = "bands", .forward = forward, .scratch_bytes = scratch_bytes};
