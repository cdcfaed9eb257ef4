/* Losses that are not finite and images that cannot be read: what training does when the world fails
 * under way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/train_sandbox.h"
#include "data/safetensors.h"

enum { NON_FINITE = 79, BAD_DATA = 65 };

static void expect_status(const char *out, const char *state) {
    char name[256];
    snprintf(name, sizeof name, "%s/run_status.json", out);
    char *text = sandbox_read(name, NULL);
    if (!strstr(text, "\"state\"") || !strstr(text, state)) fail_msg("%s: not %s: %s", name, state, text);
    free(text);
}

static void expect_finite(const char *name) {
    safetensors *file;
    assert_int_equal(safetensors_open(&file, sandbox_path("%s", name)), STATUS_OK);
    for (int64_t i = 0; i < safetensors_count(file); i++) {
        const safetensors_tensor *t = safetensors_at(file, i);
        for (int64_t k = 0; k < t->elements; k++) {
            float value;
            memcpy(&value, (const char *)t->data + 4 * k, 4);
            if (!isfinite(value)) fail_msg("%s: %s holds %g", name, t->name, (double)value);
        }
    }
    safetensors_close(file);
}

/* One step with this rate throws the weights away; no rank goes on with what comes out of them. */
static void test_losses_run_away(void **state) {
    (void)state;
    for (int ranks = 1; ranks <= 2; ranks++) {
        char out[32], name[128], path[64];
        snprintf(out, sizeof out, "away_%d", ranks);
        int code = sandbox_train(ranks, out, "~SOLVER.BASE_LR~1e30~SOLVER.CHECKPOINT_PERIOD~1");
        if (code != NON_FINITE) fail_msg("%d ranks: exit code %d:\n%s", ranks, code, sandbox_run.err);
        assert_true(HAS_LINE(sandbox_run.err, "maskrcnn: error:", "not finite", "iteration 1", "total_loss",
                             "loss_mask", "loss_rpn_loc", "lr 1e+30"));
        assert_true(HAS_LINE(sandbox_run.err, "first bad tensor: "));
        assert_false(HAS_LINE(sandbox_run.err, "no parameter"));
        assert_int_equal(count_lines(sandbox_run.err, "maskrcnn: error:"), 1);
        assert_true(HAS_LINE(sandbox_run.err, "maskrcnn: remedy:", "SOLVER.BASE_LR"));
        /* Four of the images 101..112 are named. */
        const char *images = strstr(sandbox_run.err, "images: 1");
        assert_non_null(images);
        int ids[4];
        assert_int_equal(sscanf(images, "images: %d, %d, %d, %d", ids, ids + 1, ids + 2, ids + 3), 4);
        for (int i = 0; i < 4; i++) assert_true(ids[i] >= 101 && ids[i] <= 112);
        expect_status(out, "\"failed\"");
        assert_int_equal(access(sandbox_path("%s/model_final.safetensors", out), F_OK), -1);
        snprintf(path, sizeof path, "%s/last_checkpoint", out);
        char *last = sandbox_read(path, NULL);
        assert_non_null(strstr(last, "iter_0000000"));
        free(last);
        snprintf(name, sizeof name, "%s/checkpoints/iter_0000000/weights.safetensors", out);
        expect_finite(name);
    }
}

/* Changes one value of `tensor` in the file `from` to NaN. */
static void poison(const char *from, const char *to, const char *tensor) {
    safetensors *file;
    size_t size;
    const float bad = NAN;
    char *bytes = sandbox_read(from, &size);
    assert_int_equal(safetensors_open(&file, sandbox_path("%s", from)), STATUS_OK);
    const safetensors_tensor *t = safetensors_find(file, tensor);
    assert_non_null(t);
    uint64_t header;
    memcpy(&header, bytes, sizeof header);
    memcpy(bytes + 8 + header + t->offset + 12, &bad, sizeof bad);
    safetensors_close(file);
    sandbox_write(to, bytes, size);
    free(bytes);
}

