#include "setup/model_config.h"

#include "base/check.h"
#include "mask_paste/mask_paste.h"

#include <string.h>

static norm_spec norm_from(const char *name, const config *cfg) {
    norm_spec norm = {
        .kind = NORM_NONE, .eps = cfg->MODEL_RESNETS_NORM_EPS, .groups = (int)cfg->MODEL_GN_GROUPS};
    if (strcmp(name, "FrozenBN") == 0)
        norm.kind = NORM_FROZEN;
    else if (strcmp(name, "BN") == 0)
        norm.kind = NORM_BATCH;
    else if (strcmp(name, "SyncBN") == 0)
        norm.kind = NORM_SYNC;
    else if (strcmp(name, "GN") == 0)
        norm.kind = NORM_GROUP;
    else
        CHECK(name[0] == '\0', "norm %s passed the configuration's check", name);
    return norm;
}

/* One list for all levels, or one per level. */
static const config_floats *list_of_level(const config_float_lists *lists, int level) {
    return &lists->values[lists->count == 1 ? 0 : level];
}

static status anchors_from(anchor_spec *anchors, const config *cfg) {
    const config_float_lists *sizes = &cfg->MODEL_ANCHOR_GENERATOR_SIZES,
                             *ratios = &cfg->MODEL_ANCHOR_GENERATOR_ASPECT_RATIOS;
    bool pyramid = config_has_fpn(cfg);
    *anchors = (anchor_spec){.levels = pyramid ? FPN_LEVELS : 1,
                             .offset = cfg->MODEL_ANCHOR_GENERATOR_OFFSET,
                             .stride_from_canvas = cfg->MODEL_ANCHOR_GENERATOR_STRIDE_FROM_CANVAS};
    const char *rounding = cfg->MODEL_ANCHOR_GENERATOR_ROUNDING;
    anchors->rounding = strcmp(rounding, "corners") == 0     ? ANCHOR_ROUND_CORNERS
                        : strcmp(rounding, "detectron") == 0 ? ANCHOR_ROUND_DETECTRON
                                                             : ANCHOR_EXACT;
    int per_place = list_of_level(sizes, 0)->count * list_of_level(ratios, 0)->count;
    for (int level = 0; level < anchors->levels; level++) {
        const config_floats *s = list_of_level(sizes, level), *r = list_of_level(ratios, level);
        if (s->count * r->count != per_place || per_place > ANCHOR_MAX_PER_CELL ||
            s->count > ANCHOR_MAX_SIZES || r->count > ANCHOR_MAX_RATIOS)
            return error_set(
                STATUS_CONFIG,
                "give each level as many sizes x ratios: at most 8 of each, 16 together (one RPN head serves "
                "all)",
                "MODEL.ANCHOR_GENERATOR.SIZES and ASPECT_RATIOS give %d anchors on level %d and %d on the "
                "first",
                s->count * r->count, level, per_place);
        anchors->strides[level] = pyramid ? 4 << level : 16;
        anchors->n_sizes[level] = s->count;
        anchors->n_ratios[level] = r->count;
        for (int i = 0; i < s->count; i++) anchors->sizes[level][i] = s->values[i];
        for (int i = 0; i < r->count; i++) anchors->ratios[level][i] = r->values[i];
    }
    return STATUS_OK;
}

