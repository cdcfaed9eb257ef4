/* `maskrcnn info`: what it counts as a parameter, and checkpoints. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "device/device.h"
#include "train/checkpoint.h"

static char folder[] = "/tmp/test_info_command_XXXXXX";
static char printed[8192];

/* Exit code of `maskrcnn info ARGUMENTS`; both outputs are in `printed`. */
static int info(const char *arguments) {
    char line[1024];
    snprintf(line, sizeof line, "%s info %s 2>&1", TEST_PROGRAM, arguments);
    FILE *pipe = popen(line, "r");
    assert_non_null(pipe);
    printed[fread(printed, 1, sizeof printed - 1, pipe)] = 0;
    int how = pclose(pipe);
    assert_true(WIFEXITED(how));
    return WEXITSTATUS(how);
}

static void assert_prints(const char *text) {
    if (!strstr(printed, text)) fail_msg("\"%s\" is not in:\n%s", text, printed);
}

static const struct {
    const char *name;
    int rank;
    int64_t shape[4];
} tensors[] = {
    {"backbone.body.conv1.weight", 4, {64, 3, 7, 7}},
    {"backbone.body.bn1.weight", 1, {64}},
    {"backbone.body.bn1.bias", 1, {64}},
    {"backbone.body.bn1.running_mean", 1, {64}},
    {"backbone.body.bn1.running_var", 1, {64}},
    {"backbone.body.bn1.num_batches_tracked", 0, {0}},
    {"roi_heads.box_head.fc7.bias", 1, {1024}},
};

static void write_model(const char *prefix_to_cut, const char *norm) {
    safetensors_writer *w;
    int count = sizeof tensors / sizeof *tensors;
    assert_int_equal(safetensors_writer_new(&w, "model.safetensors"), STATUS_OK);
    if (norm) safetensors_writer_metadata(w, "norm", norm);
    safetensors_writer_metadata(w, "note", "two\nlines \033[31m");
    for (int i = 0; i < count; i++) {
        const char *name = tensors[i].name;
        size_t cut = strlen(prefix_to_cut);
        safetensors_writer_declare(w, strncmp(name, prefix_to_cut, cut) == 0 ? name + cut : name,
                                   SAFETENSORS_F32, tensors[i].rank, tensors[i].shape);
    }
    status s = safetensors_writer_begin(w);
    size_t values = 64 * 147 + 4 * 64 + 1 + 1024;
    float *zeros = calloc(values, sizeof *zeros);
    assert_non_null(zeros);
    if (s == STATUS_OK) s = safetensors_writer_append(w, zeros, values * sizeof *zeros);
    free(zeros);
    assert_int_equal(safetensors_writer_finish(w, s), STATUS_OK);
}

static void frozen_norms_are_no_parameters(void **state) {
    (void)state;
    write_model("", NULL);
    assert_int_equal(info("model.safetensors"), 0);
    assert_prints("kind         a backbone, ResNet, batch norm\n");
    assert_prints("names        torchvision's since 0.13\n");
    assert_prints("made for     not said\n");
    assert_prints(" (XXH64 of the file)\n");
    assert_prints("tensors      7\n");
    assert_prints("parameters   10,432 (10432)\n");
    assert_prints(" 128 in frozen norms\n");
    assert_prints(" 128 running statistics\n");
    assert_prints(" 1 counters\n");
    assert_prints("dtypes       7 x F32\n");
    assert_prints("  note: two lines  [31m\n");
    assert_prints("  backbone.body                     6 tensors          9,665 values\n");
    write_model("", "SyncBN");
    assert_int_equal(info("model.safetensors"), 0);
    assert_prints("made for     norm SyncBN\n");
    assert_prints("parameters   10,560 (10560)\n");
    write_model("backbone.body.", NULL);
    assert_int_equal(info("--tensors model.safetensors"), 0);
    assert_prints("parameters   10,560 (10560)\n");
    assert_prints("  conv1.weight                                                 F32  [64, 3, 7, 7]\n");
    unlink("model.safetensors");
}

static void classes_are_listed(void **state) {
    (void)state;
    safetensors_writer *w;
    assert_int_equal(safetensors_writer_new(&w, "model.safetensors"), STATUS_OK);
    safetensors_writer_metadata(w, "class_names", "[\"date\", \"a\\nb\"]");
    safetensors_writer_metadata(w, "iteration", "89999");
    safetensors_writer_declare(w, "roi_heads.box_predictor.cls_score.weight", SAFETENSORS_F32, 2,
                               (int64_t[]){3, 1});
    safetensors_writer_declare(w, "roi_heads.mask_predictor.conv5_mask.bias", SAFETENSORS_F32, 1,
                               (int64_t[]){1});
    status s = safetensors_writer_begin(w);
    if (s == STATUS_OK) s = safetensors_writer_append(w, (float[]){1, 2, 3, 4}, 16);
    assert_int_equal(safetensors_writer_finish(w, s), STATUS_OK);
    assert_int_equal(info("model.safetensors"), 0);
    assert_prints("kind         Mask R-CNN, ResNet\n");
    assert_prints("classes      2 and the background: date, a b\n");
    assert_prints("iteration    89999 (from 0)\n");
    unlink("model.safetensors");
}

static void checkpoints_are_verified(void **state) {
    (void)state;
    device *cpu;
    config cfg;
    param_store store;
    assert_int_equal(device_open(&cpu, "cpu"), STATUS_OK);
    assert_int_equal(config_default(&cfg), STATUS_OK);
    assert_int_equal(config_set(&cfg, "OUTPUT_DIR", "out"), STATUS_OK);
    param_store_init(&store);
    param_store_add(&store, &(param_spec){.name = "rpn.head.cls_logits.bias",
                                          .kind = PARAM_BIAS,
                                          .rank = 1,
                                          .shape = {3},
                                          .trainable = true});
    assert_int_equal(param_store_allocate(&store, cpu, NULL, true), STATUS_OK);
    assert_int_equal(checkpoint_prepare("out"), STATUS_OK);
    checkpoint_source source = {.store = &store, .cfg = &cfg};
    checkpoint_state after = {.iteration = 499, .images = 8000, .seed = 42};
    assert_int_equal(checkpoint_save(&source, &after, true), STATUS_OK);
    assert_int_equal(info("out/checkpoints/iter_0000499"), 0);
    assert_prints("all digests hold");
    assert_prints("iteration    499 (from 0), 8000 images, seed 42\n");
    assert_prints("kind         RPN, ResNet\n");
    assert_prints(
        "made for     BGR, mean [103.53, 116.28, 123.675], deviation [1, 1, 1], stride in 1x1, norm "
        "FrozenBN, eps 1e-05\n");
    assert_prints("parameters   3 (3)\n");
    assert_int_equal(truncate("out/checkpoints/iter_0000499/momentum.safetensors", 100), 0);
    assert_int_equal(info("out/checkpoints/iter_0000499"), 65);
    assert_prints("momentum.safetensors");
    assert_int_equal(info("out"), 65);
    assert_prints("no checkpoint");
    assert_int_equal(info("absent"), 66);
    assert_int_equal(info(""), 64);
    param_store_release(&store);
    config_release(&cfg);
    device_close(cpu);
    assert_int_equal(system("rm -r out"), 0);
}

static int set_up(void **state) {
    (void)state;
    return mkdtemp(folder) ? chdir(folder) : -1;
}

static int tear_down(void **state) {
    (void)state;
    return chdir("/") == 0 ? rmdir(folder) : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frozen_norms_are_no_parameters),
        cmocka_unit_test(classes_are_listed),
        cmocka_unit_test(checkpoints_are_verified),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
