/* `maskrcnn eval --config`: the same numbers on any number of ranks and from the results file; bad images; refusals. */
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

#define WEIGHTS "trained/model_final.safetensors"
#define KEYS "~INPUT.MIN_SIZE_TEST~64~MODEL.ROI_HEADS.SCORE_THRESH_TEST~0.01~TEST.PICTURES~2"

/* Six images: one damaged, one missing, one with crowds alone, one without any annotation. */
static void make_hard_set(void) {
    toy_dataset_write(sandbox_folder(), "val",
                      &(toy_options){.images = 6, .empty_from = 5, .mixed_sizes = true});
    sandbox_write("val/0002.png", "this is no picture", 18);
    assert_int_equal(unlink(sandbox_path("val/0004.png")), 0);
    char *text = sandbox_read("val.json", NULL), id[] = "\"image_id\": 103, \"category_id\": ";
    for (char *at = text; (at = strstr(at, id)); at++) {
        char *crowd = strstr(at, "\"iscrowd\": 0");
        assert_non_null(crowd);
        crowd[strlen("\"iscrowd\": ")] = '1';
    }
    sandbox_write("val.json", text, strlen(text));
    char *octagon = strstr(text, "octagon");
    memcpy(octagon, "heptagn", 7);
    sandbox_write("other.json", text, strlen(text));
    free(text);
}

static int make_model(void **state) {
    if (sandbox_make(state) != 0) return -1;
    toy_dataset_write(sandbox_folder(), "toy", &(toy_options){.images = 8});
    make_hard_set();
    static const char none[] =
        "{\"categories\": [{\"id\": 1, \"name\": \"rectangle\"}, {\"id\": 2, \"name\": "
        "\"diamond\"}, {\"id\": 5, \"name\": \"octagon\"}], \"images\": [], "
        "\"annotations\": []}";
    sandbox_write("none.json", none, sizeof none - 1);
    toy_dataset_write(sandbox_folder(), "boxes", &(toy_options){.images = 4, .kind = TOY_BOXES_ONLY});
    char *boxes = sandbox_read("boxes.json", NULL);
    memcpy(strstr(boxes, "\"bbox\""), "\"bbux\"", 6);
    sandbox_write("one_boxless.json", boxes, strlen(boxes));
    free(boxes);
    char *text = sandbox_read("toy.json", NULL); /* images without a size are not taken */
    memcpy(strstr(text, "\"width\""), "\"wadth\"", 7);
    sandbox_write("one_sizeless.json", text, strlen(text));
    for (char *at = text; (at = strstr(at, "\"width\""));) memcpy(at, "\"wadth\"", 7);
    sandbox_write("sizeless.json", text, strlen(text));
    free(text);
    sandbox_train_well(0, "trained", "~SOLVER.MAX_ITER~25");
    return 0;
}

static int evaluate(int ranks, const char *out, const char *rest) {
    char line[4096], launch[128] = "";
    if (ranks > 0)
        snprintf(
            launch, sizeof launch,
            "mpirun~--allow-run-as-root~--oversubscribe~--bind-to~none~--mca~mpi_yield_when_idle~1~-n~%d~",
            ranks);
    snprintf(line, sizeof line,
             "%smaskrcnn~eval~--config~tiny.yaml~--weights~" WEIGHTS "~--json~%s.json%s~OUTPUT_DIR~%s",
             launch, out, rest, out);
    run_program(&sandbox_run, sandbox_folder(), line, SANDBOX_LIMIT);
    return sandbox_run.code;
}

static void evaluate_well(int ranks, const char *out, const char *rest) {
    if (evaluate(ranks, out, rest) != 0) fail_msg("%s: code %d\n%s", out, sandbox_run.code, sandbox_run.err);
}

static void expect_equal_files(const char *a, const char *b) {
    size_t m, n;
    char *x = sandbox_read(a, &m), *y = sandbox_read(b, &n);
    if (m != n || memcmp(x, y, n) != 0) fail_msg("%s differs from %s", a, b);
    free(x);
    free(y);
}

