#include "weights/weights_kind.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "layers/param_store.h"
#include "weights/weight_names.h"

static bool starts_with(const char *text, const char *start) {
    return strncmp(text, start, strlen(start)) == 0;
}

/* Depth by the blocks of the third stage, which tell all the usual ResNets apart. */
static int depth_of(int blocks, bool has_bottleneck) {
    if (!has_bottleneck) return blocks == 2 ? 18 : blocks == 6 ? 34 : 0;
    return blocks == 6 ? 50 : blocks == 23 ? 101 : blocks == 36 ? 152 : 0;
}

/* Names that torchvision does not use: the box predictor's are detectron2's too, so one of these decides. */
static bool is_foreign(const char *name) {
    return starts_with(name, "backbone.bottom_up.") || starts_with(name, "backbone.fpn_") ||
           starts_with(name, "proposal_generator.") || starts_with(name, "stem.conv1.") ||
           starts_with(name, "res2_0_branch") || starts_with(name, "res2.0.");
}

/* What a tensor under today's name adds to the picture; *stages counts the blocks of the third stage. */
static void look_at(weights_kind *kind, int *blocks, const char *name, const safetensors_tensor *t) {
    static const char body[] = "backbone.body.", third[] = "backbone.body.layer3.";
    if (starts_with(name, third)) {
        long block = strtol(name + sizeof third - 1, NULL, 10);
        if (block >= *blocks && block < 1000) *blocks = (int)block + 1;
    }
    if (starts_with(name, body)) {
        if (strcmp(name, "backbone.body.layer1.0.conv3.weight") == 0) kind->has_bottleneck = true;
        if (strstr(name, ".running_mean")) kind->has_statistics = true;
        if (strstr(name, "bn1.")) kind->has_norm = true;
    }
    if (starts_with(name, "backbone.fpn.")) kind->has_fpn = true;
    if (starts_with(name, "rpn.head.")) kind->has_rpn = true;
    if (starts_with(name, "roi_heads.box_predictor.")) kind->has_box_head = true;
    if (starts_with(name, "roi_heads.mask_predictor.")) kind->has_mask_head = true;
    if (strcmp(name, "roi_heads.box_predictor.cls_score.weight") == 0 && t->rank == 2 && t->shape[0] > 0 &&
        t->shape[0] < INT32_MAX)
        kind->classes = (int)t->shape[0] - 1;
}

weights_kind weights_kind_of(const safetensors *file) {
    weights_kind kind = {.names = WEIGHTS_NAMES_UNKNOWN, .classes = -1};
    const char *holds = safetensors_metadata(file, "holds");
    kind.is_momentum = holds && strcmp(holds, "momentum") == 0;
    bool is_foreign_file = false, is_old = false, is_bare = false, is_known = false;
    int blocks = 0;
    for (int64_t i = 0; i < safetensors_count(file); i++) {
        const safetensors_tensor *t = safetensors_at(file, i);
        char name[PARAM_NAME_SIZE];
        if (is_foreign(t->name)) is_foreign_file = true;
        if (!weight_name_today(name, sizeof name, t->name)) continue;
        bool is_renamed = strcmp(name, t->name) != 0;
        if (is_renamed && starts_with(name, "backbone.body."))
            is_bare = true;
        else if (is_renamed)
            is_old = true;
        if (starts_with(name, "backbone.") || starts_with(name, "rpn.head.") ||
            starts_with(name, "roi_heads."))
            is_known = true;
        look_at(&kind, &blocks, name, t);
    }
    kind.depth = depth_of(blocks, kind.has_bottleneck);
    if (is_foreign_file)
        kind.names = WEIGHTS_NAMES_FOREIGN;
    else if (is_old)
        kind.names = WEIGHTS_NAMES_OLD;
    else if (is_bare)
        kind.names = WEIGHTS_NAMES_BARE;
    else if (is_known)
        kind.names = WEIGHTS_NAMES_TODAY;
    return kind;
}

const char *weights_kind_text(char text[WEIGHTS_KIND_TEXT], const weights_kind *kind) {
    char body[24] = "ResNet";
    if (kind->depth) snprintf(body, sizeof body, "ResNet-%d", kind->depth);
    const char *norm = kind->has_statistics ? ", batch norm" : kind->has_norm ? ", group norm" : "";
    const char *of = kind->is_momentum ? "momentum of " : "";
    if (kind->names == WEIGHTS_NAMES_FOREIGN)
        snprintf(text, WEIGHTS_KIND_TEXT, "%sa model of detectron2 or Detectron", of);
    else if (kind->has_mask_head || kind->has_box_head || kind->has_rpn)
        snprintf(text, WEIGHTS_KIND_TEXT, "%s%s, %s%s%s", of,
                 kind->has_mask_head  ? "Mask R-CNN"
                 : kind->has_box_head ? "Faster R-CNN"
                                      : "RPN",
                 body, kind->has_fpn ? " with FPN" : "", norm);
    else if (kind->names == WEIGHTS_NAMES_UNKNOWN)
        snprintf(text, WEIGHTS_KIND_TEXT, "unknown: no tensor has torchvision's names");
    else
        snprintf(text, WEIGHTS_KIND_TEXT, "%sa backbone, %s%s%s", of, body, kind->has_fpn ? " with FPN" : "",
                 norm);
    return text;
}

const char *weights_names_text(weights_names names) {
    switch (names) {
    case WEIGHTS_NAMES_TODAY:
        return "torchvision's since 0.13";
    case WEIGHTS_NAMES_OLD:
        return "torchvision's before 0.13";
    case WEIGHTS_NAMES_BARE:
        return "a ResNet's alone, torchvision's or timm's";
    case WEIGHTS_NAMES_FOREIGN:
        return "detectron2's or Detectron's";
    case WEIGHTS_NAMES_UNKNOWN:
        break;
    }
    return "unknown";
}
