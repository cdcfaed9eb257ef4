/* With one seed and one global batch the number of ranks changes nothing: losses of the first iteration to 1e-6 relative,
 * weights after ten to 1e-5. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/train_sandbox.h"

#define LOSSES_WITHIN 1e-6
#define WEIGHTS_WITHIN 1e-5

/* Rounding differs with the number of ranks, and a random start scores all proposals nearly alike: there it decides which of
 * two is taken. Hence a start that has learned a little, and a rate at which one proposal is worth less than 1e-5. */
#define START "~MODEL.WEIGHTS~start/model_final.safetensors"
#define RATE "~SOLVER.BASE_LR~0.002"

static void compare_first_losses(const char *one, const char *other, int iterations) {
    static metrics_row a[SANDBOX_LINES], b[SANDBOX_LINES];
    assert_int_equal(sandbox_metrics(a, one), iterations);
    assert_int_equal(sandbox_metrics(b, other), iterations);
    assert_true(isfinite(a[0].total) && a[0].total > 0);
    for (int i = 0; i < SANDBOX_LOSSES; i++) {
        double x = a[0].losses[i], y = b[0].losses[i];
        if (!(fabs(x - y) <= LOSSES_WITHIN * fabs(x)))
            fail_msg("%s and %s: loss %d is %.9g and %.9g", one, other, i, x, y);
    }
    if (!(fabs(a[0].total - b[0].total) <= LOSSES_WITHIN * a[0].total))
        fail_msg("%s and %s: total %.9g and %.9g", one, other, a[0].total, b[0].total);
}

/* Runs 1 and `fewest` to 4 ranks with the same words, `iterations` long. */
static void compare_ranks(const char *name, int fewest, int iterations, double within, const char *words) {
    char one[64], other[64], a[128], b[128];
    snprintf(one, sizeof one, "%s_1", name);
    sandbox_train_well(1, one, RATE "~SOLVER.MAX_ITER~%d%s", iterations, words);
    snprintf(a, sizeof a, "%s/model_final.safetensors", one);
    for (int ranks = fewest; ranks <= 4; ranks *= 2) {
        snprintf(other, sizeof other, "%s_%d", name, ranks);
        sandbox_train_well(ranks, other, RATE "~SOLVER.MAX_ITER~%d%s", iterations, words);
        compare_first_losses(one, other, iterations);
        snprintf(b, sizeof b, "%s/model_final.safetensors", other);
        double difference = sandbox_difference(a, b);
        print_message("%s: 1 and %d ranks: weights differ by %.2g\n", name, ranks, difference);
        assert_true(difference <= within);
    }
}

static void test_random_start(void **state) {
    (void)state;
    compare_ranks("random", 4, 3, 1e-4, "");
}

static void test_images_of_one_size(void **state) {
    (void)state;
    compare_ranks("even", 2, 10, WEIGHTS_WITHIN, START);
    /* The comparison would see nothing if nothing was learned. */
    sandbox_train_well(1, "shorter", RATE "~SOLVER.MAX_ITER~9" START);
    assert_true(sandbox_difference("even_1/model_final.safetensors", "shorter/model_final.safetensors") >
                1e-4);
}

static void test_mixed_sizes(void **state) {
    (void)state;
    compare_ranks("mixed", 2, 10, WEIGHTS_WITHIN,
                  START "~--deterministic~DATASETS.TRAIN~mixed.json:mixed~INPUT.MIN_SIZE_TRAIN~(48,64)");
}

/* Every iteration has ranks whose images hold no object: 9 of 12 images are empty. */
static void test_ranks_without_objects(void **state) {
    (void)state;
    compare_ranks("sparse", 4, 10, WEIGHTS_WITHIN,
                  START "~DATASETS.TRAIN~sparse.json:sparse~DATALOADER.FILTER_EMPTY_ANNOTATIONS~False");
}

/* No rank has any object: the losses over objects are 0, and nothing is divided by it. */
static void test_batches_without_objects(void **state) {
    (void)state;
    static metrics_row rows[SANDBOX_LINES];
    compare_ranks("bare", 4, 6, WEIGHTS_WITHIN,
                  START "~DATASETS.TRAIN~bare.json:bare~DATALOADER.FILTER_EMPTY_ANNOTATIONS~False");
    int bare = 0;
    assert_int_equal(sandbox_metrics(rows, "bare_4"), 6);
    for (int i = 0; i < 6; i++)
        bare += rows[i].losses[1] == 0 && rows[i].losses[2] == 0 && rows[i].losses[4] == 0;
    assert_true(bare >= 3); /* 8 images, 1 with objects */
}

static void test_batch_norm_over_ranks(void **state) {
    (void)state;
#define SYNC "~MODEL.RESNETS.NORM~SyncBN~MODEL.FPN.NORM~SyncBN~MODEL.ROI_MASK_HEAD.NORM~SyncBN"
    sandbox_train_well(0, "sync_start", "~SOLVER.MAX_ITER~40~SOLVER.BASE_LR~0.02" SYNC);
    compare_ranks("sync", 2, 10, WEIGHTS_WITHIN, "~MODEL.WEIGHTS~sync_start/model_final.safetensors" SYNC);
}

static void test_boxes_only(void **state) {
    (void)state;
    compare_ranks("boxes", 4, 10, WEIGHTS_WITHIN, START "~MODEL.MASK_ON~False");
}

static int make(void **state) {
    if (sandbox_make(state)) return -1;
    toy_dataset_write(sandbox_folder(), "toy", &(toy_options){.images = 12});
    toy_dataset_write(sandbox_folder(), "mixed", &(toy_options){.images = 12, .mixed_sizes = true});
    toy_dataset_write(sandbox_folder(), "sparse", &(toy_options){.images = 12, .empty_from = 3});
    toy_dataset_write(sandbox_folder(), "bare", &(toy_options){.images = 8, .empty_from = 1});
    sandbox_train_well(0, "start", "~SOLVER.MAX_ITER~60~SOLVER.BASE_LR~0.02");
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_start),
        cmocka_unit_test(test_images_of_one_size),
        cmocka_unit_test(test_mixed_sizes),
        cmocka_unit_test(test_ranks_without_objects),
        cmocka_unit_test(test_batches_without_objects),
        cmocka_unit_test(test_batch_norm_over_ranks),
        cmocka_unit_test(test_boxes_only),
    };
    return cmocka_run_group_tests(tests, make, sandbox_remove);
}