static void ranks_do_not_matter(void **state) {
    (void)state;
    evaluate_well(0, "one", KEYS "~DATASETS.TEST~val.json:val");
    char *results = sandbox_read("one/coco_instances_results.json", NULL);
    assert_true(count_lines(results, "\"segmentation\"") > 5);
    assert_non_null(strstr(results, "\"image_id\": 101, "));
    assert_non_null(strstr(results, "\"image_id\": 103, ")); /* crowds alone */
    assert_non_null(strstr(results, "\"image_id\": 106, ")); /* no annotation */
    assert_null(strstr(results, "\"image_id\": 102, "));
    assert_null(strstr(results, "\"image_id\": 104, "));
    assert_non_null(strstr(results, "\"category_id\": 5, "));
    free(results);
    for (int ranks = 1; ranks <= 4; ranks += ranks == 2 ? 2 : 1) {
        char out[32], name[128];
        snprintf(out, sizeof out, "ranks%d", ranks);
        evaluate_well(ranks, out, KEYS "~DATASETS.TEST~val.json:val");
        snprintf(name, sizeof name, "%s/coco_instances_results.json", out);
        expect_equal_files("one/coco_instances_results.json", name);
        snprintf(name, sizeof name, "%s.json", out);
        expect_equal_files("one.json", name);
        assert_true(HAS_LINE(sandbox_run.err, "WARNING", "bad image", "0002.png"));
        assert_true(HAS_LINE(sandbox_run.err, "WARNING", "bad image", "0004.png"));
        assert_int_equal(count_lines(sandbox_run.err, "bad image"), 2);
        assert_int_equal(count_lines(sandbox_run.out, "copypaste: Task: "), 2);
    }
    char *line = sandbox_read("one/evaluations.json", NULL);
    assert_non_null(strstr(
        line, "{\"iteration\": 24, \"dataset\": \"val.json:val\", \"images\": 6, \"bad_images\": 2, "));
    free(line);
}

/* eval --annotations --results gives every digit of eval --config. */
static void the_file_gives_the_same_numbers(void **state) {
    (void)state;
    evaluate_well(0, "both/.",
                  KEYS "~DATASETS.TEST~val.json:val"); /* --json lies in an OUTPUT_DIR still to be made */
    char *whole = sandbox_read("both/..json", NULL);
    static const char *const types[] = {"bbox", "segm"};
    for (int i = 0; i < 2; i++) {
        char command[256], wanted[2048];
        snprintf(
            command, sizeof command,
            "maskrcnn~eval~--annotations~val.json~--results~both/coco_instances_results.json~--iou-type~%s~"
            "--json~alone.json",
            types[i]);
        run_program(&sandbox_run, sandbox_folder(), command, SANDBOX_LIMIT);
        assert_int_equal(sandbox_run.code, 0);
        char *alone = sandbox_read("alone.json", NULL);
        alone[strcspn(alone, "\n")] = '\0';
        snprintf(wanted, sizeof wanted, "\"%s\": %s", types[i], alone);
        if (!strstr(whole, wanted)) fail_msg("%s is not in %s", wanted, whole);
        free(alone);
    }
    free(whole);
}

static void several_sets_and_an_empty_one(void **state) {
    (void)state;
    evaluate_well(2, "sets", KEYS "~DATASETS.TEST~[none.json:val,toy]");
    char *empty = sandbox_read("sets/inference/1_none.json_val/coco_instances_results.json", NULL);
    assert_int_equal(strspn(empty, "[] \n"), strlen(empty));
    free(empty);
    free(sandbox_read("sets/inference/toy/coco_instances_results.json", NULL));
    char *json = sandbox_read("sets.json", NULL);
    assert_non_null(strstr(json, "{\"none.json:val\": {\"bbox\": {\"AP\": -1, "));
    assert_non_null(strstr(json, "}, \"toy\": {\"bbox\": {\"AP\": "));
    free(json);
    assert_true(HAS_LINE(sandbox_run.out, "n/a"));
}

static void losses_on_their_own(void **state) {
    (void)state;
    const char *more = KEYS "~DATASETS.TEST~toy~TEST.VALIDATION_LOSS~True~MODEL.MASK_ON~True";
    evaluate_well(1, "losses1", more);
    evaluate_well(3, "losses3", more);
    char *a = sandbox_read("losses1/evaluations.json", NULL),
         *b = sandbox_read("losses3/evaluations.json", NULL);
    const char *key = "\"validation_loss\": ", *x = strstr(a, key), *y = strstr(b, key);
    assert_true(x && y);
    double one = strtod(x + strlen(key), NULL), three = strtod(y + strlen(key), NULL);
    assert_true(one > 0.1 && one < 100);
    assert_true(one - three < 1e-12 && three - one < 1e-12); /* sums of doubles in another order */
    free(a);
    free(b);
}

