/* Evaluation during training: it changes nothing of the run; best checkpoint, early stop, resume, what is written. */
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

#define TEST_ON "~DATASETS.TEST~val.json:val~INPUT.MIN_SIZE_TEST~64~MODEL.ROI_HEADS.SCORE_THRESH_TEST~0.0"

static int make_sets(void **state) {
    if (sandbox_make(state) != 0) return -1;
    toy_dataset_write(sandbox_folder(), "toy", &(toy_options){.images = 8});
    toy_dataset_write(sandbox_folder(), "val", &(toy_options){.images = 5});
    return 0;
}

static bool exists(const char *name) {
    return access(sandbox_path("%s", name), F_OK) == 0;
}

static void expect_there(const char *out, const char *const *names, bool there) {
    char path[256];
    for (int i = 0; names[i]; i++) {
        snprintf(path, sizeof path, "%s/%s", out, names[i]);
        if (exists(path) != there) fail_msg("%s is %s", path, there ? "missing" : "there");
    }
}
#define THERE(out, ...) expect_there(out, (const char *const[]){__VA_ARGS__, NULL}, true)
#define GONE(out, ...) expect_there(out, (const char *const[]){__VA_ARGS__, NULL}, false)

static void expect_text(const char *name, const char *wanted) {
    char *text = sandbox_read(name, NULL);
    if (!strstr(text, wanted)) fail_msg("%s lacks %s:\n%s", name, wanted, text);
    free(text);
}

static int lines_of(const char *name) {
    char *text = sandbox_read(name, NULL);
    int count = count_lines(text, "\"iteration\": ");
    free(text);
    return count;
}

static void the_weights_are_those_of_a_run_without_it(void **state) {
    (void)state;
    sandbox_train_well(0, "plain", "~SOLVER.MAX_ITER~10");
    sandbox_train_well(0, "watched",
                       "%s~TEST.EVAL_PERIOD~4~TEST.VALIDATION_LOSS~True~SOLVER.CHECKPOINT_PERIOD~3", TEST_ON);
    assert_true(sandbox_difference("plain/model_final.safetensors", "watched/model_final.safetensors") == 0);
    assert_int_equal(lines_of("watched/evaluations.json"), 3);
    expect_text("watched/evaluations.json",
                "{\"iteration\": 3, \"dataset\": \"val.json:val\", \"images\": 5, ");
    expect_text("watched/evaluations.json", "{\"iteration\": 9, ");
    expect_text("watched/evaluations.json", "\"segm\": {\"AP\": ");
    expect_text("watched/evaluations.json", "{\"id\": 5, \"name\": \"octagon\", \"bbox\": ");
    expect_text("watched/evaluations.json", "\"validation_losses\": {\"loss_cls\": ");
    metrics_row rows[SANDBOX_LINES];
    assert_int_equal(sandbox_metrics(rows, "watched"), 10); /* no lines of another kind */
    THERE("watched", "coco_instances_results.json", "model_best.safetensors");
    GONE("plain", "coco_instances_results.json", "model_best.safetensors", "evaluations.json");
    assert_int_equal(count_lines(sandbox_run.out, "copypaste: Task: bbox"), 3);
    assert_int_equal(count_lines(sandbox_run.out, "copypaste: Task: segm"), 3);
    assert_true(HAS_LINE(sandbox_run.out, "copypaste: AP,AP50,AP75,APs,APm,APl"));
    assert_true(HAS_LINE(sandbox_run.out, "mask AP: "));
    if (!exists("watched/pictures")) {
        assert_true(HAS_LINE(sandbox_run.err, "no pictures:")); /* built without cairo */
        return;
    }
    THERE("watched", "pictures/0001_0001.png", "pictures/0005_0005.png");
    GONE("watched", "pictures/0006_0006.png");
}

