/* The same bytes again: whatever the number of loader workers and threads, from the configuration a run wrote, and after a
 * run was killed and resumed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/train_sandbox.h"

#define FINAL "/model_final.safetensors"

static void test_workers(void **state) {
    (void)state;
    static const char *const others[] = {"0", "3"};
    char out[64], final[96];
    sandbox_train_well(0, "plain", "~DATALOADER.NUM_WORKERS~1");
    for (int i = 0; i < 2; i++) {
        snprintf(out, sizeof out, "workers_%s", others[i]);
        sandbox_train_well(0, out, "~DATALOADER.NUM_WORKERS~%s", others[i]);
        snprintf(final, sizeof final, "%s" FINAL, out);
        assert_true(sandbox_difference("plain" FINAL, final) == 0);
    }
}

static void test_threads(void **state) {
    (void)state;
    char out[64], final[96];
    for (int threads = 2; threads <= 3; threads++) {
        snprintf(out, sizeof out, "threads_%d", threads);
        sandbox_train_well(0, out, "~CPU.THREADS~%d", threads);
        snprintf(final, sizeof final, "%s" FINAL, out);
        assert_true(sandbox_difference("plain" FINAL, final) == 0);
    }
}

static void test_seed_matters(void **state) {
    (void)state;
    sandbox_train_well(0, "seed", "~SEED~8");
    assert_true(sandbox_difference("plain" FINAL, "seed" FINAL) > 1e-3);
}

/* config.yaml of a run is a whole configuration. */
static void test_written_configuration(void **state) {
    (void)state;
    run_program(&sandbox_run, sandbox_folder(), "maskrcnn~train~--config~plain/config.yaml~OUTPUT_DIR~again",
                SANDBOX_LIMIT);
    if (sandbox_run.code) fail_msg("%s", sandbox_run.err);
    assert_true(sandbox_difference("plain" FINAL, "again" FINAL) == 0);
}

/* --- resume --- */

#define RESUMED "~SOLVER.MAX_ITER~24~SOLVER.CHECKPOINT_PERIOD~8~DATASETS.TRAIN~mixed.json:mixed"
#define FIRST "checkpoints/iter_0000015"
#define SECOND "checkpoints/iter_0000023"

static void expect_rows(const char *out, int count) {
    static metrics_row rows[SANDBOX_LINES];
    assert_int_equal(sandbox_metrics(rows, out), count);
    for (int i = 0; i < count; i++) assert_int_equal(rows[i].iteration, i);
}

static void test_resume_after_kill(void **state) {
    (void)state;
    char line[1024];
    sandbox_train_well(0, "whole", RESUMED);
    expect_rows("whole", 24);
    snprintf(line, sizeof line, "maskrcnn~train~--config~tiny.yaml~OUTPUT_DIR~killed%s", RESUMED);
    run_program_until(&sandbox_run, sandbox_folder(), line, "killed/last_checkpoint", SANDBOX_LIMIT);
    assert_int_equal(sandbox_run.code, -9);
    assert_int_equal(access(sandbox_path("killed" FINAL), F_OK), -1);
    sandbox_train_well(0, "killed", "~--resume~DATALOADER.NUM_WORKERS~3" RESUMED);
    assert_true(HAS_LINE(sandbox_run.out, "resumed from", "checkpoints/iter_00000"));
    assert_true(sandbox_difference("whole" FINAL, "killed" FINAL) == 0);
    assert_true(sandbox_difference("whole/" SECOND "/weights.safetensors",
                                   "killed/" SECOND "/weights.safetensors") == 0);
    assert_true(sandbox_difference("whole/" SECOND "/momentum.safetensors",
                                   "killed/" SECOND "/momentum.safetensors") == 0);
    expect_rows("killed", 24);
}

/* More ranks than before go on from where one stopped. */
static void test_resume_on_more_ranks(void **state) {
    (void)state;
    sandbox_train_well(
        0, "wider",
        "~--deterministic~SOLVER.CHECKPOINT_PERIOD~8~SOLVER.MAX_ITER~16~DATASETS.TRAIN~mixed.json:mixed");
    sandbox_train_well(2, "wider", "~--resume~--deterministic" RESUMED);
    assert_true(HAS_LINE(sandbox_run.out, "2 ranks"));
    assert_true(sandbox_difference("whole" FINAL, "wider" FINAL) < 1e-4);
    expect_rows("wider", 24);
}

