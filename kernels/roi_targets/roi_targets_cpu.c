/* Reference of roi_targets; also the one that ships: a few thousand boxes against a few dozen. */
#include "roi_targets/roi_targets.h"

#include "base/philox.h"
#include "box_math.h"
#include "image_info.h"
#include "sample_heap.h"

enum { BACKGROUND = 0, OBJECT = 1 };

static size_t scratch_bytes(const op_call *call, bool backward) {
    (void)backward;
    int64_t candidates = call->in[ROI_TARGETS_PROPOSALS]->shape[1] + call->in[ROI_TARGETS_GT_BOXES]->shape[1];
    return (size_t)(2 * candidates) * sizeof(sample);
}

/* One image's part of the inputs. */
typedef struct view {
    const op_call *call;
    int64_t image, proposals, objects, object_capacity;
    const REAL *boxes, *gt;
    const int32_t *gt_labels;
    const int32_t *ids; /* NULL: positions */
} view;

static int64_t clamp_count(int64_t count, int64_t capacity) {
    return count < 0 ? 0 : count < capacity ? count : capacity;
}

static view view_of(const op_call *call, int64_t image) {
    int64_t p = call->in[ROI_TARGETS_PROPOSALS]->shape[1], g = call->in[ROI_TARGETS_GT_BOXES]->shape[1];
    return (view){.call = call,
                  .image = image,
                  .proposals = clamp_count(tensor_i32(call->in[ROI_TARGETS_COUNTS])[image], p),
                  .objects = clamp_count(tensor_i32(call->in[ROI_TARGETS_GT_COUNT])[image], g),
                  .object_capacity = g,
                  .boxes = (const REAL *)call->in[ROI_TARGETS_PROPOSALS]->data + image * p * 4,
                  .gt = (const REAL *)call->in[ROI_TARGETS_GT_BOXES]->data + image * g * 4,
                  .gt_labels = tensor_i32(call->in[ROI_TARGETS_GT_LABELS]) + image * g,
                  .ids =
                      call->in[ROI_TARGETS_IDS] ? tensor_i32(call->in[ROI_TARGETS_IDS]) + image * p : NULL};
}

static const REAL *candidate(const view *v, int64_t index) {
    return index < v->proposals ? v->boxes + 4 * index : v->gt + 4 * (index - v->proposals);
}

/* What a candidate's random number is drawn by: neither the other candidates nor their order change it. */
static uint64_t draw_index(const view *v, int64_t index) {
    if (index >= v->proposals) return ((uint64_t)1 << 31) + (uint64_t)(index - v->proposals);
    return v->ids ? (uint32_t)v->ids[index] & 0x7FFFFFFFu : (uint64_t)index;
}

/* Offers each candidate to the heap of its kind. */
static void match_candidates(const view *v, sample_heap heaps[2]) {
    const roi_targets_params *p = v->call->params;
    const image_info *info = (const image_info *)v->call->in[ROI_TARGETS_INFO]->data + v->image;
    philox_key key = {p->seed, PHILOX_ROI_SAMPLE, (uint32_t)*tensor_i32(v->call->in[ROI_TARGETS_STEP]),
                      image_info_id(info)};
    int64_t n = v->proposals + (p->append_gt ? v->objects : 0);
    for (int64_t i = 0; i < n; i++) {
        const REAL *box = candidate(v, i);
        REAL best = 0, area = box_area(box);
        int32_t match = 0;
        for (int64_t g = 0; g < v->objects; g++) {
            REAL iou = box_iou(v->gt + 4 * g, box_area(v->gt + 4 * g), box, area);
            if (iou > best) match = (int32_t)g;
            best = box_max(best, iou);
        }
        int kind = best >= (REAL)p->iou_foreground ? OBJECT : BACKGROUND;
        sample_heap_push(&heaps[kind], sample_make(philox_u32(&key, draw_index(v, i)), i, match));
    }
}

static void write_roi(REAL *roi, int64_t image, const REAL *box) {
    roi[0] = (REAL)image;
    for (int k = 0; k < 4; k++) roi[1 + k] = box[k];
}

/* Row `row` of the outputs; objects also get row `mask_row` of the mask outputs. */
static void write_sample(const view *v, const sample *s, int kind, int64_t row, int64_t mask_row) {
    const roi_targets_params *p = v->call->params;
    tensor *const *out = v->call->out;
    const REAL *box = candidate(v, s->index);
    REAL *targets = (REAL *)out[ROI_TARGETS_BOX_TARGETS]->data + 4 * row;
    write_roi((REAL *)out[ROI_TARGETS_ROIS]->data + 5 * row, v->image, box);
    tensor_i32(out[ROI_TARGETS_LABELS])[row] = kind == OBJECT ? v->gt_labels[s->match] + 1 : 0;
    ((REAL *)out[ROI_TARGETS_BOX_WEIGHTS]->data)[row] = kind == OBJECT ? 1 : 0;
    for (int k = 0; k < 4; k++) targets[k] = 0;
    if (kind == BACKGROUND) return;
    box_encode_one(targets, v->gt + 4 * (int64_t)s->match, box, p->box_weights);
    write_roi((REAL *)out[ROI_TARGETS_MASK_ROIS]->data + 5 * mask_row, v->image, box);
    tensor_i32(out[ROI_TARGETS_MASK_LABELS])[mask_row] = v->gt_labels[s->match] + 1;
    tensor_i32(out[ROI_TARGETS_MASK_GT])[mask_row] = (int32_t)(v->image * v->object_capacity + s->match);
}

static void forward(const op_call *call) {
    const roi_targets_params *p = call->params;
    int64_t images = call->in[ROI_TARGETS_INFO]->shape[0], row = 0, mask_row = 0;
    int64_t capacity = call->in[ROI_TARGETS_PROPOSALS]->shape[1] + call->in[ROI_TARGETS_GT_BOXES]->shape[1];
    int64_t batch = clamp_count(p->batch_size_per_image, capacity);
    int64_t most_objects =
        clamp_count((int64_t)((double)p->batch_size_per_image * p->positive_fraction), capacity);
    for (int64_t image = 0; image < images; image++) {
        view v = view_of(call, image);
        sample_heap heaps[2] = {{.items = call->scratch, .capacity = batch},
                                {.items = (sample *)call->scratch + capacity, .capacity = most_objects}};
        match_candidates(&v, heaps);
        /* Background was kept for a sample without objects: keep the smallest keys of what is needed. */
        sample_heap_shrink(&heaps[BACKGROUND], batch - heaps[OBJECT].count);
        for (int kind = OBJECT; kind >= BACKGROUND; kind--) {
            sample_heap_sort_by_index(&heaps[kind]);
            for (int64_t i = 0; i < heaps[kind].count; i++, row++, mask_row += kind == OBJECT)
                write_sample(&v, &heaps[kind].items[i], kind, row, mask_row);
        }
    }
    REAL *sampled = call->out[ROI_TARGETS_SAMPLED]->data;
    *tensor_i32(call->out[ROI_TARGETS_COUNT]) = (int32_t)row;
    *tensor_i32(call->out[ROI_TARGETS_MASK_COUNT]) = (int32_t)mask_row;
    sampled[0] = (REAL)row;
    sampled[1] = (REAL)mask_row;
}

const op_kernel REAL_NAME(roi_targets_reference) = {
    .name = REAL_KERNEL_NAME, .forward = forward, .scratch_bytes = scratch_bytes};
