#include "config/config_check.h"

#include <string.h>

static status check_depth(const config *cfg) {
    int64_t depth = cfg->MODEL_RESNETS_DEPTH;
    if (depth == 18 || depth == 34 || depth == 50 || depth == 101) return STATUS_OK;
    return error_set(STATUS_CONFIG, "write e.g. MODEL.RESNETS.DEPTH 50",
                     "MODEL.RESNETS.DEPTH = %lld: expected 18, 34, 50 or 101", (long long)depth);
}

/* One list for all levels or one per level, all of one length: the RPN's head is shared. */
static status check_levels(const char *name, const config_float_lists *lists, int levels) {
    if (lists->count != 1 && lists->count != levels)
        return error_set(STATUS_CONFIG, "give one list per level, or one for all",
                         "%s has %d lists, but MODEL.RPN.IN_FEATURES has %d levels", name, lists->count,
                         levels);
    for (int i = 1; i < lists->count; i++)
        if (lists->values[i].count != lists->values[0].count)
            return error_set(STATUS_CONFIG, "give every level as many",
                             "%s: list %d has %d values, the first has %d", name, i + 1,
                             lists->values[i].count, lists->values[0].count);
    return STATUS_OK;
}

static status check_groups(const config *cfg, const char *norm_key, const char *norm,
                           const char *channels_key, int64_t channels) {
    if (strcmp(norm, "GN") != 0 || channels % cfg->MODEL_GN_GROUPS == 0) return STATUS_OK;
    return error_set(STATUS_CONFIG, "choose MODEL.GN_GROUPS so that it divides every channel count",
                     "%s = GN: MODEL.GN_GROUPS = %lld does not divide %s = %lld", norm_key,
                     (long long)cfg->MODEL_GN_GROUPS, channels_key, (long long)channels);
}

static status check_all_groups(const config *cfg) {
    const char *backbone = cfg->MODEL_RESNETS_NORM;
    RETURN_IF_ERROR(check_groups(cfg, "MODEL.RESNETS.NORM", backbone, "MODEL.RESNETS.STEM_OUT_CHANNELS",
                                 cfg->MODEL_RESNETS_STEM_OUT_CHANNELS));
    RETURN_IF_ERROR(check_groups(cfg, "MODEL.RESNETS.NORM", backbone, "MODEL.RESNETS.RES2_OUT_CHANNELS",
                                 cfg->MODEL_RESNETS_RES2_OUT_CHANNELS));
    if (cfg->MODEL_RESNETS_DEPTH >= 50)
        RETURN_IF_ERROR(check_groups(cfg, "MODEL.RESNETS.NORM", backbone, "MODEL.RESNETS.WIDTH_PER_GROUP",
                                     cfg->MODEL_RESNETS_WIDTH_PER_GROUP));
    RETURN_IF_ERROR(check_groups(cfg, "MODEL.FPN.NORM", cfg->MODEL_FPN_NORM, "MODEL.FPN.OUT_CHANNELS",
                                 cfg->MODEL_FPN_OUT_CHANNELS));
    return check_groups(cfg, "MODEL.ROI_MASK_HEAD.NORM", cfg->MODEL_ROI_MASK_HEAD_NORM,
                        "MODEL.ROI_MASK_HEAD.CONV_DIM", cfg->MODEL_ROI_MASK_HEAD_CONV_DIM);
}

static status check_sizes(const config *cfg) {
    const config_ints *sizes = &cfg->INPUT_MIN_SIZE_TRAIN;
    if (strcmp(cfg->INPUT_MIN_SIZE_TRAIN_SAMPLING, "range") != 0) return STATUS_OK;
    if (sizes->count == 2 && sizes->values[0] <= sizes->values[1]) return STATUS_OK;
    return error_set(STATUS_CONFIG, "write e.g. INPUT.MIN_SIZE_TRAIN \"(640, 800)\"",
                     "INPUT.MIN_SIZE_TRAIN_SAMPLING = range: INPUT.MIN_SIZE_TRAIN must hold the lowest and "
                     "the highest size");
}

