/* Reference of select_detections: looks for the next best candidate of an image again and again. */
#include "select_detections/detection_candidate.h"

typedef struct candidate {
    REAL box[4], score;
    int64_t class; /* from 0 */
} candidate;

static int64_t classes_of(const op_call *call) {
    return call->in[SELECT_DETECTIONS_LOGITS]->shape[1] - 1;
}

/* Candidates of one image, and the scores of one row. */
static size_t scratch_bytes(const op_call *call, bool backward) {
    (void)backward;
    int64_t rows = call->in[SELECT_DETECTIONS_ROIS]->shape[0], classes = classes_of(call);
    return (size_t)(rows * classes) * sizeof(candidate) + (size_t)(classes + 1) * sizeof(REAL);
}

static bool row_is_finite(const op_call *call, REAL *scores, int64_t row) {
    int64_t classes = classes_of(call);
    const REAL *deltas = (const REAL *)call->in[SELECT_DETECTIONS_DELTAS]->data + row * 4 * (classes + 1),
               *roi = (const REAL *)call->in[SELECT_DETECTIONS_ROIS]->data + 5 * row;
    const REAL *logits = (const REAL *)call->in[SELECT_DETECTIONS_LOGITS]->data + row * (classes + 1);
    REAL box[4];
    for (int64_t c = 1; c <= classes; c++)
        if (!detection_decode(box, call->params, deltas + 4 * c, roi)) return false;
    return detection_softmax(scores, logits, classes + 1);
}

/* By rising row, then class. Returns their number. */
static int64_t list_candidates(const op_call *call, candidate *list, int64_t image) {
    const select_detections_params *p = call->params;
    int64_t classes = classes_of(call), count = 0, rows = call->in[SELECT_DETECTIONS_ROIS]->shape[0];
    REAL *scores = (REAL *)(void *)((candidate *)call->scratch + rows * classes);
    const image_info *info = (const image_info *)call->in[SELECT_DETECTIONS_INFO]->data + image;
    for (int64_t row = 0; row < tensor_valid_rows(call->in[SELECT_DETECTIONS_ROIS]); row++) {
        const REAL *roi = (const REAL *)call->in[SELECT_DETECTIONS_ROIS]->data + 5 * row,
                   *deltas = (const REAL *)call->in[SELECT_DETECTIONS_DELTAS]->data + row * 4 * (classes + 1);
        if ((int64_t)roi[0] != image || !row_is_finite(call, scores, row)) continue;
        for (int64_t c = 1; c <= classes; c++) {
            candidate found = {.score = scores[c], .class = c - 1};
            if (!(scores[c] > (REAL)p->score_threshold)) continue;
            if (detection_candidate(found.box, p, deltas + 4 * c, roi, info)) list[count++] = found;
        }
    }
    return count;
}

/* Moves the chosen candidates to the start of the list, best first. Returns their number. */
static int64_t choose(candidate *list, int64_t count, const select_detections_params *p) {
    int64_t kept = 0;
    for (int64_t step = 0; step < count && kept < p->max_detections; step++) {
        int64_t best = step;
        for (int64_t i = step + 1; i < count; i++)
            if (list[i].score > list[best].score) best = i;
        candidate found = list[best];
        for (int64_t i = best; i > step; i--) list[i] = list[i - 1]; /* the others keep their order */
        bool removed = false;
        for (int64_t k = 0; k < kept && !removed; k++)
            removed = list[k].class == found.class &&
                      (double)box_iou(list[k].box, box_area(list[k].box), found.box, box_area(found.box)) >
                          p->nms_threshold;
        list[step] = found;
        if (!removed) list[kept++] = found;
    }
    return kept;
}

static void forward(const op_call *call) {
    candidate *list = call->scratch;
    REAL *boxes = call->out[SELECT_DETECTIONS_BOXES]->data,
         *det_rois = call->out[SELECT_DETECTIONS_DET_ROIS]->data,
         *scores = call->out[SELECT_DETECTIONS_SCORES]->data;
    const image_info *info = call->in[SELECT_DETECTIONS_INFO]->data;
    int32_t row = 0;
    for (int64_t n = 0; n < call->in[SELECT_DETECTIONS_INFO]->shape[0]; n++) {
        int64_t kept = choose(list, list_candidates(call, list, n), call->params);
        int32_t first = row;
        for (int64_t i = 0; i < kept; i++) {
            REAL original[4];
            if (!detection_to_original(original, list[i].box, info + n)) continue;
            det_rois[5 * row] = (REAL)n;
            for (int k = 0; k < 4; k++) boxes[4 * row + k] = original[k];
            for (int k = 0; k < 4; k++) det_rois[5 * row + 1 + k] = list[i].box[k];
            scores[row] = list[i].score;
            tensor_i32(call->out[SELECT_DETECTIONS_LABELS])[row++] = (int32_t)list[i].class + 1;
        }
        tensor_i32(call->out[SELECT_DETECTIONS_COUNTS])[n] = row - first;
    }
    *tensor_i32(call->out[SELECT_DETECTIONS_COUNT]) = row;
}

const op_kernel REAL_NAME(select_detections_reference) = {
    .name = REAL_KERNEL_NAME, .forward = forward, .scratch_bytes = scratch_bytes};
