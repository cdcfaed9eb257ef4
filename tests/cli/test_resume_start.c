/* What a resumed run takes from its checkpoint rather than from its command line: the seed, where none is set, and the start
 * values, whatever has become of MODEL.WEIGHTS. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "run_program.h"

#define TRAIN                                                                                                \
    "maskrcnn~train~--config~" TEST_SOURCE_DIR                                                               \
    "/configs/quickstart.yaml~DATASETS.TRAIN~('syn/annotations.json:syn/images',)"                           \
    "~DATASETS.TEST~()~SOLVER.IMS_PER_BATCH~2~SOLVER.STEPS~()~SEED~-1~OUTPUT_DIR~out"

static char folder[] = "/tmp/test_resume_start_XXXXXX";
static program_run result;

static int run(const char *line) {
    run_program(&result, folder, line, 120);
    return result.code;
}

/* The number behind "seed " in what was printed. */
static long long seed_of_run(void) {
    const char *at = strstr(result.out, "seed ");
    if (!at) fail_msg("no seed in %s", result.out);
    return atoll(at + 5);
}

static void seed_and_start_values_come_from_the_checkpoint(void **state) {
    (void)state;
    if (run("maskrcnn~synth~--out~syn~--images~4~--seed~1") != 0) fail_msg("%s", result.err);
    if (run(TRAIN "~SOLVER.MAX_ITER~1") != 0) fail_msg("%s", result.err);
    long long seed = seed_of_run();
    assert_true(seed >= 0);
    if (run(TRAIN "~SOLVER.MAX_ITER~2~--resume~--weights~moved/away.safetensors") != 0)
        fail_msg("%s", result.err);
    assert_true(seed_of_run() == seed);
    assert_non_null(strstr(result.out, "resumed from out/checkpoints/iter_0000000"));
    /* A seed of one's own that is another would be another run. */
    char line[1024];
    snprintf(line, sizeof line, "%s~SOLVER.MAX_ITER~3~--resume~SEED~%lld", TRAIN, seed + 1);
    assert_int_equal(run(line), 78);
    assert_non_null(strstr(result.err, "SEED"));
    /* Without a checkpoint the weights are wanted again. */
    assert_int_equal(run("rm~-r~out/checkpoints"), 0);
    assert_int_equal(run(TRAIN "~SOLVER.MAX_ITER~2~--resume~--weights~moved/away.safetensors"), 66);
    assert_non_null(strstr(result.err, "moved/away.safetensors"));
}

static int set_up(void **state) {
    (void)state;
    return mkdtemp(folder) ? chdir(folder) : -1;
}

static int tear_down(void **state) {
    (void)state;
    run("rm~-rf~syn~out");
    return chdir("/") == 0 ? rmdir(folder) : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(seed_and_start_values_come_from_the_checkpoint)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
