#include "train/schedule.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

typedef struct expected_lr {
    int64_t iteration;
    double lr;
} expected_lr;

static config load(const char *settings) {
    char text[1024];
    char *words[64];
    int count = 0;
    assert_true(strlen(settings) < sizeof text);
    strcpy(text, settings);
    for (char *word = strtok(text, " "); word; word = strtok(NULL, " ")) words[count++] = word;
    config cfg;
    status result = config_load(&cfg, NULL, words, count);
    if (result != STATUS_OK) fail_msg("%s", error_cause());
    return cfg;
}

static void check(const char *settings, const expected_lr *expected, size_t count) {
    config cfg = load(settings);
    schedule s;
    assert_int_equal(schedule_init(&s, &cfg), STATUS_OK);
    for (size_t i = 0; i < count; i++) {
        double lr = schedule_lr(&s, expected[i].iteration);
        if (!(fabs(lr - expected[i].lr) <= 1e-15 + 1e-14 * fabs(expected[i].lr)))
            fail_msg("%s: iteration %lld: %.17g instead of %.17g", settings, (long long)expected[i].iteration,
                     lr, expected[i].lr);
    }
    config_release(&cfg);
}

#define CHECK_LR(settings, ...)                                                                              \
    do {                                                                                                     \
        const expected_lr expected[] = {__VA_ARGS__};                                                        \
        check(settings, expected, sizeof expected / sizeof *expected);                                       \
    } while (0)

/* Values from detectron2's WarmupParamScheduler over fvcore 0.1.5.post20221221. */
static void rates_are_detectron2s(void **state) {
    (void)state;
    CHECK_LR("SOLVER.BASE_LR .02 SOLVER.MAX_ITER 90000 SOLVER.STEPS (60000,80000)", /* 1x */
             {0, 2.0000000000000002e-05}, {1, 3.998e-05}, {499, 0.0099900200000000005},
             {999, 0.019980020000000001}, {1000, 0.02}, {1001, 0.02}, {59999, 0.02}, {60000, 0.002},
             {79999, 0.002}, {80000, 0.00020000000000000004}, {89999, 0.00020000000000000004});
    CHECK_LR("SOLVER.BASE_LR .02 SOLVER.MAX_ITER 90000 SOLVER.STEPS (60000,80000) SOLVER.WARMUP_FACTOR "
             "0.3333333333333333 "
             "SOLVER.WARMUP_ITERS 500", /* Detectron */
             {0, 0.0066666666666666662}, {1, 0.0066933333333333333}, {250, 0.013333333333333332},
             {499, 0.019973333333333336}, {500, 0.02}, {501, 0.02}, {59999, 0.02}, {60000, 0.002},
             {89999, 0.00020000000000000004});
    CHECK_LR("SOLVER.BASE_LR .01 SOLVER.GAMMA .5 SOLVER.MAX_ITER 100 SOLVER.STEPS (30,31,70) "
             "SOLVER.WARMUP_FACTOR .25 "
             "SOLVER.WARMUP_ITERS 10 SOLVER.WARMUP_METHOD constant",
             {0, 0.0025000000000000001}, {9, 0.0025000000000000001}, {10, 0.01}, {29, 0.01},
             {30, 0.0050000000000000001}, {31, 0.0025000000000000001}, {69, 0.0025000000000000001},
             {70, 0.00125}, {99, 0.00125});
    CHECK_LR("SOLVER.BASE_LR .005 SOLVER.MAX_ITER 500 SOLVER.STEPS (400,) SOLVER.WARMUP_ITERS 0",
             {0, 0.0050000000000000001}, {1, 0.0050000000000000001}, {399, 0.0050000000000000001},
             {400, 0.00050000000000000001}, {499, 0.00050000000000000001});
    CHECK_LR("SOLVER.BASE_LR .1 SOLVER.MAX_ITER 100 SOLVER.STEPS (50,) SOLVER.WARMUP_FACTOR .01 "
             "SOLVER.WARMUP_ITERS 60",
             {0, 0.001}, {30, 0.0055000000000000005}, {49, 0.0083500000000000015},
             {50, 0.0085000000000000006}, {59, 0.0098499999999999994}, {60, 0.010000000000000002},
             {61, 0.010000000000000002}, {99, 0.010000000000000002});
    CHECK_LR("SOLVER.BASE_LR .1 SOLVER.MAX_ITER 20 SOLVER.STEPS () SOLVER.WARMUP_FACTOR 0 "
             "SOLVER.WARMUP_ITERS 1000",
             {0, 0}, {1, 0.005000000000000001}, {10, 0.050000000000000003}, {19, 0.095000000000000001});
    CHECK_LR("SOLVER.LR_SCHEDULER_NAME WarmupCosineLR SOLVER.BASE_LR .02 SOLVER.BASE_LR_END .0002 "
             "SOLVER.MAX_ITER 1000 "
             "SOLVER.WARMUP_ITERS 100",
             {0, 2.0000000000000002e-05}, {50, 0.0097677297556610105}, {99, 0.019320504916208802},
             {100, 0.019515459511322022}, {101, 0.019505802089097638}, {500, 0.0101},
             {999, 0.0002000488545016037});
    CHECK_LR(
        "SOLVER.LR_SCHEDULER_NAME WarmupCosineLR SOLVER.BASE_LR .3 SOLVER.MAX_ITER 7 SOLVER.WARMUP_ITERS 0",
        {0, 0.29999999999999999}, {1, 0.28514533018536287}, {3, 0.18337814009344713},
        {6, 0.014854669814637143});
}

