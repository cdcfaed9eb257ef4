/* What a run leaves in OUTPUT_DIR and says on the way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ftw.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/train_sandbox.h"
#include "data/safetensors.h"

static int annotations;

static int refuse_temporary(const char *path, const struct stat *info, int kind, struct FTW *at) {
    (void)info, (void)kind;
    if (strncmp(path + at->base, ".tmp", 4) == 0) fail_msg("left behind: %s", path);
    return 0;
}

static void test_log(void **state) {
    (void)state;
    char count[64];
    sandbox_train_well(2, "run",
                       "~DATASETS.TRAIN~mixed.json:mixed~SOLVER.CHECKPOINT_PERIOD~4~DATALOADER.FILTER_EMPTY_"
                       "ANNOTATIONS~False");
    char *log = sandbox_read("run/log.txt", NULL);
    snprintf(count, sizeof count, "%d annotations", annotations);
    assert_true(HAS_LINE(log, "2 ranks"));
    assert_true(HAS_LINE(log, "12 images"));
    assert_true(HAS_LINE(log, count));
    assert_true(HAS_LINE(log, "3 images without annotations"));
    assert_true(HAS_LINE(log, "rectangle") && HAS_LINE(log, "diamond") && HAS_LINE(log, "octagon"));
    assert_true(HAS_LINE(log, "random start"));
    /* detectron2's line */
    assert_true(HAS_LINE(log, "maskrcnn.events]:", " iter: 9 ",
                         " total_loss: ", " loss_cls: ", " loss_box_reg: ", " loss_mask: ", " loss_rpn_cls: ",
                         " loss_rpn_loc: ", " lr: ", " max_mem: "));
    assert_true(HAS_LINE(log, "Overall training speed"));
    assert_true(HAS_LINE(log, "Total training time"));
    /* What stdout showed is in the file, and nobody said anything twice. */
    assert_int_equal(count_lines(sandbox_run.out, " iter: "), 10);
    assert_int_equal(count_lines(log, " iter: "), 10);
    assert_int_equal(count_lines(log, "2 ranks"), 1);
    free(log);
}

static void test_metrics(void **state) {
    (void)state;
    static metrics_row rows[SANDBOX_LINES];
    assert_int_equal(sandbox_metrics(rows, "run"), 10);
    for (int i = 0; i < 10; i++) {
        double sum = 0;
        for (int k = 0; k < SANDBOX_LOSSES; k++) sum += rows[i].losses[k];
        assert_int_equal(rows[i].iteration, i);
        assert_int_equal(rows[i].skipped, 0);
        assert_true(fabs(sum - rows[i].total) <= 1e-6 * sum);
        assert_true(fabs(rows[i].lr - 0.01) < 1e-12);
        assert_true(rows[i].time > 0 && rows[i].data_time >= 0 && rows[i].data_time <= rows[i].time);
    }
}

static void test_files(void **state) {
    (void)state;
    safetensors *file;
    char *text = sandbox_read("run/run_status.json", NULL);
    assert_true(strstr(text, "\"state\": \"done\"") && strstr(text, "\"iteration\": 10"));
    free(text);
    assert_int_equal(safetensors_open(&file, sandbox_path("run/model_final.safetensors")), STATUS_OK);
    assert_non_null(safetensors_find(file, "backbone.body.conv1.weight"));
    assert_non_null(safetensors_find(file, "rpn.head.conv.0.0.weight"));
    assert_non_null(safetensors_find(file, "roi_heads.mask_predictor.mask_fcn_logits.bias"));
    for (int64_t i = 0; i < safetensors_count(file); i++) {
        const safetensors_tensor *t = safetensors_at(file, i);
        assert_int_equal(t->dtype, SAFETENSORS_F32);
        assert_null(strstr(t->name, "num_batches_tracked"));
    }
    safetensors_close(file);
    /* Two checkpoints are kept: after the iterations 7 and 9; the last one is the final model. */
    assert_int_equal(access(sandbox_path("run/checkpoints/iter_0000003"), F_OK), -1);
    assert_int_equal(access(sandbox_path("run/checkpoints/iter_0000007/manifest.json"), F_OK), 0);
    assert_true(sandbox_difference("run/model_final.safetensors",
                                   "run/checkpoints/iter_0000009/weights.safetensors") == 0);
    nftw(sandbox_path("run"), refuse_temporary, 16, FTW_PHYS);
    nftw(sandbox_path("mixed"), refuse_temporary, 16, FTW_PHYS);
    run_program(&sandbox_run, sandbox_folder(), "maskrcnn~info~run/model_final.safetensors", 20.0);
    assert_int_equal(sandbox_run.code, 0);
    assert_true(strstr(sandbox_run.out, "octagon") != NULL);
}

