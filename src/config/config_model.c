/* Which models there are: an FPN or C4, with RoI heads or an RPN alone; and what each of them demands of other keys. */
#include "config/config_check.h"

#include <stdio.h>
#include <string.h>

bool config_has_roi_heads(const config *cfg) {
    return strcmp(cfg->MODEL_META_ARCHITECTURE, "ProposalNetwork") != 0;
}

bool config_has_fpn(const config *cfg) {
    return strcmp(cfg->MODEL_BACKBONE_NAME, "build_resnet_backbone") != 0;
}

static const char remedy[] =
    "start from configs/Base-RCNN-FPN.yaml or configs/Base-RCNN-C4.yaml, which set what belongs together";

/* "[p2, p3]" */
static void list_text(char *text, size_t size, const char *const *values, int count) {
    size_t used = 0;
    text[0] = '\0';
    for (int i = 0; i < count && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%s", i ? ", " : "", values[i]);
}

/* `wanted` holds the names with ", " between. */
static status check_names(const config *cfg, const char *key, const config_strings *set, const char *wanted) {
    char text[256];
    list_text(text, sizeof text, set->values, set->count);
    if (strcmp(text, wanted) == 0) return STATUS_OK;
    return error_set(STATUS_CONFIG, remedy, "%s = [%s]: with MODEL.BACKBONE.NAME %s only [%s] is implemented",
                     key, text, cfg->MODEL_BACKBONE_NAME, wanted);
}

static status check_name(const config *cfg, const char *key, const char *set, const char *wanted) {
    if (strcmp(set, wanted) == 0) return STATUS_OK;
    return error_set(STATUS_CONFIG, remedy, "%s = %s: with MODEL.BACKBONE.NAME %s only %s is implemented",
                     key, *set ? set : "\"\"", cfg->MODEL_BACKBONE_NAME, wanted);
}

static status check_roi_heads(const config *cfg) {
    bool fpn = config_has_fpn(cfg);
    RETURN_IF_ERROR(check_name(cfg, "MODEL.ROI_HEADS.NAME", cfg->MODEL_ROI_HEADS_NAME,
                               fpn ? "StandardROIHeads" : "Res5ROIHeads"));
    RETURN_IF_ERROR(check_names(cfg, "MODEL.ROI_HEADS.IN_FEATURES", &cfg->MODEL_ROI_HEADS_IN_FEATURES,
                                fpn ? "p2, p3, p4, p5" : "res4"));
    if (!fpn) return STATUS_OK;
    RETURN_IF_ERROR(
        check_name(cfg, "MODEL.ROI_BOX_HEAD.NAME", cfg->MODEL_ROI_BOX_HEAD_NAME, "FastRCNNConvFCHead"));
    if (cfg->MODEL_ROI_BOX_HEAD_NUM_FC == 2) return STATUS_OK;
    return error_set(STATUS_CONFIG, remedy,
                     "MODEL.ROI_BOX_HEAD.NUM_FC = %lld: with MODEL.BACKBONE.NAME %s only 2 is implemented",
                     (long long)cfg->MODEL_ROI_BOX_HEAD_NUM_FC, cfg->MODEL_BACKBONE_NAME);
}

static status check_rpn_alone(const config *cfg) {
    if (cfg->MODEL_MASK_ON)
        return error_set(STATUS_CONFIG, "set MODEL.MASK_ON False",
                         "MODEL.META_ARCHITECTURE = ProposalNetwork, but MODEL.MASK_ON is True: proposals "
                         "have no masks");
    if (cfg->TEST_AUG_ENABLED)
        return error_set(STATUS_CONFIG, "set TEST.AUG.ENABLED False",
                         "MODEL.META_ARCHITECTURE = ProposalNetwork, but TEST.AUG.ENABLED is True: proposals "
                         "of several views are not merged");
    return STATUS_OK;
}

status config_check_model(const config *cfg) {
    bool fpn = config_has_fpn(cfg);
    RETURN_IF_ERROR(check_names(cfg, "MODEL.RESNETS.OUT_FEATURES", &cfg->MODEL_RESNETS_OUT_FEATURES,
                                fpn ? "res2, res3, res4, res5" : "res4"));
    if (fpn)
        RETURN_IF_ERROR(
            check_names(cfg, "MODEL.FPN.IN_FEATURES", &cfg->MODEL_FPN_IN_FEATURES, "res2, res3, res4, res5"));
    RETURN_IF_ERROR(check_names(cfg, "MODEL.RPN.IN_FEATURES", &cfg->MODEL_RPN_IN_FEATURES,
                                fpn ? "p2, p3, p4, p5, p6" : "res4"));
    if (fpn && cfg->INPUT_SIZE_DIVISIBILITY_TEST % 32 != 0)
        return error_set(
            STATUS_CONFIG, "set INPUT.SIZE_DIVISIBILITY_TEST 32",
            "INPUT.SIZE_DIVISIBILITY_TEST = %lld: the maps of an FPN halve exactly on multiples of 32",
            (long long)cfg->INPUT_SIZE_DIVISIBILITY_TEST);
    return config_has_roi_heads(cfg) ? check_roi_heads(cfg) : check_rpn_alone(cfg);
}
