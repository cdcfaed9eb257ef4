#include "model/mask_rcnn.h"

#include "base/check.h"

#include <stdio.h>

const char *const loss_names[LOSS_COUNT] = {"loss_cls", "loss_box_reg", "loss_mask", "loss_rpn_cls",
                                            "loss_rpn_loc"};
const char *const loss_trace_names[LOSS_COUNT] = {"loss_classifier", "loss_box_reg", "loss_mask",
                                                  "loss_objectness", "loss_rpn_box_reg"};

static status check_groups(const norm_spec *norm, int64_t channels, const char *where) {
    if (norm->kind != NORM_GROUP || channels % norm->groups == 0) return STATUS_OK;
    return error_set(STATUS_CONFIG, "choose a MODEL.GN_GROUPS that divides every normalised layer's channels",
                     "MODEL.GN_GROUPS: %d groups do not divide the %lld channels of %s", norm->groups,
                     (long long)channels, where);
}

static status check_spec(const mask_rcnn_spec *spec) {
    const resnet_spec *r = &spec->backbone;
    RETURN_IF_ERROR(check_groups(&r->norm, r->stem_channels, "the stem (MODEL.RESNETS.STEM_OUT_CHANNELS)"));
    RETURN_IF_ERROR(check_groups(&r->norm, r->res2_channels, "res2 (MODEL.RESNETS.RES2_OUT_CHANNELS)"));
    if (r->depth >= 50)
        RETURN_IF_ERROR(check_groups(&r->norm, r->bottleneck_width,
                                     "res2's bottlenecks (MODEL.RESNETS.WIDTH_PER_GROUP)"));
    if (spec->maps == MAPS_FPN)
        RETURN_IF_ERROR(
            check_groups(&spec->fpn_norm, spec->fpn_channels, "the FPN (MODEL.FPN.OUT_CHANNELS)"));
    if (spec->rpn_only) return STATUS_OK;
    return check_groups(&spec->roi.mask_norm, spec->roi.mask_dim,
                        "the mask head (MODEL.ROI_MASK_HEAD.CONV_DIM)");
}

int mask_rcnn_labels(const mask_rcnn_spec *spec) {
    return spec->rpn_only ? 0 : spec->roi.classes;
}

int mask_rcnn_first_loss(const mask_rcnn_spec *spec) {
    return spec->rpn_only ? LOSS_RPN_CLS : 0;
}

int mask_rcnn_mask_side(const mask_rcnn_spec *spec) {
    const roi_spec *roi = &spec->roi;
    /* The mask head doubles the side of what it reads: pooled regions, or res5 of them. */
    return 2 * (spec->maps == MAPS_FPN ? roi->mask_pooler.resolution : (roi->box_pooler.resolution + 1) / 2);
}

int64_t mask_rcnn_map_channels(const mask_rcnn_spec *spec) {
    return spec->maps == MAPS_FPN ? spec->fpn_channels : (int64_t)spec->backbone.res2_channels << 2;
}

static void init_fpn(mask_rcnn *model) {
    fpn_spec neck = {.channels = model->spec.fpn_channels, .norm = model->spec.fpn_norm};
    for (int i = 0; i < FPN_INPUTS; i++) neck.in_channels[i] = model->backbone.stages[i].channels;
    fpn_init(&model->neck, &model->params, &neck);
}

/* Two fully connected layers over each region, or res5. */
static void init_box_head(mask_rcnn *model) {
    const mask_rcnn_spec *spec = &model->spec;
    if (spec->maps == MAPS_C4) {
        res5_head_init(&model->res5, &model->params, &spec->backbone, spec->roi.classes,
                       spec->torchvision_init);
        return;
    }
    box_head_spec box = {.channels = spec->fpn_channels,
                         .resolution = spec->roi.box_pooler.resolution,
                         .fc_dim = spec->roi.fc_dim,
                         .classes = spec->roi.classes,
                         .pytorch_init = spec->torchvision_init};
    box_head_init(&model->box, &model->params, &box);
}

static void init_mask_head(mask_rcnn *model) {
    const mask_rcnn_spec *spec = &model->spec;
    const roi_spec *roi = &spec->roi;
    mask_head_spec mask = {.channels =
                               spec->maps == MAPS_FPN ? spec->fpn_channels : model->res5.res5.channels,
                           .n_convs = roi->mask_convs,
                           .conv_dim = roi->mask_dim,
                           .norm = roi->mask_norm,
                           .classes = roi->classes,
                           .torchvision_init = spec->torchvision_init};
    mask_head_init(&model->mask, &model->params, &mask);
}

status mask_rcnn_init(mask_rcnn *model, const mask_rcnn_spec *spec) {
    model->spec = *spec;
    param_store_init(&model->params);
    RETURN_IF_ERROR(check_spec(spec));
    resnet_init(&model->backbone, &model->params, &spec->backbone);
    if (spec->maps == MAPS_FPN) init_fpn(model);
    rpn_head_init(&model->rpn, &model->params, mask_rcnn_map_channels(spec),
                  spec->rpn.anchors.n_sizes[0] * spec->rpn.anchors.n_ratios[0],
                  spec->rpn.batch_size_per_image);
    if (spec->rpn_only) return STATUS_OK;
    init_box_head(model);
    if (spec->mask_on) init_mask_head(model);
    return STATUS_OK;
}

void mask_rcnn_release(mask_rcnn *model) {
    param_store_release(&model->params);
}