static void test_weights_not_finite(void **state) {
    (void)state;
    sandbox_train_well(0, "start", "~SOLVER.MAX_ITER~1");
    poison("start/model_final.safetensors", "nan.safetensors", "backbone.body.layer3.0.conv1.weight");
    int code = sandbox_train(2, "poisoned", "~MODEL.WEIGHTS~nan.safetensors");
    if (code != NON_FINITE) fail_msg("exit code %d:\n%s", code, sandbox_run.err);
    assert_true(HAS_LINE(sandbox_run.err, "maskrcnn: error:", "iteration 0", "not finite", "layer3.0.conv1"));
    assert_int_equal(count_lines(sandbox_run.err, "maskrcnn: error:"), 1);
    expect_status("poisoned", "\"failed\"");
    assert_int_equal(access(sandbox_path("poisoned/model_final.safetensors"), F_OK), -1);
}

/* --- images --- */

static void cut_in_half(const char *folder, int number) {
    char name[64];
    size_t size;
    snprintf(name, sizeof name, "%s/%04d.jpg", folder, number);
    char *bytes = sandbox_read(name, &size);
    sandbox_write(name, bytes, size / 2);
    free(bytes);
}

/* Of twelve images one is cut off, one is missing: each is named once and counted, and training goes on. */
static void test_two_bad_images(void **state) {
    (void)state;
    static metrics_row rows[SANDBOX_LINES];
    toy_dataset_write(sandbox_folder(), "holes", &(toy_options){.images = 12, .jpeg = true});
    cut_in_half("holes", 3);
    assert_int_equal(unlink(sandbox_path("holes/0008.jpg")), 0);
    for (int ranks = 1; ranks <= 2; ranks++) {
        const char *out = ranks == 1 ? "holes_1" : "holes_2";
        sandbox_train_well(ranks, out, "~DATASETS.TRAIN~holes.json:holes");
        assert_int_equal(sandbox_metrics(rows, out), 10);
        assert_true(rows[9].skipped >= 6 && rows[9].skipped <= 8); /* 40 images drawn from 12 */
        for (int i = 1; i < 10; i++) assert_true(rows[i].skipped >= rows[i - 1].skipped);
        expect_status(out, "\"done\"");
        if (ranks > 1) continue;
        assert_int_equal(count_lines(sandbox_run.err, "bad image"), 2);
        assert_true(HAS_LINE(sandbox_run.err, "bad image", "0003.jpg"));
        assert_true(HAS_LINE(sandbox_run.err, "bad image", "0008.jpg"));
    }
    assert_true(sandbox_difference("holes_1/model_final.safetensors", "holes_2/model_final.safetensors") <
                1e-5);
    /* Which worker met the bad image first changes nothing. */
    sandbox_train_well(0, "holes_3", "~DATASETS.TRAIN~holes.json:holes~DATALOADER.NUM_WORKERS~3");
    assert_true(sandbox_difference("holes_1/model_final.safetensors", "holes_3/model_final.safetensors") ==
                0);
}

static void test_many_bad_images(void **state) {
    (void)state;
    toy_dataset_write(sandbox_folder(), "ruins", &(toy_options){.images = 12, .jpeg = true});
    for (int i = 3; i <= 10; i++) cut_in_half("ruins", i);
    for (int ranks = 1; ranks <= 2; ranks++) {
        int code =
            sandbox_train(ranks, ranks == 1 ? "ruins_1" : "ruins_2", "~DATASETS.TRAIN~ruins.json:ruins");
        if (code != BAD_DATA) fail_msg("%d ranks: exit code %d:\n%s", ranks, code, sandbox_run.err);
        assert_true(HAS_LINE(sandbox_run.err, "maskrcnn: error:", "different images cannot be used", ".jpg"));
        assert_true(HAS_LINE(sandbox_run.err, "maskrcnn: remedy:", "DATALOADER.MAX_BAD_IMAGE_SHARE"));
        expect_status(ranks == 1 ? "ruins_1" : "ruins_2", "\"failed\"");
    }
    sandbox_train_well(0, "ruins_3", "~DATASETS.TRAIN~ruins.json:ruins~DATALOADER.MAX_BAD_IMAGE_SHARE~0.9");
}

