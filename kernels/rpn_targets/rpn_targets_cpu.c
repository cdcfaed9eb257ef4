/* Reference of rpn_targets: every anchor with every object, then the smallest keys one after another. */
#include "rpn_targets/rpn_label.h"

typedef struct match {
    int32_t label, gt; /* label becomes TAKEN when sampled */
    uint32_t key;
} match;

enum { TAKEN = 2 };

static size_t scratch_bytes(const op_call *call, bool backward) {
    (void)backward;
    const rpn_targets_params *p = call->params;
    anchor_grid grid = anchor_grid_make(&p->anchors, p->canvas_height, p->canvas_width);
    return (size_t)grid.count * sizeof(match) +
           (size_t)call->in[RPN_TARGETS_GT_BOXES]->shape[1] * sizeof(REAL);
}

static REAL iou_of(const anchor_grid *grid, int64_t anchor, const REAL *gt) {
    float box[4];
    anchor_box(box, grid, anchor);
    const REAL b[4] = {box[0], box[1], box[2], box[3]};
    return box_iou(gt, box_area(gt), b, box_area(b));
}

static void match_anchors(const op_call *call, const anchor_grid *grid, int64_t image, match *matches,
                          REAL *best_of) {
    const rpn_targets_params *p = call->params;
    int64_t capacity = call->in[RPN_TARGETS_GT_BOXES]->shape[1], n = rpn_gt_count(call, image);
    const REAL *gt = (const REAL *)call->in[RPN_TARGETS_GT_BOXES]->data + image * capacity * 4;
    philox_key key = rpn_sample_key(call, image);
    for (int64_t g = 0; g < n; g++) {
        best_of[g] = 0;
        for (int64_t a = 0; a < grid->count; a++)
            best_of[g] = box_max(best_of[g], iou_of(grid, a, gt + 4 * g));
    }
    for (int64_t a = 0; a < grid->count; a++) {
        REAL best = 0;
        bool best_of_object = false;
        float box[4];
        matches[a] = (match){.gt = 0, .key = philox_u32(&key, (uint64_t)a)};
        for (int64_t g = 0; g < n; g++) {
            REAL iou = iou_of(grid, a, gt + 4 * g);
            if (iou > best) matches[a].gt = (int32_t)g;
            best = box_max(best, iou);
            if (iou > 0 && iou == best_of[g]) best_of_object = true;
        }
        anchor_box(box, grid, a);
        const image_info *info = (const image_info *)call->in[RPN_TARGETS_INFO]->data + image;
        matches[a].label = rpn_inside(p, box, info) ? rpn_label(p, best, best_of_object) : RPN_IGNORED;
    }
}

/* Marks up to `most` anchors with `label` as taken, smallest keys first; returns how many. */
static int64_t take(match *matches, int32_t label, int64_t count, int64_t most) {
    int64_t taken = 0;
    for (; taken < most; taken++) {
        int64_t best = -1;
        for (int64_t a = 0; a < count; a++)
            if (matches[a].label == label && (best < 0 || matches[a].key < matches[best].key)) best = a;
        if (best < 0) break;
        matches[best].label = TAKEN + label;
    }
    return taken;
}

static void forward(const op_call *call) {
    const rpn_targets_params *p = call->params;
    anchor_grid grid = anchor_grid_make(&p->anchors, p->canvas_height, p->canvas_width);
    REAL *best_of = call->scratch;
    int64_t images = call->in[RPN_TARGETS_INFO]->shape[0],
            capacity = call->in[RPN_TARGETS_GT_BOXES]->shape[1];
    match *matches = (match *)(void *)(best_of + capacity);
    int64_t row = 0, objects = 0;
    for (int64_t image = 0; image < images; image++) {
        const REAL *gt = (const REAL *)call->in[RPN_TARGETS_GT_BOXES]->data + image * capacity * 4;
        match_anchors(call, &grid, image, matches, best_of);
        int64_t positive = take(matches, RPN_OBJECT, grid.count, rpn_max_objects(p, &grid));
        take(matches, RPN_BACKGROUND, grid.count, rpn_batch(p, &grid) - positive);
        objects += positive;
        for (int64_t a = 0; a < grid.count; a++)
            if (matches[a].label == TAKEN + RPN_OBJECT)
                rpn_write_sample(call, &grid, row++, image, a, gt + 4 * (int64_t)matches[a].gt);
        for (int64_t a = 0; a < grid.count; a++)
            if (matches[a].label == TAKEN + RPN_BACKGROUND)
                rpn_write_sample(call, &grid, row++, image, a, NULL);
    }
    rpn_write_counts(call, row, objects);
}

const op_kernel REAL_NAME(rpn_targets_reference) = {
    .name = REAL_KERNEL_NAME, .forward = forward, .scratch_bytes = scratch_bytes};
