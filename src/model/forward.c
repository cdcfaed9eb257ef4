#include "model/forward.h"

#include "image_pack/image_pack.h"
#include "roi_align/roi_align.h"
#include "roi_align_fpn/roi_align_fpn.h"

#include <string.h>

tensor *forward_images(tape *t, const pixel_spec *pixels, tensor *bytes, tensor *table, int64_t height,
                       int64_t width) {
    tape_scope(t, "image_pack");
    image_pack_params p = {
        .antialias = pixels->antialias, .canvas_height = (int)height, .canvas_width = (int)width};
    for (int c = 0; c < 3; c++) {
        p.mean[c] = pixels->mean[c];
        p.std[c] = pixels->std[c];
        p.order[c] = pixels->bgr ? 2 - c : c;
    }
    return image_pack(t, bytes, table, &p);
}

void forward_levels(const mask_rcnn *model, graph *g, tensor *images, tensor *levels[FPN_LEVELS]) {
    tensor *features[RESNET_STAGES];
    resnet_apply(&model->backbone, g, images, features);
    if (model->spec.maps == MAPS_FPN) {
        fpn_apply(&model->neck, g, features, levels);
        return;
    }
    memset(levels, 0, FPN_LEVELS * sizeof *levels);
    levels[0] = features[RESNET_C4];
}

forward_rpn forward_rpn_heads(const mask_rcnn *model, graph *g, tensor *const levels[FPN_LEVELS]) {
    forward_rpn rpn = {0};
    for (int l = 0; l < model->spec.rpn.anchors.levels; l++)
        rpn_head_apply(&model->rpn, g, levels[l], &rpn.logits[l], &rpn.deltas[l]);
    return rpn;
}

rpn_proposals_result forward_proposals(const mask_rcnn *model, tape *t, const forward_rpn *rpn, tensor *info,
                                       const tensor *images, bool testing) {
    const rpn_spec *spec = &model->spec.rpn;
    tape_scope(t, "rpn.proposals");
    rpn_proposals_params p = {.anchors = spec->anchors,
                              .canvas_height = images->shape[1],
                              .canvas_width = images->shape[2],
                              .pre_nms_topk = spec->pre_nms_topk[testing],
                              .post_nms_topk = spec->post_nms_topk[testing],
                              .nms_threshold = spec->nms_threshold,
                              .min_size = spec->min_size,
                              .min_size_inclusive = spec->min_size_inclusive};
    memcpy(p.box_weights, spec->box_weights, sizeof p.box_weights);
    tensor *inputs[2 * FPN_LEVELS + 1];
    for (int l = 0; l < FPN_LEVELS; l++) {
        inputs[l] = rpn->logits[l];
        inputs[FPN_LEVELS + l] = rpn->deltas[l];
    }
    inputs[2 * FPN_LEVELS] = info;
    return rpn_proposals(t, inputs, &p);
}

/* rois [R,5] -> [R,P,P,C]. */
static tensor *pool(const mask_rcnn *model, tape *t, const pooler_spec *pooler,
                    tensor *const levels[FPN_LEVELS], tensor *rois) {
    if (model->spec.maps == MAPS_C4) {
        roi_align_params p = {.output_size = pooler->resolution,
                              .spatial_scale = 1.0 / model->spec.rpn.anchors.strides[0],
                              .sampling_ratio = pooler->sampling_ratio,
                              .aligned = pooler->aligned};
        return roi_align(t, levels[0], rois, &p);
    }
    roi_align_fpn_params p = {.output_size = pooler->resolution,
                              .sampling_ratio = pooler->sampling_ratio,
                              .aligned = pooler->aligned,
                              .level_eps = model->spec.roi.level_eps};
    tensor *inputs[] = {levels[0], levels[1], levels[2], levels[3], rois};
    return roi_align_fpn(t, inputs, &p);
}

forward_boxes forward_box_head(const mask_rcnn *model, graph *g, tensor *const levels[FPN_LEVELS],
                               tensor *rois) {
    forward_boxes boxes = {0};
    tape_scope(g->tape, "roi_heads.box_pooler");
    tensor *pooled = pool(model, g->tape, &model->spec.roi.box_pooler, levels, rois);
    if (model->spec.maps == MAPS_C4) {
        boxes.features = res5_head_features(&model->res5, g, pooled);
        res5_head_predict(&model->res5, g, boxes.features, &boxes.scores, &boxes.deltas);
    } else {
        box_head_apply(&model->box, g, pooled, &boxes.scores, &boxes.deltas);
    }
    return boxes;
}

tensor *forward_mask_features(const mask_rcnn *model, graph *g, tensor *const levels[FPN_LEVELS],
                              tensor *rois) {
    const roi_spec *roi = &model->spec.roi;
    bool c4 = model->spec.maps == MAPS_C4;
    tape_scope(g->tape, "roi_heads.mask_pooler");
    tensor *pooled = pool(model, g->tape, c4 ? &roi->box_pooler : &roi->mask_pooler, levels, rois);
    return c4 ? res5_head_features(&model->res5, g, pooled) : pooled;
}
