/* Which part of the model a layer belongs to. */
#include "bench/step_parts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static void layers_belong_to_parts(void **state) {
    (void)state;
    static const struct {
        const char *layer;
        step_part part;
    } known[] = {{"image_pack", STEP_PART_INPUT},
                 {"backbone.body.conv1", STEP_PART_BACKBONE},
                 {"backbone.body.layer4.2.conv3", STEP_PART_BACKBONE},
                 {"backbone.fpn.inner_blocks.0.0", STEP_PART_FPN},
                 {"rpn.head.conv.0.0", STEP_PART_RPN},
                 {"rpn.proposals", STEP_PART_RPN},
                 {"rpn.targets", STEP_PART_LOSSES},
                 {"rpn.loss_cls", STEP_PART_LOSSES},
                 {"counts", STEP_PART_LOSSES},
                 {"roi_heads.targets", STEP_PART_LOSSES},
                 {"roi_heads.box_pooler", STEP_PART_ROI_BOX},
                 {"roi_heads.box_head.fc6", STEP_PART_ROI_BOX},
                 {"roi_heads.res5.0.conv1", STEP_PART_ROI_BOX},
                 {"roi_heads.loss_box_reg", STEP_PART_LOSSES},
                 {"roi_heads.mask_targets", STEP_PART_LOSSES},
                 {"roi_heads.mask_pooler", STEP_PART_ROI_MASK},
                 {"roi_heads.mask_predictor.conv5_mask", STEP_PART_ROI_MASK},
                 {"roi_heads.loss_mask", STEP_PART_LOSSES},
                 {"optimizer", STEP_PART_OTHER}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        step_part part = step_part_of_layer(known[i].layer);
        if (part != known[i].part) fail_msg("%s is %s", known[i].layer, step_part_names[part]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(layers_belong_to_parts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
