/* The model's parameters are torchvision's, name by name and shape by shape, so that its strict loader takes our files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "setup/model_config.h"

/* Compares the parameters of a configuration with a list of lines "name size size ...". */
static void compare(const char *list, char **overrides, int override_count, int expected) {
    config cfg;
    mask_rcnn_spec spec;
    mask_rcnn model;
    if (config_load(&cfg, NULL, overrides, override_count) != STATUS_OK) fail_msg("%s", error_cause());
    assert_int_equal(model_spec_from_config(&spec, &cfg), STATUS_OK);
    assert_int_equal(mask_rcnn_init(&model, &spec), STATUS_OK);
    FILE *file = fopen(list, "r");
    assert_non_null(file);
    char line[512];
    int count = 0;
    while (fgets(line, sizeof line, file)) {
        char *next = line, *name;
        line[strcspn(line, "\n")] = 0;
        name = strsep(&next, " ");
        int index = param_store_find(&model.params, name);
        if (index < 0) fail_msg("%s is not a parameter of the model", name);
        int64_t shape[PARAM_MAX_RANK];
        int rank = param_file_shape(&model.params.params[index], shape), seen = 0;
        for (char *size; next && *next && (size = strsep(&next, " ")); seen++)
            if (seen >= rank || atoll(size) != shape[seen]) fail_msg("%s has another shape", name);
        assert_int_equal(seen, rank);
        count++;
    }
    fclose(file);
    assert_int_equal(count, expected);
    assert_int_equal(model.params.count, expected);
    mask_rcnn_release(&model);
    config_release(&cfg);
}

static void frozen_batch_norm_has_307_tensors(void **state) {
    (void)state;
    char *overrides[] = {"MODEL.ROI_HEADS.NUM_CLASSES", "90"};
    compare(TEST_SOURCE_DIR "/tests/golden/torchvision_frozen_bn.txt", overrides, 2, 307);
}

static void group_norm_has_209_tensors(void **state) {
    (void)state;
    char *overrides[] = {
        "MODEL.ROI_HEADS.NUM_CLASSES", "90", "MODEL.RESNETS.NORM", "GN", "MODEL.FPN.NORM", "GN",
        "MODEL.BACKBONE.FREEZE_AT",    "0"};
    compare(TEST_SOURCE_DIR "/tests/golden/torchvision_group_norm.txt", overrides, 8, 209);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frozen_batch_norm_has_307_tensors),
        cmocka_unit_test(group_norm_has_209_tensors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