static void steps_behind_the_end_are_ignored(void **state) {
    (void)state;
    CHECK_LR("SOLVER.BASE_LR 1 SOLVER.MAX_ITER 10 SOLVER.STEPS (5,10,20) SOLVER.WARMUP_ITERS 0", {4, 1},
             {5, .1}, {9, .1});
    config cfg = load("SOLVER.LR_SCHEDULER_NAME WarmupCosineLR SOLVER.BASE_LR .1 SOLVER.BASE_LR_END .2");
    schedule s;
    assert_int_equal(schedule_init(&s, &cfg), STATUS_CONFIG);
    assert_non_null(strstr(error_cause(), "SOLVER.BASE_LR_END"));
    config_release(&cfg);
}

/* The example in detectron2's auto_scale_workers, then odd numbers (rounding half to even, periods of at
 * least 1). */
static void a_config_is_scaled_to_the_ranks(void **state) {
    (void)state;
    config cfg =
        load("SOLVER.IMS_PER_BATCH 16 SOLVER.BASE_LR .1 SOLVER.REFERENCE_WORLD_SIZE 8 SOLVER.MAX_ITER 5000 "
             "SOLVER.STEPS (4000,) SOLVER.CHECKPOINT_PERIOD 1000 SOLVER.WARMUP_ITERS 1000");
    assert_int_equal(schedule_scale_to_ranks(&cfg, 16), STATUS_OK);
    assert_int_equal(cfg.SOLVER_IMS_PER_BATCH, 32);
    assert_true(cfg.SOLVER_BASE_LR == .2);
    assert_int_equal(cfg.SOLVER_MAX_ITER, 2500);
    assert_int_equal(cfg.SOLVER_STEPS.values[0], 2000);
    assert_int_equal(cfg.SOLVER_CHECKPOINT_PERIOD, 500);
    assert_int_equal(cfg.SOLVER_WARMUP_ITERS, 500);
    assert_int_equal(cfg.TEST_EVAL_PERIOD, 0);
    assert_int_equal(cfg.SOLVER_REFERENCE_WORLD_SIZE, 16);
    assert_int_equal(schedule_scale_to_ranks(&cfg, 16), STATUS_OK);
    assert_int_equal(cfg.SOLVER_IMS_PER_BATCH, 32);
    config_release(&cfg);

    cfg = load("SOLVER.IMS_PER_BATCH 4 SOLVER.REFERENCE_WORLD_SIZE 2 SOLVER.MAX_ITER 25 SOLVER.STEPS (5,7) "
               "SOLVER.CHECKPOINT_PERIOD 1 SOLVER.WARMUP_ITERS 3 TEST.EVAL_PERIOD 1");
    assert_int_equal(schedule_scale_to_ranks(&cfg, 4), STATUS_OK);
    assert_int_equal(cfg.SOLVER_MAX_ITER, 12); /* 12.5 */
    assert_int_equal(cfg.SOLVER_STEPS.values[0], 2);
    assert_int_equal(cfg.SOLVER_STEPS.values[1], 4);
    assert_int_equal(cfg.SOLVER_WARMUP_ITERS, 2);
    assert_int_equal(cfg.SOLVER_CHECKPOINT_PERIOD, 1);
    assert_int_equal(cfg.TEST_EVAL_PERIOD, 1);
    cfg.SOLVER_IMS_PER_BATCH = 7;
    assert_int_equal(schedule_scale_to_ranks(&cfg, 1), STATUS_CONFIG);
    assert_non_null(strstr(error_cause(), "SOLVER.IMS_PER_BATCH: 7"));
    config_release(&cfg);
    cfg = load("SOLVER.IMS_PER_BATCH 7");
    assert_int_equal(schedule_scale_to_ranks(&cfg, 3), STATUS_OK);
    assert_int_equal(cfg.SOLVER_IMS_PER_BATCH, 7);
    config_release(&cfg);
}

/* Nothing is scaled to what its key could not hold: the saved configuration must be readable. */
static void scaling_beyond_a_range_is_refused(void **state) {
    (void)state;
    static const char *const lines[] = {
        "SOLVER.REFERENCE_WORLD_SIZE 8 SOLVER.IMS_PER_BATCH 8 SOLVER.MAX_ITER 1000000000",
        "SOLVER.REFERENCE_WORLD_SIZE 8 SOLVER.IMS_PER_BATCH 8 SOLVER.STEPS (1000000000,)"};
    static const char *const keys[] = {"SOLVER.MAX_ITER", "SOLVER.STEPS"};
    for (int i = 0; i < 2; i++) {
        config cfg = load(lines[i]);
        assert_int_equal(schedule_scale_to_ranks(&cfg, 1), STATUS_CONFIG);
        assert_non_null(strstr(error_cause(), keys[i]));
        config_release(&cfg);
    }
    config cfg = load("SOLVER.REFERENCE_WORLD_SIZE 1 SOLVER.IMS_PER_BATCH 65536");
    assert_int_equal(schedule_scale_to_ranks(&cfg, 2), STATUS_CONFIG);
    assert_non_null(strstr(error_cause(), "SOLVER.IMS_PER_BATCH"));
    config_release(&cfg);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rates_are_detectron2s),
        cmocka_unit_test(steps_behind_the_end_are_ignored),
        cmocka_unit_test(a_config_is_scaled_to_the_ranks),
        cmocka_unit_test(scaling_beyond_a_range_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