/* A period longer than the run still ends in one line, with medians over all of it. */
static void test_long_period(void **state) {
    (void)state;
    static metrics_row rows[SANDBOX_LINES];
    sandbox_train_well(0, "period", "~DATASETS.TRAIN~mixed.json:mixed~SOLVER.LOG_PERIOD~4");
    assert_int_equal(sandbox_metrics(rows, "period"), 3);
    assert_int_equal(rows[0].iteration, 3);
    assert_int_equal(rows[1].iteration, 7);
    assert_int_equal(rows[2].iteration, 9);
}

/* A second run in the same folder without --resume is a run of its own. */
static void test_same_folder_again(void **state) {
    (void)state;
    static metrics_row rows[SANDBOX_LINES];
    sandbox_write("period/model_best.safetensors", "best", 4);
    sandbox_train_well(0, "period", "~DATASETS.TRAIN~mixed.json:mixed~SOLVER.MAX_ITER~6");
    assert_int_equal(access(sandbox_path("period/checkpoints_1/model_best.safetensors"), F_OK), 0);
    assert_int_not_equal(access(sandbox_path("period/model_best.safetensors"), F_OK), 0);
    assert_true(HAS_LINE(sandbox_run.err, "--resume", "period/checkpoints_1"));
    assert_int_equal(sandbox_metrics(rows, "period"), 6);
    for (int i = 0; i < 6; i++) assert_int_equal(rows[i].iteration, i);
    sandbox_train_well(0, "period", "~--resume~DATASETS.TRAIN~mixed.json:mixed~SOLVER.MAX_ITER~8");
    assert_int_equal(sandbox_metrics(rows, "period"), 8);
    for (int i = 0; i < 8; i++) assert_int_equal(rows[i].iteration, i);
    /* The first run's checkpoint is still there, aside. */
    assert_int_equal(access(sandbox_path("period/checkpoints_1/iter_0000009/manifest.json"), F_OK), 0);
    assert_int_equal(access(sandbox_path("period/checkpoints/iter_0000007/manifest.json"), F_OK), 0);
}

static void test_throughput(void **state) {
    (void)state;
    sandbox_train_well(0, "long",
                       "~SOLVER.MAX_ITER~500~SOLVER.LOG_PERIOD~100~SOLVER.IMS_PER_BATCH~1~INPUT.MIN_SIZE_"
                       "TRAIN~(32,)~INPUT.MAX_SIZE_TRAIN~32"
                       "~MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE~4~MODEL.RPN.POST_NMS_TOPK_TRAIN~8~DATASETS."
                       "TRAIN~mixed.json:mixed~SOLVER.BASE_LR~0.001");
    assert_int_equal(count_lines(sandbox_run.out, "throughput over iterations 100-500: "), 1);
    const char *line = strstr(sandbox_run.out, "throughput over iterations 100-500: ");
    double all, each;
    assert_int_equal(
        sscanf(line, "throughput over iterations 100-500: %lf img/s (%lf per rank)", &all, &each), 2);
    assert_true(all > 0 && fabs(all - each) <= 0.02 * all);
}

static int make(void **state) {
    if (sandbox_make(state)) return -1;
    annotations =
        toy_dataset_write(sandbox_folder(), "mixed",
                          &(toy_options){.images = 12, .mixed_sizes = true, .empty_from = 9, .jpeg = true});
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_log),
        cmocka_unit_test(test_metrics),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_long_period),
        cmocka_unit_test(test_same_folder_again),
        cmocka_unit_test(test_throughput),
    };
    return cmocka_run_group_tests(tests, make, sandbox_remove);
}
