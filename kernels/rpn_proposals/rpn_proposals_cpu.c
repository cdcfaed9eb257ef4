/* Reference of rpn_proposals: looks for the next best again and again. */
#include "rpn_proposals/rpn_candidate.h"

typedef struct found {
    REAL box[4], score;
    int64_t level, index;
} found;

static int64_t level_size(const op_call *call, int level) {
    return tensor_row_size(call->in[RPN_PROPOSALS_LOGITS + level]);
}

static int64_t topk_of(const op_call *call, int level) {
    const rpn_proposals_params *p = call->params;
    int64_t size = level_size(call, level);
    return size < p->pre_nms_topk ? size : p->pre_nms_topk;
}

/* Boxes that stay after suppression, of all levels of one image. */
static size_t scratch_bytes(const op_call *call, bool backward) {
    (void)backward;
    const rpn_proposals_params *p = call->params;
    int64_t boxes = 0;
    for (int l = 0; l < p->anchors.levels; l++) boxes += topk_of(call, l);
    return (size_t)boxes * sizeof(found);
}

/* Next anchor by falling logit, then rising index, behind `last` (-1: the first); -1: no more. */
static int64_t next_anchor(const REAL *logits, int64_t count, int64_t last) {
    int64_t best = -1;
    for (int64_t i = 0; i < count; i++) {
        if (!isfinite(logits[i])) continue;
        if (last >= 0 && !(logits[i] < logits[last] || (logits[i] == logits[last] && i > last))) continue;
        if (best < 0 || logits[i] > logits[best]) best = i;
    }
    return best;
}

static int64_t find_level(const op_call *call, const anchor_grid *grid, int64_t image, int l, found *kept,
                          int64_t n_kept) {
    const rpn_proposals_params *p = call->params;
    int64_t size = level_size(call, l), first = n_kept, anchor = -1;
    const REAL *logits = (const REAL *)call->in[RPN_PROPOSALS_LOGITS + l]->data + image * size;
    const REAL *deltas = (const REAL *)call->in[RPN_PROPOSALS_DELTAS + l]->data + image * size * 4;
    const image_info *info = (const image_info *)call->in[RPN_PROPOSALS_INFO]->data + image;
    for (int64_t k = 0; k < topk_of(call, l); k++) {
        anchor = next_anchor(logits, size, anchor);
        if (anchor < 0) break;
        found f = {.score = logits[anchor], .level = l, .index = anchor};
        if (!rpn_candidate(f.box, p, &grid->level[l], anchor, deltas + 4 * anchor, info)) continue;
        bool removed = false;
        for (int64_t i = first; i < n_kept && !removed; i++)
            removed = (double)box_iou(kept[i].box, box_area(kept[i].box), f.box, box_area(f.box)) >
                      p->nms_threshold;
        if (!removed) kept[n_kept++] = f;
    }
    return n_kept;
}

static void forward_image(const op_call *call, int64_t image) {
    const rpn_proposals_params *p = call->params;
    found *kept = call->scratch;
    int64_t n_kept = 0;
    anchor_grid grid = anchor_grid_make(&p->anchors, p->canvas_height, p->canvas_width);
    for (int l = 0; l < grid.levels; l++) n_kept = find_level(call, &grid, image, l, kept, n_kept);
    REAL *boxes = (REAL *)call->out[RPN_PROPOSALS_BOXES]->data + image * p->post_nms_topk * 4;
    REAL *scores = (REAL *)call->out[RPN_PROPOSALS_SCORES]->data + image * p->post_nms_topk;
    int32_t *anchors = tensor_i32(call->out[RPN_PROPOSALS_ANCHORS]) + image * p->post_nms_topk;
    int64_t row = 0;
    for (; row < p->post_nms_topk && row < n_kept; row++) {
        int64_t best = row; /* levels and ranks rise, so the first of equals is the right one */
        for (int64_t i = row + 1; i < n_kept; i++)
            if (kept[i].score > kept[best].score) best = i;
        found f = kept[best];
        for (int64_t i = best; i > row; i--) kept[i] = kept[i - 1];
        for (int k = 0; k < 4; k++) boxes[4 * row + k] = f.box[k];
        scores[row] = f.score;
        anchors[row] = (int32_t)(grid.level[f.level].first + f.index);
    }
    tensor_i32(call->out[RPN_PROPOSALS_COUNTS])[image] = (int32_t)row;
    for (; row < p->post_nms_topk; row++) {
        for (int k = 0; k < 4; k++) boxes[4 * row + k] = 0;
        scores[row] = 0;
        anchors[row] = -1;
    }
}

static void forward(const op_call *call) {
    for (int64_t image = 0; image < call->in[RPN_PROPOSALS_INFO]->shape[0]; image++)
        forward_image(call, image);
}

const op_kernel REAL_NAME(rpn_proposals_reference) = {
    .name = REAL_KERNEL_NAME, .forward = forward, .scratch_bytes = scratch_bytes};