static void test_resume_without_checkpoint(void **state) {
    (void)state;
    sandbox_train_well(0, "fresh", "~--resume");
    assert_true(HAS_LINE(sandbox_run.out, "no checkpoint", "iteration 0"));
    assert_true(sandbox_difference("plain" FINAL, "fresh" FINAL) == 0);
}

static void test_resume_of_a_finished_run(void **state) {
    (void)state;
    sandbox_train_well(0, "whole", "~--resume" RESUMED);
    assert_true(HAS_LINE(sandbox_run.err, "nothing left to do"));
    assert_true(sandbox_difference("whole" FINAL, "killed" FINAL) == 0);
    expect_rows("whole", 24);
}

/* One byte of the newest checkpoint is wrong: the one before serves, and the log says so. */
static void test_resume_from_the_one_before(void **state) {
    (void)state;
    size_t size;
    char *bytes = sandbox_read("whole/" SECOND "/momentum.safetensors", &size);
    bytes[size - 5] ^= 1;
    sandbox_write("whole/" SECOND "/momentum.safetensors", bytes, size);
    sandbox_train_well(0, "whole", "~--resume" RESUMED);
    assert_true(HAS_LINE(sandbox_run.err, SECOND, "momentum.safetensors"));
    assert_true(HAS_LINE(sandbox_run.out, "resumed from", FIRST));
    assert_true(sandbox_difference("whole" FINAL, "killed" FINAL) == 0);
    expect_rows("whole", 24);
    /* With no good one left nothing is begun anew over the old results. */
    sandbox_write("whole/" FIRST "/weights.safetensors", bytes, size / 2);
    sandbox_write("whole/" SECOND "/weights.safetensors", bytes, size / 2);
    free(bytes);
    assert_int_equal(sandbox_train(0, "whole", "~--resume" RESUMED), 65);
    assert_true(HAS_LINE(sandbox_run.err, "maskrcnn: error:", "checkpoint"));
    expect_rows("whole", 24);
}

/* What must be equal for a continuation is asked for. */
static void test_resume_of_another_model(void **state) {
    (void)state;
    assert_int_equal(sandbox_train(0, "killed", "~--resume~MODEL.FPN.OUT_CHANNELS~24" RESUMED), 65);
    assert_true(HAS_LINE(sandbox_run.err, "maskrcnn: error:", "fpn", "[24,", "[16,") ||
                HAS_LINE(sandbox_run.err, "maskrcnn: error:", "fpn", "[24]", "[16]"));
    assert_int_equal(sandbox_train(0, "killed", "~--resume~SEED~99" RESUMED), 78);
    assert_true(HAS_LINE(sandbox_run.err, "maskrcnn: error:", "SEED", "99", "7"));
    char *config = sandbox_read("killed/config.yaml", NULL); /* the run's own is still there */
    assert_null(strstr(config, "OUT_CHANNELS: 24"));
    assert_null(strstr(config, "SEED: 99"));
    free(config);
}

static int make(void **state) {
    if (sandbox_make(state)) return -1;
    toy_dataset_write(sandbox_folder(), "toy", &(toy_options){.images = 10});
    toy_dataset_write(sandbox_folder(), "mixed", &(toy_options){.images = 10, .mixed_sizes = true});
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_workers),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_seed_matters),
        cmocka_unit_test(test_written_configuration),
        cmocka_unit_test(test_resume_after_kill),
        cmocka_unit_test(test_resume_on_more_ranks),
        cmocka_unit_test(test_resume_without_checkpoint),
        cmocka_unit_test(test_resume_of_a_finished_run),
        cmocka_unit_test(test_resume_from_the_one_before),
        cmocka_unit_test(test_resume_of_another_model),
    };
    return cmocka_run_group_tests(tests, make, sandbox_remove);
}