static void what_does_not_fit_is_refused(void **state) {
    (void)state;
#define EVAL "maskrcnn~eval~--config~tiny.yaml~OUTPUT_DIR~refused"
#define WITH EVAL "~--weights~" WEIGHTS
    static const refusal refusals[] = {
        {WITH "~DATASETS.TEST~other.json:val",
         65,
         {WEIGHTS, "other.json:val", "octagon (5)", "heptagn (5)"},
         "belong together"},
        {WITH "~DATASETS.TEST~boxes.json:boxes",
         65,
         {"boxes.json", "no segmentation"},
         "MODEL.MASK_ON False"},
        {WITH "~DATASETS.TEST~one_boxless.json:boxes",
         65,
         {"one_boxless.json", "no segmentation"},
         "MODEL.MASK_ON False"},
        {WITH "~DATASETS.TEST~sizeless.json:toy", 65, {"sizeless.json", "8 images without"}, "correct"},
        {WITH "~DATASETS.TEST~()", 78, {"DATASETS.TEST"}, "ANNOTATIONS.json"},
        {EVAL "~DATASETS.TEST~toy", 78, {"MODEL.WEIGHTS"}, "--weights"},
        {EVAL "~--weights~gone.safetensors~DATASETS.TEST~toy", 66, {"gone.safetensors"}, NULL},
        {EVAL "~--weights~toy.json~DATASETS.TEST~toy", 65, {"toy.json"}, NULL},
        {WITH "~DATASETS.TEST~toy~MODEL.ROI_HEADS.NUM_CLASSES~5",
         65,
         {"roi_heads.", "4", "6"},
         "NUM_CLASSES 3"},
        {"mpirun~--allow-run-as-root~--oversubscribe~-n~2~" TEST_PROGRAM
         "~eval~--annotations~toy.json~--results~x~--iou-type~bbox",
         64,
         {"one process"},
         "without mpirun"},
        {WITH "~DATASETS.TEST~toy~--json~no/such/place.json", 73, {"no/such/place.json"}, NULL},
        {"maskrcnn~eval", 64, {"--config", "--annotations"}, "--results"},
        {WITH "~--results~x.json", 64, {"--config", "--results"}, "either"},
        {"maskrcnn~eval~--weights~x", 64, {"--weights", "--config"}, NULL},
        {"maskrcnn~eval~--annotations~val.json~--results~x~--iou-type~bbox~SEED~3", 64, {"SEED"}, "--config"},
        {"maskrcnn~eval~--annotations~val.json~--results~x", 64, {"--iou-type"}, NULL},
    };
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) sandbox_refuse(&refusals[i]);
    assert_int_equal(evaluate(2, "refused", "~DATASETS.TEST~other.json:val"), 65);
    assert_int_equal(count_lines(sandbox_run.err, "maskrcnn: error:"), 1);
}

static void boxes_of_a_model_with_masks(void **state) {
    (void)state;
    evaluate_well(0, "boxes_only", "~DATASETS.TEST~boxes.json:boxes~MODEL.MASK_ON~False" KEYS);
    assert_int_equal(count_lines(sandbox_run.out, "Task: bbox"), 1);
    assert_int_equal(count_lines(sandbox_run.out, "Task: segm"), 0);
}

static void images_that_are_not_taken_are_said(void **state) {
    (void)state;
    evaluate_well(0, "fewer", "~DATASETS.TEST~one_sizeless.json:toy" KEYS);
    assert_true(HAS_LINE(sandbox_run.err, "WARNING", "left out: 1 images without"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_do_not_matter),
        cmocka_unit_test(the_file_gives_the_same_numbers),
        cmocka_unit_test(several_sets_and_an_empty_one),
        cmocka_unit_test(losses_on_their_own),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(boxes_of_a_model_with_masks),
        cmocka_unit_test(images_that_are_not_taken_are_said),
    };
    return cmocka_run_group_tests(tests, make_model, sandbox_remove);
}