static status rpn_from(rpn_spec *rpn, const config *cfg) {
    *rpn = (rpn_spec){
        .iou_background = cfg->MODEL_RPN_IOU_THRESHOLDS.values[0],
        .iou_foreground = cfg->MODEL_RPN_IOU_THRESHOLDS.values[1],
        .batch_size_per_image = (int)cfg->MODEL_RPN_BATCH_SIZE_PER_IMAGE,
        .positive_fraction = cfg->MODEL_RPN_POSITIVE_FRACTION,
        .straddle = (int)cfg->MODEL_RPN_BOUNDARY_THRESH,
        .smooth_l1_beta = cfg->MODEL_RPN_SMOOTH_L1_BETA,
        .normalizer =
            strcmp(cfg->MODEL_RPN_LOSS_NORMALIZER, "sampled") == 0 ? RPN_BY_SAMPLED : RPN_BY_BATCH_SIZE,
        .loss_weight = cfg->MODEL_RPN_LOSS_WEIGHT,
        .box_loss_weight = cfg->MODEL_RPN_BBOX_REG_LOSS_WEIGHT * cfg->MODEL_RPN_LOSS_WEIGHT,
        .pre_nms_topk = {(int)cfg->MODEL_RPN_PRE_NMS_TOPK_TRAIN, (int)cfg->MODEL_RPN_PRE_NMS_TOPK_TEST},
        .post_nms_topk = {(int)cfg->MODEL_RPN_POST_NMS_TOPK_TRAIN, (int)cfg->MODEL_RPN_POST_NMS_TOPK_TEST},
        .nms_threshold = cfg->MODEL_RPN_NMS_THRESH,
        .min_size = cfg->MODEL_PROPOSAL_GENERATOR_MIN_SIZE,
        .min_size_inclusive = cfg->MODEL_PROPOSAL_GENERATOR_MIN_SIZE_INCLUSIVE,
    };
    for (int i = 0; i < 4; i++) rpn->box_weights[i] = cfg->MODEL_RPN_BBOX_REG_WEIGHTS.values[i];
    return anchors_from(&rpn->anchors, cfg);
}

static pooler_spec pooler_from(int64_t resolution, int64_t sampling_ratio, const char *type) {
    return (pooler_spec){.resolution = (int)resolution,
                         .sampling_ratio = (int)sampling_ratio,
                         .aligned = strcmp(type, "ROIAlignV2") == 0};
}

static void roi_from(roi_spec *roi, const config *cfg) {
    *roi = (roi_spec){
        .classes = (int)cfg->MODEL_ROI_HEADS_NUM_CLASSES,
        .iou_foreground = cfg->MODEL_ROI_HEADS_IOU_THRESHOLDS.values[0],
        .batch_size_per_image = (int)cfg->MODEL_ROI_HEADS_BATCH_SIZE_PER_IMAGE,
        .positive_fraction = cfg->MODEL_ROI_HEADS_POSITIVE_FRACTION,
        .append_gt = cfg->MODEL_ROI_HEADS_PROPOSAL_APPEND_GT,
        .level_eps = cfg->MODEL_FPN_LEVEL_EPS,
        .box_pooler =
            pooler_from(cfg->MODEL_ROI_BOX_HEAD_POOLER_RESOLUTION,
                        cfg->MODEL_ROI_BOX_HEAD_POOLER_SAMPLING_RATIO, cfg->MODEL_ROI_BOX_HEAD_POOLER_TYPE),
        .mask_pooler =
            pooler_from(cfg->MODEL_ROI_MASK_HEAD_POOLER_RESOLUTION,
                        cfg->MODEL_ROI_MASK_HEAD_POOLER_SAMPLING_RATIO, cfg->MODEL_ROI_MASK_HEAD_POOLER_TYPE),
        .smooth_l1_beta = cfg->MODEL_ROI_BOX_HEAD_SMOOTH_L1_BETA,
        .box_loss_weight = cfg->MODEL_ROI_BOX_HEAD_BBOX_REG_LOSS_WEIGHT,
        .fc_dim = cfg->MODEL_ROI_BOX_HEAD_FC_DIM,
        .mask_convs = (int)cfg->MODEL_ROI_MASK_HEAD_NUM_CONV,
        .mask_dim = cfg->MODEL_ROI_MASK_HEAD_CONV_DIM,
        .mask_norm = norm_from(cfg->MODEL_ROI_MASK_HEAD_NORM, cfg),
        .soft_mask_targets = strcmp(cfg->MODEL_ROI_MASK_HEAD_TARGET, "soft") == 0,
        .bitmap_mask_targets = strcmp(cfg->INPUT_MASK_FORMAT, "bitmask") == 0,
    };
    for (int i = 0; i < 4; i++) roi->box_weights[i] = cfg->MODEL_ROI_BOX_HEAD_BBOX_REG_WEIGHTS.values[i];
}