/* Not even one image can be read. */
static void test_no_good_image(void **state) {
    (void)state;
    toy_dataset_write(sandbox_folder(), "dust", &(toy_options){.images = 4, .jpeg = true});
    for (int i = 1; i <= 4; i++) cut_in_half("dust", i);
    assert_int_equal(sandbox_train(0, "dust_out", "~DATASETS.TRAIN~dust.json:dust"), BAD_DATA);
    assert_int_equal(
        sandbox_train(0, "dust_out", "~DATASETS.TRAIN~dust.json:dust~DATALOADER.MAX_BAD_IMAGE_SHARE~1.0"),
        BAD_DATA);
    assert_true(HAS_LINE(sandbox_run.err, "maskrcnn: error:", ".jpg"));
}

/* Things under an image's name that no decoder should wait for: a named pipe, a folder, text, another image's size. */
static void test_strange_images(void **state) {
    (void)state;
    size_t size;
    toy_dataset_write(sandbox_folder(), "zoo", &(toy_options){.images = 12});
    assert_int_equal(unlink(sandbox_path("zoo/0001.png")) || mkfifo(sandbox_path("zoo/0001.png"), 0666), 0);
    assert_int_equal(unlink(sandbox_path("zoo/0002.png")) || mkdir(sandbox_path("zoo/0002.png"), 0777), 0);
    sandbox_write("zoo/0003.png", "no picture", 10);
    toy_dataset_write(sandbox_folder(), "sizes", &(toy_options){.images = 1, .mixed_sizes = true});
    char *bytes = sandbox_read("sizes/0001.png", &size);
    sandbox_write("zoo/0004.png", bytes, size);
    free(bytes);
    sandbox_write("zoo/0005.png", "", 0);
    sandbox_train_well(
        0, "zoo_out",
        "~DATASETS.TRAIN~zoo.json:zoo~DATALOADER.MAX_BAD_IMAGE_SHARE~0.8~DATALOADER.NUM_WORKERS~2");
    for (int i = 1; i <= 5; i++) {
        char name[16];
        snprintf(name, sizeof name, "%04d.png", i);
        if (!HAS_LINE(sandbox_run.err, "image", name))
            fail_msg("%s is not named:\n%s", name, sandbox_run.err);
    }
}

/* A size that no image can have, in one record: that image is a bad one, and no memory is taken for it. */
static void test_absurd_size(void **state) {
    (void)state;
    static const char right[] = "\"width\": 64, \"height\": 64";
    char absurd[8192];
    char *json = sandbox_read("toy.json", NULL), *place = strstr(json, right);
    assert_non_null(place);
    *place = '\0';
    int size = snprintf(absurd, sizeof absurd, "%s\"width\": 65000, \"height\": 40000%s", json,
                        place + sizeof right - 1);
    assert_true(size < (int)sizeof absurd);
    sandbox_write("absurd.json", absurd, (size_t)size);
    free(json);
    sandbox_train_well(0, "absurd", "~DATASETS.TRAIN~absurd.json:toy");
    assert_true(HAS_LINE(sandbox_run.err, "0001.png", "65000 x 40000"));
}

static int make(void **state) {
    if (sandbox_make(state)) return -1;
    toy_dataset_write(sandbox_folder(), "toy", &(toy_options){.images = 12});
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_losses_run_away), cmocka_unit_test(test_weights_not_finite),
        cmocka_unit_test(test_two_bad_images),  cmocka_unit_test(test_many_bad_images),
        cmocka_unit_test(test_no_good_image),   cmocka_unit_test(test_strange_images),
        cmocka_unit_test(test_absurd_size),
    };
    return cmocka_run_group_tests(tests, make, sandbox_remove);
}
