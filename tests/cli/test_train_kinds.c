/* Models other than Mask R-CNN with FPN: Mask R-CNN on C4, and an RPN alone on an FPN or on C4. They train, are scored by their kind of number, go on
 * from checkpoints and from weights of each other; combinations that are not there are refused. */
#include "cli/train_sandbox.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ON_C4                                                                                                \
    "~MODEL.BACKBONE.NAME~build_resnet_backbone~MODEL.RESNETS.OUT_FEATURES~[res4]~MODEL.RPN.IN_FEATURES~"    \
    "[res4]~MODEL.ANCHOR_GENERATOR.SIZES~[[8, 16, 32, 64, "                                                  \
    "128]]~MODEL.RPN.PRE_NMS_TOPK_TRAIN~200~INPUT.SIZE_DIVISIBILITY_TEST~1"
#define C4_HEADS                                                                                             \
    ON_C4                                                                                                    \
    "~MODEL.ROI_HEADS.NAME~Res5ROIHeads~MODEL.ROI_HEADS.IN_FEATURES~[res4]~MODEL.ROI_BOX_HEAD.NAME~~"        \
    "MODEL.ROI_BOX_HEAD.NUM_FC~0~MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION~6~MODEL.ROI_MASK_HEAD.NUM_CONV~0"
#define RPN_ALONE "~MODEL.META_ARCHITECTURE~ProposalNetwork~MODEL.MASK_ON~False"
#define TEST_ON "~DATASETS.TEST~val.json:val~INPUT.MIN_SIZE_TEST~64~TEST.PICTURES~2"

/* `more` chooses the kind. */
typedef struct kind {
    const char *name, *more, *losses[5];
    bool alone; /* proposals are scored */
} kind;