/* With a learning rate of 0 no evaluation is better than the first. */
static void the_best_checkpoint_stays(void **state) {
    (void)state;
    const char *more = TEST_ON "~TEST.EVAL_PERIOD~2~SOLVER.BASE_LR~0~SOLVER.CHECKPOINT_PERIOD~1"
                               "~SOLVER.CHECKPOINT_KEEP~2~TEST.PICTURES~0";
    sandbox_train_well(0, "best", "%s~SOLVER.MAX_ITER~6", more);
    THERE("best/checkpoints", "iter_0000001", "iter_0000004", "iter_0000005");
    GONE("best/checkpoints", "iter_0000000", "iter_0000002", "iter_0000003");
    GONE("best", "pictures");
    expect_text("best/checkpoints/iter_0000005/state.json",
                "\"best_number\": \"segm/AP\", \"best_iteration\": 1, ");
    expect_text("best/checkpoints/iter_0000005/state.json", "\"evaluations_since_best\": 2");
    sandbox_train_well(0, "best", "%s~--resume~SOLVER.MAX_ITER~10", more);
    assert_false(HAS_LINE(sandbox_run.out, "best segm/AP so far"));
    THERE("best/checkpoints", "iter_0000001", "iter_0000008", "iter_0000009");
    GONE("best/checkpoints", "iter_0000004", "iter_0000005", "iter_0000007");
    expect_text("best/checkpoints/iter_0000009/state.json", "\"evaluations_since_best\": 4");
    assert_int_equal(lines_of("best/evaluations.json"), 5);
    assert_true(sandbox_difference("best/model_best.safetensors",
                                   "best/checkpoints/iter_0000001/weights.safetensors") == 0);
}

static void patience_ends_a_run(void **state) {
    (void)state;
    const char *more = TEST_ON "~TEST.EVAL_PERIOD~2~SOLVER.BASE_LR~0~TEST.PATIENCE~2~TEST.PICTURES~0"
                               "~TEST.KEEP_BEST~bbox/AP50";
    sandbox_train_well(0, "patient", "%s", more);
    expect_text("patient/run_status.json", "\"state\": \"done\", \"iteration\": 6, ");
    expect_text("patient/run_status.json",
                "\"reason\": \"stopped early: 2 evaluations in a row without a better "
                "bbox/AP50 than ");
    THERE("patient", "model_final.safetensors", "checkpoints/iter_0000001", "checkpoints/iter_0000005");
    sandbox_train_well(0, "patient", "%s~--resume", more);
    expect_text("patient/run_status.json", "\"state\": \"done\", \"iteration\": 6, ");
    sandbox_train_well(0, "patient", "%s~--resume~TEST.PATIENCE~0", more);
    expect_text("patient/run_status.json", "\"state\": \"done\", \"iteration\": 10, ");
    assert_int_equal(count_lines(sandbox_run.err, "another configuration"),
                     0); /* keys of evaluation are free */
}

static void a_resumed_run_is_bit_exact_and_evaluates_again(void **state) {
    (void)state;
    const char *more =
        TEST_ON "~TEST.EVAL_PERIOD~2~SOLVER.CHECKPOINT_PERIOD~5~TEST.KEEP_BEST~~TEST.PICTURES~0"
                "~TEST.VALIDATION_LOSS~True";
    sandbox_train_well(2, "whole", "%s", more);
    sandbox_train_well(2, "cut", "%s~SOLVER.MAX_ITER~7", more);
    sandbox_write("cut/last_checkpoint", "checkpoints/iter_0000004\n", 25);
    assert_int_equal(rename(sandbox_path("cut/checkpoints/iter_0000006"), sandbox_path("later")), 0);
    sandbox_train_well(2, "cut", "%s~--resume", more);
    assert_true(sandbox_difference("whole/model_final.safetensors", "cut/model_final.safetensors") == 0);
    assert_int_equal(lines_of("cut/evaluations.json"), 5);
    GONE("cut", "model_best.safetensors");
    char *a = sandbox_read("whole/coco_instances_results.json", NULL),
         *b = sandbox_read("cut/coco_instances_results.json", NULL);
    assert_string_equal(a, b);
    free(a);
    free(b);
}

