/* Ten iterations of a small model on photographs with annotations made by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/train_sandbox.h"
#include "data/shared_data.h"

/* Trains and looks at the losses, the mean of the last three against the first three. */
static void train_on(const char *folder, const char *annotations, const char *images, int classes,
                     const char *counted[2]) {
    static metrics_row rows[SANDBOX_LINES];
    sandbox_train_well(
        2, "real",
        "~DATASETS.TRAIN~%s/%s:%s/"
        "%s~MODEL.ROI_HEADS.NUM_CLASSES~%d~INPUT.MIN_SIZE_TRAIN~(96,)~INPUT.MAX_SIZE_TRAIN~160"
        "~SOLVER.BASE_LR~0.02~SOLVER.CLIP_GRADIENTS.ENABLED~True~SOLVER.CLIP_GRADIENTS.CLIP_TYPE~full_model",
        folder, annotations, folder, images, classes);
    assert_true(HAS_LINE(sandbox_run.out, counted[0]));
    assert_true(HAS_LINE(sandbox_run.out, counted[1]));
    assert_int_equal(sandbox_metrics(rows, "real"), 10);
    double first = 0, last = 0;
    for (int i = 0; i < 3; i++) {
        first += rows[i].total;
        last += rows[9 - i].total;
    }
    print_message("%s: mean loss %.3f, then %.3f\n", annotations, first / 3, last / 3);
    assert_true(isfinite(rows[0].total) && rows[0].total > 0);
    assert_true(last < first);
    assert_int_equal(rows[9].skipped, 0);
}

static void test_coco(void **state) {
    (void)state;
    char folder[PATH_MAX];
    if (!shared_folder(folder, "coco_subset_val80")) skip();
    train_on(folder, "instances_val2017.json", "val2017", 80,
             (const char *[2]){"80 images", "815 annotations"});
}

static void test_fruits_nuts(void **state) {
    (void)state;
    char folder[PATH_MAX];
    if (!shared_folder(folder, "fruits_nuts")) skip();
    train_on(folder, "trainval.json", "images", 3, (const char *[2]){"18 images", "165 annotations"});
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_coco),
        cmocka_unit_test(test_fruits_nuts),
    };
    return cmocka_run_group_tests(tests, sandbox_make, sandbox_remove);
}
