#include "infer/infer_graph.h"

#include "base/check.h"
#include "image_pack/image_pack.h"
#include "model/forward.h"
#include "proposal_rois/proposal_rois.h"
#include "select_detections/select_detections.h"
#include "sigmoid/sigmoid.h"

#include <stdlib.h>
#include <string.h>

static status check_size(const char *what, double size, double limit, const char *keys) {
    if (size <= limit) return STATUS_OK;
    error_set(STATUS_CONFIG, NULL, "inference would need %s of %.3g elements, at most %.3g are possible",
              what, size, limit);
    error_set_remedy("choose smaller values of %s", keys);
    return STATUS_CONFIG;
}

status infer_graph_check(const mask_rcnn_spec *model, const detector_spec *spec) {
    static const double most = 0x1p40, countable = INT32_MAX;
    const roi_spec *roi = &model->roi;
    double proposals = model->rpn.post_nms_topk[1], detections = spec->max_detections;
    double pooled = (double)roi->box_pooler.resolution * roi->box_pooler.resolution;
    double side = mask_rcnn_mask_side(model), classes = model->rpn_only ? 1 : roi->classes + 1.0;
    double channels = (double)mask_rcnn_map_channels(model),
           widest = channels > (double)roi->mask_dim ? channels : (double)roi->mask_dim;
    if (widest < classes) widest = classes;
    if (model->rpn_only) pooled = 0;
    RETURN_IF_ERROR(check_size("candidates", proposals * classes, countable,
                               "MODEL.RPN.POST_NMS_TOPK_TEST or MODEL.ROI_HEADS.NUM_CLASSES"));
    RETURN_IF_ERROR(check_size("detections", detections * classes, countable,
                               "TEST.DETECTIONS_PER_IMAGE or MODEL.ROI_HEADS.NUM_CLASSES"));
    RETURN_IF_ERROR(
        check_size("pooled proposals", proposals * pooled * channels, most, "MODEL.RPN.POST_NMS_TOPK_TEST"));
    return check_size("masks", model->mask_on ? detections * side * side * widest : 0, most,
                      "TEST.DETECTIONS_PER_IMAGE");
}

static tensor *record_image(const mask_rcnn *model, infer_graph *pass, const infer_inputs *in, int64_t height,
                            int64_t width) {
    pass->pixels = tape_constant(pass->t, "pixels", DTYPE_U8, 1, &in->pixel_bytes, in->pixels);
    tensor *table = tape_constant(pass->t, "pixel_table", DTYPE_I32, 2,
                                  (int64_t[]){1, IMAGE_PACK_RECORD_INTS}, in->pixel_table);
    pass->info =
        tape_constant(pass->t, "image_info", DTYPE_I32, 2, (int64_t[]){1, IMAGE_INFO_INTS}, in->info);
    return forward_images(pass->t, &model->spec.pixels, pass->pixels, table, height, width);
}

static void keep_boxes(infer_graph *pass) {
    tensor *kept[] = {pass->boxes, pass->rois, pass->scores, pass->labels, pass->count};
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) tape_keep(pass->t, kept[i]);
}

static void record_boxes(const mask_rcnn *model, infer_graph *pass, const detector_spec *spec,
                         tensor *const levels[FPN_LEVELS], const rpn_proposals_result *proposals) {
    const roi_spec *roi = &model->spec.roi;
    tape_scope(pass->t, "roi_heads.box_pooler");
    proposal_rois_result list = proposal_rois(pass->t, proposals->proposals, proposals->counts);
    forward_boxes boxes = forward_box_head(model, &pass->g, levels, list.rois);
    tape_scope(pass->t, "roi_heads.detections");
    select_detections_params p = {.score_threshold = spec->score_threshold,
                                  .nms_threshold = spec->nms_threshold,
                                  .max_detections = spec->max_detections,
                                  .min_box_size = spec->min_box_size};
    memcpy(p.box_weights, roi->box_weights, sizeof p.box_weights);
    select_detections_result found =
        select_detections(pass->t, (tensor *[]){boxes.scores, boxes.deltas, list.rois, pass->info}, &p);
    pass->boxes = found.boxes;
    pass->rois = found.det_rois;
    pass->scores = found.scores;
    pass->labels = found.labels;
    pass->count = found.count;
    keep_boxes(pass);
}