static void what_cannot_be_scored_is_refused_at_once(void **state) {
    (void)state;
    char *text = sandbox_read("val.json", NULL), *octagon = strstr(text, "octagon");
    assert_non_null(octagon);
    memcpy(octagon, "heptagn", 7);
    sandbox_write("other.json", text, strlen(text));
    free(text);
    toy_dataset_write(sandbox_folder(), "boxes", &(toy_options){.images = 2, .kind = TOY_BOXES_ONLY});
#define TRAIN "maskrcnn~train~--config~tiny.yaml~OUTPUT_DIR~refused~DATASETS.TEST~"
    static const refusal refusals[] = {
        {TRAIN "other.json:val",
         65,
         {"DATASETS.TRAIN", "other.json:val", "octagon (5)", "heptagn (5)"},
         "belong together"},
        {TRAIN "gone.json:val", 66, {"DATASETS.TEST", "gone.json"}, "DATASETS.TEST"},
        {TRAIN "somewhere", 78, {"DATASETS.TEST", "somewhere"}, "\"()\""},
        {TRAIN "boxes.json:boxes", 65, {"boxes.json"}, NULL},
        {TRAIN "val.json:val~TEST.KEEP_BEST~segm/AR", 78, {"TEST.KEEP_BEST"}, NULL},
        {TRAIN "val.json:val~TEST.KEEP_BEST~validation_loss", 78, {"TEST.VALIDATION_LOSS"}, NULL},
        {TRAIN "val.json:val~TEST.KEEP_BEST~~TEST.PATIENCE~1", 78, {"TEST.PATIENCE"}, "TEST.KEEP_BEST"},
        {TRAIN "val.json:val~TEST.VALIDATION_LOSS~True~INPUT.MIN_SIZE_TEST~0",
         78,
         {"TEST.VALIDATION_LOSS", "INPUT.MIN_SIZE_TEST"},
         NULL},
    };
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) sandbox_refuse(&refusals[i]);
}

/* Without a mask head there is bbox alone, also as the number of the best checkpoint. */
static void boxes_alone(void **state) {
    (void)state;
    sandbox_train_well(0, "flat", TEST_ON "~MODEL.MASK_ON~False~SOLVER.MAX_ITER~2~TEST.PICTURES~0");
    expect_text("flat/evaluations.json", "\"bbox\": {\"AP\": ");
    char *text = sandbox_read("flat/evaluations.json", NULL);
    assert_null(strstr(text, "segm"));
    free(text);
    THERE("flat", "model_best.safetensors");
    assert_int_equal(count_lines(sandbox_run.out, "copypaste: Task:"), 1);
}

/* The results file cannot be written: that costs the scores and the exit code, not the model. */
static void a_failed_evaluation_costs_no_training(void **state) {
    (void)state;
    sandbox_train_well(0, "blocked", TEST_ON "~SOLVER.MAX_ITER~2~TEST.PICTURES~0");
    assert_int_equal(unlink(sandbox_path("blocked/coco_instances_results.json")), 0);
    toy_dataset_write(sandbox_path("blocked"), "coco_instances_results.json", &(toy_options){.images = 1});
    int code = sandbox_train(2, "blocked", TEST_ON "~SOLVER.MAX_ITER~4~TEST.EVAL_PERIOD~2~TEST.PICTURES~0");
    assert_true(code != 0);
    assert_true(HAS_LINE(sandbox_run.err, "no scores:", "coco_instances_results.json", "training goes on"));
    assert_int_equal(count_lines(sandbox_run.err, "maskrcnn: error:"), 1);
    expect_text("blocked/run_status.json", "\"state\": \"failed\", \"iteration\": 4, ");
    assert_true(sandbox_difference("blocked/model_final.safetensors",
                                   "blocked/checkpoints/iter_0000003/weights.safetensors") == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_weights_are_those_of_a_run_without_it),
        cmocka_unit_test(the_best_checkpoint_stays),
        cmocka_unit_test(patience_ends_a_run),
        cmocka_unit_test(a_resumed_run_is_bit_exact_and_evaluates_again),
        cmocka_unit_test(what_cannot_be_scored_is_refused_at_once),
        cmocka_unit_test(boxes_alone),
        cmocka_unit_test(a_failed_evaluation_costs_no_training),
    };
    return cmocka_run_group_tests(tests, make_sets, sandbox_remove);
}