static status check_thresholds(const config *cfg) {
    const double *t = cfg->MODEL_RPN_IOU_THRESHOLDS.values;
    if (t[0] <= t[1]) return STATUS_OK;
    return error_set(STATUS_CONFIG, "write e.g. \"[0.3, 0.7]\"",
                     "MODEL.RPN.IOU_THRESHOLDS: %g must not be above %g", t[0], t[1]);
}

static status check_rising(const char *name, const config_ints *list) {
    for (int i = 1; i < list->count; i++)
        if (list->values[i] <= list->values[i - 1])
            return error_set(STATUS_CONFIG, "sort them", "%s: %lld does not come after %lld", name,
                             (long long)list->values[i], (long long)list->values[i - 1]);
    return STATUS_OK;
}

/* NAME=ANNOTATIONS.json:IMAGE_DIR, every name once. */
static status check_register(const config *cfg) {
    const config_strings *list = &cfg->DATASETS_REGISTER;
    for (int i = 0; i < list->count; i++) {
        const char *entry = list->values[i], *equals = strchr(entry, '=');
        if (!equals || equals == entry || equals[1] == '\0' || !strchr(equals + 2, ':'))
            return error_set(STATUS_CONFIG, "write NAME=ANNOTATIONS.json:IMAGE_DIR",
                             "DATASETS.REGISTER: \"%.200s\" names no dataset", entry);
        size_t n = (size_t)(equals - entry) + 1;
        for (int j = 0; j < i; j++)
            if (strncmp(entry, list->values[j], n) == 0)
                return error_set(STATUS_CONFIG, "give each dataset a name of its own",
                                 "DATASETS.REGISTER: %.*s stands twice", (int)n - 1, entry);
    }
    return STATUS_OK;
}

static status check_best(const config *cfg) {
    const char *number = cfg->TEST_KEEP_BEST;
    if (cfg->TEST_PATIENCE > 0 && !number[0])
        return error_set(STATUS_CONFIG, "set TEST.KEEP_BEST, e.g. to bbox/AP, or TEST.PATIENCE 0",
                         "TEST.PATIENCE = %lld, but TEST.KEEP_BEST names no number to wait for",
                         (long long)cfg->TEST_PATIENCE);
    if (strcmp(number, "validation_loss") == 0 && !cfg->TEST_VALIDATION_LOSS)
        return error_set(STATUS_CONFIG, "set TEST.VALIDATION_LOSS True, or choose another number",
                         "TEST.KEEP_BEST = validation_loss, but TEST.VALIDATION_LOSS is False");
    if (strncmp(number, "box_proposals/", 14) == 0 && config_has_roi_heads(cfg))
        return error_set(STATUS_CONFIG, "choose e.g. TEST.KEEP_BEST bbox/AP",
                         "TEST.KEEP_BEST = %s, but with MODEL.META_ARCHITECTURE %s detections are scored, no "
                         "proposals",
                         number, cfg->MODEL_META_ARCHITECTURE);
    return STATUS_OK;
}

status config_check(const config *cfg) {
    int levels = cfg->MODEL_RPN_IN_FEATURES.count;
    RETURN_IF_ERROR(check_depth(cfg));
    RETURN_IF_ERROR(config_check_model(cfg));
    RETURN_IF_ERROR(check_levels("MODEL.ANCHOR_GENERATOR.SIZES", &cfg->MODEL_ANCHOR_GENERATOR_SIZES, levels));
    RETURN_IF_ERROR(check_levels("MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS",
                                 &cfg->MODEL_ANCHOR_GENERATOR_ASPECT_RATIOS, levels));
    RETURN_IF_ERROR(check_all_groups(cfg));
    RETURN_IF_ERROR(check_sizes(cfg));
    RETURN_IF_ERROR(check_thresholds(cfg));
    RETURN_IF_ERROR(check_rising("SOLVER.STEPS", &cfg->SOLVER_STEPS));
    RETURN_IF_ERROR(check_rising("TEST.MAX_DETS", &cfg->TEST_MAX_DETS));
    RETURN_IF_ERROR(check_best(cfg));
    return check_register(cfg);
}
