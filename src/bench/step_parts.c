#include "bench/step_parts.h"

#include <stdbool.h>
#include <string.h>

const char *const step_part_names[STEP_PARTS] = {"input",   "backbone", "fpn",    "rpn",
                                                 "roi_box", "roi_mask", "losses", "other"};

static bool begins(const char *text, const char *start) {
    return strncmp(text, start, strlen(start)) == 0;
}

step_part step_part_of_layer(const char *layer) {
    static const struct {
        const char *start;
        step_part part;
    } rules[] = {{"image_pack", STEP_PART_INPUT},
                 {"backbone.fpn.", STEP_PART_FPN},
                 {"backbone.", STEP_PART_BACKBONE},
                 {"rpn.targets", STEP_PART_LOSSES},
                 {"rpn.loss_", STEP_PART_LOSSES},
                 {"rpn.", STEP_PART_RPN},
                 {"counts", STEP_PART_LOSSES},
                 {"roi_heads.targets", STEP_PART_LOSSES},
                 {"roi_heads.mask_targets", STEP_PART_LOSSES},
                 {"roi_heads.loss_", STEP_PART_LOSSES},
                 {"roi_heads.mask_", STEP_PART_ROI_MASK},
                 {"roi_heads.", STEP_PART_ROI_BOX}};
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (begins(layer, rules[i].start)) return rules[i].part;
    return STEP_PART_OTHER;
}