static const kind kinds[] = {
    {"rpn_fpn", RPN_ALONE, {"loss_rpn_cls", "loss_rpn_loc"}, true},
    {"rpn_c4", RPN_ALONE ON_C4, {"loss_rpn_cls", "loss_rpn_loc"}, true},
    {"mask_c4", C4_HEADS, {"loss_cls", "loss_box_reg", "loss_mask", "loss_rpn_cls", "loss_rpn_loc"}, false},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

static int make_sets(void **state) {
    if (sandbox_make(state) != 0) return -1;
    toy_dataset_write(sandbox_folder(), "toy", &(toy_options){.images = 8, .mixed_sizes = true});
    toy_dataset_write(sandbox_folder(), "val", &(toy_options){.images = 5});
    return 0;
}

/* The mean of a number over lines first..last of OUT/metrics.json. */
static double mean_of(const char *out, const char *key, int first, int last) {
    char quoted[64],
        *text = sandbox_read(sandbox_path("%s/metrics.json", out) + strlen(sandbox_folder()) + 1, NULL);
    snprintf(quoted, sizeof quoted, "\"%s\": ", key);
    double sum = 0;
    int line = 0;
    for (char *at = text; (at = strstr(at, quoted)); line++) {
        at += strlen(quoted);
        if (line >= first && line <= last) sum += strtod(at, NULL);
    }
    if (line <= last) fail_msg("%s: %d lines with %s", out, line, key);
    free(text);
    return sum / (last - first + 1);
}

static void expect_text(const char *name, const char *wanted, bool there) {
    char *text = sandbox_read(name, NULL);
    if (!strstr(text, wanted) == there)
        fail_msg("%s %s %s:\n%s", name, there ? "lacks" : "has", wanted, text);
    free(text);
}

static void every_kind_learns_and_is_scored(void **state) {
    (void)state;
    char name[64];
    for (const kind *k = kinds; k < kinds + KINDS; k++) {
        sandbox_train_well(0, k->name, "%s" TEST_ON "~SOLVER.MAX_ITER~40~SOLVER.BASE_LR~0.02", k->more);
        double before = mean_of(k->name, "total_loss", 0, 4), after = mean_of(k->name, "total_loss", 35, 39);
        if (!(after < 0.8 * before)) fail_msg("%s: the loss went from %g to %g", k->name, before, after);
        for (int i = 0; i < 5 && k->losses[i]; i++) assert_true(mean_of(k->name, k->losses[i], 0, 4) > 0);
        snprintf(name, sizeof name, "%s/evaluations.json", k->name);
        expect_text(name, "\"box_proposals\": {\"AR@100\": ", k->alone);
        expect_text(name, "\"segm\": {\"AP\": ", !k->alone);
        snprintf(name, sizeof name, "%s/metrics.json", k->name);
        expect_text(name, "loss_cls", !k->alone);
        assert_true(HAS_LINE(sandbox_run.out, k->alone ? "copypaste: AR@100,ARs@100,ARm@100,ARl@100,AR@1000,"
                                                       : "copypaste: Task: segm"));
        assert_true(HAS_LINE(sandbox_run.out,
                             k->alone ? "best box_proposals/AR@1000 so far" : "best segm/AP so far"));
        assert_int_equal(access(sandbox_path("%s/model_best.safetensors", k->name), F_OK), 0);
        snprintf(name, sizeof name, "%s/report.html", k->name);
        expect_text(name, k->alone ? "AR@1000" : "segm", true);
    }
}

static void a_resumed_run_is_bit_exact(void **state) {
    (void)state;
    for (const kind *k = kinds; k < kinds + KINDS; k++) {
        char whole[64], cut[64], a[128], b[128];
        snprintf(whole, sizeof whole, "%s_whole", k->name);
        snprintf(cut, sizeof cut, "%s_cut", k->name);
        sandbox_train_well(0, whole, "%s~SOLVER.MAX_ITER~6", k->more);
        sandbox_train_well(0, cut, "%s~SOLVER.MAX_ITER~3", k->more);
        sandbox_train_well(0, cut, "%s~SOLVER.MAX_ITER~6~--resume", k->more);
        snprintf(a, sizeof a, "%s/model_final.safetensors", whole);
        snprintf(b, sizeof b, "%s/model_final.safetensors", cut);
        assert_true(sandbox_difference(a, b) == 0);
    }
}

/* Sums of the ranks differ in their last bits only. */
static void two_ranks_train_the_same_model(void **state) {
    (void)state;
    const char *same = "~SOLVER.MAX_ITER~4~DATALOADER.ASPECT_RATIO_GROUPING~False~DATASETS.TRAIN~val.json:val"
                       "~DATASETS.TEST~val.json:val~INPUT.MIN_SIZE_TEST~64~TEST.PICTURES~0";
    for (const kind *k = kinds; k < kinds + KINDS; k++) {
        char one[64], two[64], a[128], b[128];
        snprintf(one, sizeof one, "%s_1", k->name);
        snprintf(two, sizeof two, "%s_2", k->name);
        sandbox_train_well(0, one, "%s%s", k->more, same);
        sandbox_train_well(2, two, "%s%s", k->more, same);
        snprintf(a, sizeof a, "%s/model_final.safetensors", one);
        snprintf(b, sizeof b, "%s/model_final.safetensors", two);
        assert_true(sandbox_difference(a, b) < 1e-4);
    }
}

static void run_well(const char *format, const char *first, const char *second) {
    char line[2048];
    snprintf(line, sizeof line, format, first, second);
    run_program(&sandbox_run, sandbox_folder(), line, SANDBOX_LIMIT);
    if (sandbox_run.code != 0) fail_msg("%s: code %d\n%s", line, sandbox_run.code, sandbox_run.err);
}

/* Each image has proposals of one class, by falling score. */
static void an_rpn_predicts_proposals(void **state) {
    (void)state;
    sandbox_train_well(0, "start", RPN_ALONE ON_C4 "~SOLVER.MAX_ITER~1");
    run_well("maskrcnn~predict~--config~tiny.yaml~--weights~%s~--out~found~toy/0001.png~toy/0002.png%s",
             "start/model_final.safetensors",
             RPN_ALONE ON_C4 "~MODEL.RPN.POST_NMS_TOPK_TEST~20~INPUT.MIN_SIZE_TEST~64");
    char *text = sandbox_read("found/coco_instances_results.json", NULL);
    int count = count_lines(text, "\"category_id\": 1, ");
    assert_in_range(count, 10, 40);
    assert_int_equal(count_lines(text, "\"image_id\": "), count);
    double last = 1;
    for (char *at = text, *end = strstr(text, "\"image_id\": 2");
         (at = strstr(at, "\"score\": ")) && at < end;) {
        double score = strtod(at += 9, NULL);
        assert_true(score > 0 && score <= last);
        last = score;
    }
    free(text);
    run_well("maskrcnn~info~%s%s", "start/model_final.safetensors", "");
    assert_true(HAS_LINE(sandbox_run.out, "kind", "RPN, ResNet-18"));
}

/* An RPN has no classes, but its data have: they may be more than MODEL.ROI_HEADS.NUM_CLASSES, and are in pictures by their names. */
static void classes_do_not_matter_to_an_rpn(void **state) {
    (void)state;
    sandbox_train_well(0, "few", RPN_ALONE TEST_ON "~SOLVER.MAX_ITER~1~MODEL.ROI_HEADS.NUM_CLASSES~1");
    run_well("maskrcnn~info~%s%s", "few/model_final.safetensors", "");
    assert_null(strstr(sandbox_run.out, "class_names"));
    char line[] = "maskrcnn~draw~--config~tiny.yaml~--out~drawn~--images~2" RPN_ALONE;
    run_program(&sandbox_run, sandbox_folder(), line, SANDBOX_LIMIT);
    if (sandbox_run.code != 0 && sandbox_run.code != 69) /* built without cairo */
        fail_msg("code %d\n%s", sandbox_run.code, sandbox_run.err);
}

/* The part of a Mask R-CNN's weights that an RPN has, and the other way round. */
static void weights_go_from_kind_to_kind(void **state) {
    (void)state;
    sandbox_train_well(0, "full", "~SOLVER.MAX_ITER~1");
    sandbox_train_well(0, "part", RPN_ALONE "~SOLVER.MAX_ITER~1~--weights~full/model_final.safetensors");
    assert_true(HAS_LINE(sandbox_run.out, "0 kept their start value"));
    sandbox_train_well(0, "grown", "~SOLVER.MAX_ITER~1~--weights~part/model_final.safetensors");
    assert_true(
        HAS_LINE(sandbox_run.out, "not in the file, start value kept: roi_heads.box_head.fc6.weight"));
    run_well("maskrcnn~eval~--config~tiny.yaml%s~--weights~%s~OUTPUT_DIR~scored", RPN_ALONE TEST_ON,
             "full/model_final.safetensors");
    assert_true(HAS_LINE(sandbox_run.out, "ProposalNetwork: the file's heads", "are not used"));
    assert_true(
        HAS_LINE(sandbox_run.out, "Average Recall (AR) of proposals", "area=   all | proposals=1000"));
    sandbox_refuse(&(refusal){"maskrcnn~eval~--config~tiny.yaml" TEST_ON
                              "~--weights~part/model_final.safetensors",
                              65,
                              {"tensors are missing", "roi_heads.box_head.fc6.weight"},
                              NULL});
}

static void what_is_not_there_is_refused(void **state) {
    (void)state;
#define TRAIN "maskrcnn~train~--config~tiny.yaml~OUTPUT_DIR~refused"
    static const refusal rows[] = {
        {TRAIN "~MODEL.META_ARCHITECTURE~ProposalNetwork",
         78,
         {"ProposalNetwork", "MODEL.MASK_ON"},
         "MODEL.MASK_ON False"},
        {TRAIN RPN_ALONE "~TEST.AUG.ENABLED~True", 78, {"TEST.AUG.ENABLED"}, "TEST.AUG.ENABLED False"},
        {TRAIN "~MODEL.ROI_HEADS.NAME~Res5ROIHeads",
         78,
         {"MODEL.ROI_HEADS.NAME", "StandardROIHeads"},
         "Base-RCNN-C4.yaml"},
        {TRAIN ON_C4, 78, {"MODEL.ROI_HEADS.NAME", "Res5ROIHeads"}, "Base-RCNN-C4.yaml"},
        {TRAIN "~MODEL.BACKBONE.NAME~build_resnet_backbone",
         78,
         {"MODEL.RESNETS.OUT_FEATURES", "[res4]"},
         "Base-RCNN-C4.yaml"},
        {TRAIN "~MODEL.RPN.IN_FEATURES~[p2, p3]",
         78,
         {"MODEL.RPN.IN_FEATURES = [p2, p3]", "[p2, p3, p4, p5, p6]"},
         NULL},
        {TRAIN "~INPUT.SIZE_DIVISIBILITY_TEST~48",
         78,
         {"INPUT.SIZE_DIVISIBILITY_TEST = 48"},
         "INPUT.SIZE_DIVISIBILITY_TEST 32"},
        {TRAIN "~MODEL.ROI_BOX_HEAD.NUM_FC~1", 78, {"MODEL.ROI_BOX_HEAD.NUM_FC = 1"}, NULL},
        {TRAIN "~TEST.KEEP_BEST~box_proposals/AR@100", 78, {"TEST.KEEP_BEST", "GeneralizedRCNN"}, "bbox/AP"},
        {TRAIN "~MODEL.BACKBONE.NAME~build_resnet_backbone~MODEL.RESNETS.OUT_FEATURES~[res4]~MODEL.RPN.IN_"
               "FEATURES~[res4]" RPN_ALONE,
         78,
         {"MODEL.ANCHOR_GENERATOR.SIZES has 5 lists"},
         NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) sandbox_refuse(&rows[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_learns_and_is_scored), cmocka_unit_test(a_resumed_run_is_bit_exact),
        cmocka_unit_test(two_ranks_train_the_same_model),  cmocka_unit_test(an_rpn_predicts_proposals),
        cmocka_unit_test(classes_do_not_matter_to_an_rpn), cmocka_unit_test(weights_go_from_kind_to_kind),
        cmocka_unit_test(what_is_not_there_is_refused),
    };
    return cmocka_run_group_tests(tests, make_sets, sandbox_remove);
}