status model_spec_from_config(mask_rcnn_spec *spec, const config *cfg) {
    *spec = (mask_rcnn_spec){
        .backbone = {.depth = (int)cfg->MODEL_RESNETS_DEPTH,
                     .stem_channels = (int)cfg->MODEL_RESNETS_STEM_OUT_CHANNELS,
                     .res2_channels = (int)cfg->MODEL_RESNETS_RES2_OUT_CHANNELS,
                     .bottleneck_width = (int)cfg->MODEL_RESNETS_WIDTH_PER_GROUP,
                     .stride_in_1x1 = cfg->MODEL_RESNETS_STRIDE_IN_1X1,
                     .freeze_at = (int)cfg->MODEL_BACKBONE_FREEZE_AT,
                     .ends_with_res4 = !config_has_fpn(cfg),
                     .norm = norm_from(cfg->MODEL_RESNETS_NORM, cfg)},
        .maps = config_has_fpn(cfg) ? MAPS_FPN : MAPS_C4,
        .rpn_only = !config_has_roi_heads(cfg),
        .fpn_channels = cfg->MODEL_FPN_OUT_CHANNELS,
        .fpn_norm = norm_from(cfg->MODEL_FPN_NORM, cfg),
        .mask_on = cfg->MODEL_MASK_ON,
        .torchvision_init = strcmp(cfg->MODEL_INIT, "torchvision") == 0,
        .seed = (uint64_t)cfg->SEED,
    };
    spec->pixels = (pixel_spec){.antialias = strcmp(cfg->INPUT_RESIZE_METHOD, "pillow") == 0,
                                .bgr = strcmp(cfg->INPUT_FORMAT, "BGR") == 0};
    for (int c = 0; c < 3; c++) {
        spec->pixels.mean[c] = cfg->MODEL_PIXEL_MEAN.values[c];
        spec->pixels.std[c] = cfg->MODEL_PIXEL_STD.values[c];
    }
    roi_from(&spec->roi, cfg);
    return rpn_from(&spec->rpn, cfg);
}

void detector_spec_from_config(detector_spec *spec, const config *cfg) {
    bool proposals = !config_has_roi_heads(cfg);
    *spec = (detector_spec){
        .short_edge = (int)cfg->INPUT_MIN_SIZE_TEST,
        .max_size = (int)cfg->INPUT_MAX_SIZE_TEST,
        .size_divisibility = (int)cfg->INPUT_SIZE_DIVISIBILITY_TEST,
        .rule = strcmp(cfg->INPUT_RESIZE_ROUNDING, "floor") == 0 ? RESIZE_RULE_TORCHVISION
                                                                 : RESIZE_RULE_DETECTRON2,
        .score_threshold = cfg->MODEL_ROI_HEADS_SCORE_THRESH_TEST,
        .nms_threshold = cfg->MODEL_ROI_HEADS_NMS_THRESH_TEST,
        .min_box_size = cfg->MODEL_ROI_HEADS_MIN_BOX_SIZE_TEST,
        .max_detections =
            (int)(proposals ? cfg->MODEL_RPN_POST_NMS_TOPK_TEST : cfg->TEST_DETECTIONS_PER_IMAGE),
        .paste_rule = strcmp(cfg->MODEL_ROI_MASK_HEAD_PASTE, "resize") == 0 ? MASK_PASTE_RESIZE
                                                                            : MASK_PASTE_GRID_SAMPLE,
        .masks = cfg->MODEL_MASK_ON,
        .augment = cfg->TEST_AUG_ENABLED,
        .augment_size_count = cfg->TEST_AUG_MIN_SIZES.count,
        .augment_max_size = (int)cfg->TEST_AUG_MAX_SIZE,
        .augment_flip = cfg->TEST_AUG_FLIP,
    };
    for (int i = 0; i < spec->augment_size_count; i++)
        spec->augment_sizes[i] = (int)cfg->TEST_AUG_MIN_SIZES.values[i];
}