/* The proposals are the result. */
static void take_proposals(infer_graph *pass, const rpn_proposals_result *proposals) {
    pass->boxes = proposals->proposals;
    pass->scores = proposals->scores;
    pass->count = proposals->counts;
    tensor *kept[] = {pass->boxes, pass->scores, pass->count};
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) tape_keep(pass->t, kept[i]);
}

static void take_given_boxes(infer_graph *pass, const infer_inputs *in, int64_t capacity) {
    pass->count = tape_constant(pass->t, "count", DTYPE_I32, 1, (int64_t[]){1}, in->count);
    pass->rois = tape_constant(pass->t, "rois", DTYPE_F32, 2, (int64_t[]){capacity, 5}, in->rois);
    pass->labels = tape_constant(pass->t, "labels", DTYPE_I32, 1, &capacity, in->labels);
    pass->rois->rows = pass->labels->rows = pass->count;
}

static void record_masks(const mask_rcnn *model, infer_graph *pass, tensor *const levels[FPN_LEVELS]) {
    tensor *features = forward_mask_features(model, &pass->g, levels, pass->rois),
           *logits = mask_head_apply(&model->mask, &pass->g, features, pass->labels);
    tape_scope(pass->t, "roi_heads.mask_probabilities");
    pass->probs = sigmoid(pass->t, logits);
    tape_keep(pass->t, pass->probs);
}

static void record(const mask_rcnn *model, infer_graph *pass, const detector_spec *spec, infer_kind kind,
                   const infer_inputs *in, int64_t height, int64_t width) {
    tensor *levels[FPN_LEVELS], *images = record_image(model, pass, in, height, width);
    pass->marks[DETECTOR_PREPROCESS] = tape_mark(pass->t);
    forward_levels(model, &pass->g, images, levels);
    pass->marks[DETECTOR_BACKBONE] = tape_mark(pass->t);
    if (kind == INFER_MASKS) {
        take_given_boxes(pass, in, spec->max_detections);
    } else {
        forward_rpn rpn = forward_rpn_heads(model, &pass->g, levels);
        rpn_proposals_result proposals = forward_proposals(model, pass->t, &rpn, pass->info, images, true);
        pass->marks[DETECTOR_RPN] = tape_mark(pass->t);
        if (model->spec.rpn_only) {
            take_proposals(pass, &proposals);
            return;
        }
        record_boxes(model, pass, spec, levels, &proposals);
        pass->marks[DETECTOR_BOX] = tape_mark(pass->t);
    }
    if (kind == INFER_BOXES || !spec->masks || !model->spec.mask_on) return;
    record_masks(model, pass, levels);
    pass->marks[DETECTOR_MASK_FORWARD] = tape_mark(pass->t);
}

infer_graph *infer_graph_new(mask_rcnn *model, device *dev, const detector_spec *spec, infer_kind kind,
                             const infer_inputs *inputs, int64_t height, int64_t width) {
    CHECK(model->spec.maps == MAPS_C4 || (height % CANVAS_DIVISOR == 0 && width % CANVAS_DIVISOR == 0),
          "canvas %lld x %lld is not a multiple of %d", (long long)height, (long long)width, CANVAS_DIVISOR);
    infer_graph *pass = calloc(1, sizeof *pass);
    CHECK(pass, "out of memory for a graph");
    for (int i = 0; i < DETECTOR_STAGES; i++) pass->marks[i] = -1;
    pass->t = tape_new(dev, NULL);
    graph_init(&pass->g, pass->t, &model->params, false);
    record(model, pass, spec, kind, inputs, height, width);
    pass->bytes = tape_plan(pass->t);
    return pass;
}

void infer_graph_free(infer_graph *pass) {
    if (!pass) return;
    graph_release(&pass->g);
    tape_free(pass->t);
    free(pass);
}

void infer_graph_add_ms(const infer_graph *pass, double ms[DETECTOR_STAGES]) {
    double before = 0;
    for (int i = 0; i < DETECTOR_STAGES; i++) {
        if (pass->marks[i] < 0) continue;
        double now = 1e3 * tape_mark_seconds(pass->t, pass->marks[i]);
        ms[i] += now - before;
        before = now;
    }
}
