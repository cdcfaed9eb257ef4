/* YAML files: detectron2's forms, _BASE_, limits, writing and reading back, the presets. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "config/config.h"

static char folder[] = "/tmp/test_config_files_XXXXXX";

static const char *in_folder(const char *name) {
    static char paths[4][256];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static void write_text(const char *name, const char *text) {
    FILE *f = fopen(in_folder(name), "w");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
    assert_int_equal(fclose(f), 0);
}

static status load_yaml(config *cfg, const char *text) {
    return config_load_text(cfg, "file.yaml", text, strlen(text));
}

static void expect_refusal(const char *text, const char *cause, const char *remedy) {
    config cfg;
    status s = load_yaml(&cfg, text);
    if (s != STATUS_CONFIG) fail_msg("%s: status %d (%s)", text, s, error_cause());
    if (!strstr(error_cause(), cause)) fail_msg("cause \"%s\" lacks \"%s\"", error_cause(), cause);
    if (!strstr(error_remedy(), remedy)) fail_msg("remedy \"%s\" lacks \"%s\"", error_remedy(), remedy);
    assert_null(cfg.memory);
}

static void expect_equal(config *a, config *b) {
    for (int k = 0; k < CONFIG_KEY_COUNT; k++)
        if (strcmp(config_format(a, k), config_format(b, k)) != 0)
            fail_msg("%s: %s is not %s", config_keys[k].name, config_format(a, k), config_format(b, k));
}

static void test_value_forms(void **state) {
    (void)state;
    config cfg;
    status s = load_yaml(&cfg, "# a comment\n"
                               "MODEL:\n"
                               "  MASK_ON: True\n"
                               "  PIXEL_MEAN: [1, 2.5, 3e0]\n"
                               "  RPN: {SMOOTH_L1_BETA: 1e-1, LOSS_WEIGHT: 2}\n"
                               "  ROI_HEADS:\n" /* a section whose lines are all commented out */
                               "  ANCHOR_GENERATOR:\n"
                               "    SIZES:\n"
                               "    - [8]\n"
                               "    - (16,)\n"
                               "    - - 32\n"
                               "    - [64]\n"
                               "    - [128]\n"
                               "DATASETS:\n"
                               "  TRAIN: (\"coco_2017_train\",)\n"
                               "  TEST: ()\n"
                               "SOLVER:\n"
                               "  STEPS: \"(60000, 80000)\"\n"
                               "  WEIGHT_DECAY_BIAS: null\n"
                               "  WEIGHT_DECAY_NORM: ~\n"
                               "  CLIP_GRADIENTS: {\"ENABLED\": yes}\n"
                               "OUTPUT_DIR: 'a b'\n"
                               "VERSION: 2\n");
    if (s != STATUS_OK) fail_msg("%s", error_cause());
    assert_true(cfg.MODEL_MASK_ON && cfg.SOLVER_CLIP_GRADIENTS_ENABLED);
    assert_true(cfg.MODEL_PIXEL_MEAN.values[1] == 2.5 && cfg.MODEL_PIXEL_MEAN.values[2] == 3.0);
    assert_true(cfg.MODEL_RPN_SMOOTH_L1_BETA == 0.1 && cfg.MODEL_RPN_LOSS_WEIGHT == 2.0);
    assert_true(cfg.MODEL_ANCHOR_GENERATOR_SIZES.values[1].values[0] == 16.0);
    assert_true(cfg.MODEL_ANCHOR_GENERATOR_SIZES.values[2].values[0] == 32.0);
    assert_int_equal(cfg.DATASETS_TRAIN.count, 1);
    assert_string_equal(cfg.DATASETS_TRAIN.values[0], "coco_2017_train");
    assert_int_equal(cfg.DATASETS_TEST.count, 0);
    assert_int_equal(cfg.SOLVER_STEPS.values[0], 60000);
    assert_false(cfg.SOLVER_WEIGHT_DECAY_BIAS.is_set || cfg.SOLVER_WEIGHT_DECAY_NORM.is_set);
    assert_string_equal(cfg.OUTPUT_DIR, "a b");
    assert_int_equal(cfg.origins[CONFIG_KEY_SOLVER_STEPS].line, 18);
    assert_string_equal(cfg.files[cfg.origins[CONFIG_KEY_SOLVER_STEPS].file], "file.yaml");
    config_release(&cfg);
    assert_int_equal(load_yaml(&cfg, ""), STATUS_OK);
    config_release(&cfg);
}

static void test_refused(void **state) {
    (void)state;
    static const struct {
        const char *text, *cause, *remedy;
    } cases[] = {
        {"SOLVER:\n  MAX_ITERS: 3\n", "file.yaml:2: unknown key SOLVER.MAX_ITERS", "SOLVER.MAX_ITER?"},
        {"SOLVR:\n  MAX_ITER: 3\n", "file.yaml:1: unknown key SOLVR", ""},
        {"SOLVER:\n  MAX_ITER: many\n", "file.yaml:2: SOLVER.MAX_ITER = many: expected an integer",
         "SOLVER.MAX_ITER 40000"},
        {"SOLVER:\n  MAX_ITER:\n", "file.yaml:2: SOLVER.MAX_ITER = \"\"", ""},
        {"SOLVER:\n  MAX_ITER: {A: 1}\n", "file.yaml:2: SOLVER.MAX_ITER is a key, not a section", ""},
        {"SOLVER: 3\n", "file.yaml:1: SOLVER is a section, not a key", ""},
        {"SOLVER: [1]\n", "file.yaml:1: SOLVER is a section, not a key", ""},
        {"SOLVER:\n  MAX_ITER: 1\n  MAX_ITER: 1\n",
         "file.yaml:3: SOLVER.MAX_ITER stands twice, first on line 2", ""},
        {"SOLVER:\n  MAX_ITER: 1\nTEST: {}\nSOLVER:\n  GAMMA: 1\n",
         "file.yaml:4: SOLVER stands twice, first on line 1", ""},
        {"SOLVER.MAX_ITER: 1\nSOLVER:\n  MAX_ITER: 1\n", "file.yaml:3: SOLVER.MAX_ITER stands twice", ""},
        {"_BASE_: a\n_BASE_: b\n", "file.yaml:2: _BASE_ stands twice", ""},
        {"_BASE_: [a, b]\n", "file.yaml:1: _BASE_: expected the name of one file", ""},
        {"SOLVER:\n  _BASE_: a\n", "unknown key SOLVER._BASE_", ""},
        {"SOLVER: &s\n  MAX_ITER: 1\n", "file.yaml:1: anchors and aliases", ""},
        {"SEED: *s\n", "*s: no value before it", ""},
        {"SOLVER:\n  <<: {MAX_ITER: 1}\n", "unknown key SOLVER.<<", ""},
        {"SEED: !python/object:os.system 1\n", "file.yaml:1: the tag !python/object:os.system", ""},
        {"SEED: 1\n---\nSEED: 2\n", "file.yaml:2: a second document", ""},
        {"- 1\n", "file.yaml:1: expected KEY: VALUE lines", ""},
        {"just text\n", "file.yaml:1: expected KEY: VALUE lines", ""},
        {"SOLVER:\n\tMAX_ITER: 1\n", "file.yaml:2: not YAML", "never tabs"},
        {"SOLVER: {MAX_ITER: 1\n", "not YAML", ""},
        {"OUTPUT_DIR: \"a\\0b\"\n", "file.yaml:1: a value holds a zero byte", ""},
        {"OUTPUT_DIR: \xFF\n", "not YAML", "UTF-8"},
        {"? [1]\n: 2\n", "where a key's name is expected", ""},
        {"MODEL:\n  RESNETS:\n    DEPTH: 52\n", "MODEL.RESNETS.DEPTH = 52", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_refusal(cases[i].text, cases[i].cause, cases[i].remedy);
}

/* `unit` a hundred thousand times behind `before`: refused within the limit of time, which a quadratic parser
 * would miss. */
static void expect_quick_refusal(const char *before, const char *unit) {
    size_t n = strlen(unit), start = strlen(before), size = start + n * 100000;
    char *text = malloc(size);
    assert_non_null(text);
    memcpy(text, before, start);
    for (size_t i = start; i < size; i += n) memcpy(text + i, unit, n);
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    config cfg;
    assert_int_equal(config_load_text(&cfg, "deep.yaml", text, size), STATUS_CONFIG);
    clock_gettime(CLOCK_MONOTONIC, &b);
    assert_true((double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec) < 5.0);
    free(text);
}

static void test_limits(void **state) {
    (void)state;
    static const char *const units[] = {"[",    "{",   "- ", "? ", "[\n", "[[a,",
                                        "{a: ", "&a ", "\"", "{[", "|\n"};
    static const char *const places[] = {"", "OUTPUT_DIR: ", "SOLVER:\n  STEPS: [",
                                         "MODEL: ", "SOLVER: {STEPS: "};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        for (size_t k = 0; k < sizeof places / sizeof *places; k++) expect_quick_refusal(places[k], units[i]);
    expect_refusal(
        "OUTPUT_DIR: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]\n",
        "deeper than 32", "");
    /* 256 KB are accepted, one byte more is not. */
    enum { LIMIT = 256 * 1024 };
    char *text = malloc(LIMIT + 1);
    assert_non_null(text);
    memset(text, '\n', LIMIT + 1);
    config cfg;
    assert_int_equal(config_load_text(&cfg, "large.yaml", text, LIMIT), STATUS_OK);
    config_release(&cfg);
    assert_int_equal(config_load_text(&cfg, "large.yaml", text, LIMIT + 1), STATUS_CONFIG);
    assert_non_null(strstr(error_cause(), "larger than 256 KB"));
    /* Bytes that take four times as many when they are written out. */
    memset(text, 1, 80000);
    memcpy(text, "OUTPUT_DIR: \"", 13);
    for (int i = 13; i < 80000 - 4; i += 4) memcpy(text + i, "\\x01", 4);
    text[80000 - 3] = '"';
    text[80000 - 2] = text[80000 - 1] = '\n';
    assert_int_equal(config_load_text(&cfg, "escapes.yaml", text, 80000), STATUS_OK);
    config_release(&cfg);
    char *const override[] = {text};
    memset(text, 1, 80000);
    memcpy(text, "OUTPUT_DIR=", 11);
    text[80000] = '\0';
    assert_int_equal(config_load(&cfg, NULL, override, 1), STATUS_CONFIG);
    assert_non_null(strstr(error_cause(), "larger than 240 KB"));
    free(text);
}

static void test_aliases(void **state) {
    (void)state;
    config cfg;
    assert_int_equal(load_yaml(&cfg, "SOLVER:\n  BASE_LR: &lr 0.5\n  BASE_LR_END: *lr\n"
                                     "MODEL:\n  PIXEL_MEAN: &three [1, *lr, 3]\n  PIXEL_STD: *three\n"),
                     STATUS_OK);
    assert_true(cfg.SOLVER_BASE_LR_END == 0.5 && cfg.MODEL_PIXEL_STD.values[1] == 0.5 &&
                cfg.MODEL_PIXEL_STD.count == 3);
    config_release(&cfg);
    static const char *const seeds[] = {"[x, x]", "[]", "''"};
    for (int k = 0; k < 3; k++) {
        char text[4096];
        snprintf(text, sizeof text, "TEST:\n  EXPECTED_RESULTS:\n  - &a0 %s\n", seeds[k]);
        for (int i = 1; i < 25; i++) {
            size_t n = strlen(text);
            snprintf(text + n, sizeof text - n, "  - &a%d [*a%d, *a%d, *a%d, *a%d]\n", i, i - 1, i - 1, i - 1,
                     i - 1);
        }
        expect_refusal(text, "more than 256 KB of text", "");
    }
}

static void test_bases(void **state) {
    (void)state;
    config cfg;
    mkdir(in_folder("sub"), 0777);
    write_text("base.yaml", "SOLVER:\n  MAX_ITER: 1\n  GAMMA: 0.5\n");
    write_text("sub/middle.yaml", "_BASE_: \"../base.yaml\"\nSOLVER:\n  MAX_ITER: 2\n");
    write_text("top.yaml", "SEED: 9\n_BASE_: sub/middle.yaml\n");
    char *const overrides[] = {"SEED", "4"};
    assert_int_equal(config_load(&cfg, in_folder("top.yaml"), overrides, 2), STATUS_OK);
    assert_int_equal(cfg.SOLVER_MAX_ITER, 2);
    assert_true(cfg.SOLVER_GAMMA == 0.5);
    assert_int_equal(cfg.SEED, 4);
    assert_int_equal(cfg.file_count, 3);
    assert_string_equal(cfg.files[cfg.origins[CONFIG_KEY_SOLVER_GAMMA].file], in_folder("sub/../base.yaml"));
    config_release(&cfg);

    write_text("absolute.yaml", "");
    char text[512];
    snprintf(text, sizeof text, "_BASE_: %s\n", in_folder("base.yaml"));
    write_text("absolute.yaml", text);
    assert_int_equal(config_load(&cfg, in_folder("absolute.yaml"), NULL, 0), STATUS_OK);
    assert_int_equal(cfg.SOLVER_MAX_ITER, 1);
    config_release(&cfg);

    write_text("lost.yaml", "\n_BASE_: gone.yaml\n");
    assert_int_equal(config_load(&cfg, in_folder("lost.yaml"), NULL, 0), STATUS_NO_INPUT);
    assert_non_null(strstr(error_cause(), "lost.yaml:2: "));
    assert_non_null(strstr(error_cause(), "gone.yaml"));
    write_text("self.yaml", "_BASE_: self.yaml\n");
    assert_int_equal(config_load(&cfg, in_folder("self.yaml"), NULL, 0), STATUS_CONFIG);
    assert_non_null(strstr(error_cause(), "leads back to itself"));
    write_text("a.yaml", "_BASE_: sub/../b.yaml\n");
    write_text("b.yaml", "_BASE_: ./a.yaml\n");
    assert_int_equal(config_load(&cfg, in_folder("a.yaml"), NULL, 0), STATUS_CONFIG);
    assert_non_null(strstr(error_cause(), "leads back to itself"));
    for (int i = 0; i < 20; i++) {
        char name[32];
        snprintf(name, sizeof name, "chain%d.yaml", i);
        snprintf(text, sizeof text, "_BASE_: chain%d.yaml\n", i + 1);
        write_text(name, text);
    }
    assert_int_equal(config_load(&cfg, in_folder("chain0.yaml"), NULL, 0), STATUS_CONFIG);
    assert_non_null(strstr(error_cause(), "more than 16 files"));
    write_text("odd.yaml", "_BASE_: /dev/zero\n");
    assert_int_equal(config_load(&cfg, in_folder("odd.yaml"), NULL, 0), STATUS_NO_INPUT);
}

static void test_missing(void **state) {
    (void)state;
    config cfg;
    assert_int_equal(config_load(&cfg, in_folder("nothing.yaml"), NULL, 0), STATUS_NO_INPUT);
    assert_non_null(strstr(error_cause(), "nothing.yaml"));
    assert_int_equal(config_load(&cfg, folder, NULL, 0), STATUS_NO_INPUT);
    assert_non_null(strstr(error_cause(), "is a folder"));
    assert_int_equal(config_load(&cfg, "/dev/zero", NULL, 0), STATUS_CONFIG);
    assert_non_null(strstr(error_cause(), "larger than"));
}

/* Awkward values of every type survive writing and reading; a second write gives the same bytes. */
static void test_round_trip(void **state) {
    (void)state;
    static char *const overrides[] = {
        "OUTPUT_DIR",
        "a\"b\\c\n\x01\x7F\xC2\x85\xEF\xBB\xBF\xEF\xBF\xBE # x: y",
        "MODEL.WEIGHTS",
        "'\"quoted\"'",
        "SOLVER.BASE_LR=0.1111111111111111",
        "SOLVER.WEIGHT_DECAY_NORM=None",
        "SOLVER.CLIP_GRADIENTS.NORM_TYPE=.inf",
        "DATASETS.TRAIN=('', '(x)', \"a,b\", '#', 'True')",
        "SEED=-9007199254740992",
        "TEST.EXPECTED_RESULTS=[['a \"b\"', 1.0], []]",
        "MODEL.ANCHOR_GENERATOR.SIZES=[[1e-3, 1e20]]",
        "SOLVER.STEPS=()",
    };
    config first, second;
    status s = config_load(&first, NULL, overrides, sizeof overrides / sizeof *overrides);
    if (s != STATUS_OK) fail_msg("%s", error_cause());
    assert_int_equal(config_write_yaml(&first, in_folder("out.yaml")), STATUS_OK);
    s = config_load(&second, in_folder("out.yaml"), NULL, 0);
    if (s != STATUS_OK) fail_msg("%s", error_cause());
    expect_equal(&first, &second);
    assert_string_equal(second.OUTPUT_DIR, overrides[1]);
    assert_int_equal(config_write_yaml(&second, in_folder("again.yaml")), STATUS_OK);
    char a[65536] = "", b[65536] = "";
    FILE *f = fopen(in_folder("out.yaml"), "r"), *g = fopen(in_folder("again.yaml"), "r");
    assert_true(f && g && fread(a, 1, sizeof a - 1, f) > 1000 && fread(b, 1, sizeof b - 1, g) > 1000);
    fclose(f);
    fclose(g);
    assert_string_equal(a, b);
    config_release(&first);
    config_release(&second);
    assert_int_equal(config_default(&first), STATUS_OK);
    assert_int_not_equal(config_write_yaml(&first, in_folder("no/such/folder.yaml")), STATUS_OK);
    config_release(&first);
}

/* What detectron2 itself writes as its resolved 1x recipe has all of its keys, and says what our preset says. */
static void test_against_detectron2(void **state) {
    (void)state;
    config theirs, ours;
    char *const name_our_sets[] = {"DATASETS.REGISTER=()", "MODEL.DEVICE=cuda"};
    status s = config_load(&theirs, TEST_SOURCE_DIR "/tests/golden/detectron2_1x_resolved.yaml", NULL, 0);
    if (s != STATUS_OK) fail_msg("%s", error_cause());
    s = config_load(&ours, TEST_SOURCE_DIR "/configs/mask_rcnn_R_50_FPN_1x.yaml", name_our_sets, 2);
    if (s != STATUS_OK) fail_msg("%s", error_cause());
    expect_equal(&theirs, &ours);
    for (int k = 0; k < CONFIG_KEY_COUNT; k++)
        if (!config_keys[k].help && theirs.origins[k].file == CONFIG_FROM_DEFAULT)
            fail_msg("%s is no key of detectron2, and has no effect here either", config_keys[k].name);
    config_release(&theirs);
    config_release(&ours);
}

static void load_preset(config *cfg, const char *name) {
    char path[512];
    snprintf(path, sizeof path, TEST_SOURCE_DIR "/configs/%s.yaml", name);
    status s = config_load(cfg, path, NULL, 0);
    if (s != STATUS_OK) fail_msg("%s", error_cause());
}

static void test_presets(void **state) {
    (void)state;
    config cfg;
    load_preset(&cfg, "mask_rcnn_R_50_FPN_3x");
    assert_int_equal(cfg.SOLVER_MAX_ITER, 270000);
    config_release(&cfg);
    load_preset(&cfg, "mask_rcnn_R_50_FPN_noaug_1x");
    assert_true(cfg.MODEL_RPN_SMOOTH_L1_BETA == 0.1111 && cfg.MODEL_ROI_BOX_HEAD_SMOOTH_L1_BETA == 1.0);
    assert_string_equal(cfg.MODEL_ROI_BOX_HEAD_POOLER_TYPE, "ROIAlign");
    assert_int_equal(cfg.MODEL_ROI_MASK_HEAD_POOLER_SAMPLING_RATIO, 2);
    config_release(&cfg);
    load_preset(&cfg, "mask_rcnn_R_50_FPN_torchvision");
    assert_true(cfg.MODEL_RPN_SMOOTH_L1_BETA == 1.0 / 9.0 &&
                cfg.MODEL_ROI_BOX_HEAD_SMOOTH_L1_BETA == 1.0 / 9.0);
    assert_string_equal(cfg.MODEL_RPN_LOSS_NORMALIZER, "sampled");
    assert_false(cfg.SOLVER_WEIGHT_DECAY_NORM.is_set);
    config_release(&cfg);
    load_preset(&cfg, "quickstart");
    assert_int_equal(cfg.SOLVER_MAX_ITER, 500);
    assert_int_equal(cfg.MODEL_BACKBONE_FREEZE_AT, 0);
    config_release(&cfg);
}

static int make_folder(void **state) {
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state) {
    (void)state;
    static const char *const names[] = {"base", "sub/middle", "top", "absolute", "lost", "self",
                                        "a",    "b",          "odd", "out",      "again"};
    char name[64];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(name, sizeof name, "%s.yaml", names[i]);
        unlink(in_folder(name));
    }
    for (int i = 0; i < 20; i++) {
        snprintf(name, sizeof name, "chain%d.yaml", i);
        unlink(in_folder(name));
    }
    rmdir(in_folder("sub"));
    return rmdir(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_value_forms), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_limits),      cmocka_unit_test(test_aliases),
        cmocka_unit_test(test_bases),       cmocka_unit_test(test_missing),
        cmocka_unit_test(test_round_trip),  cmocka_unit_test(test_against_detectron2),
        cmocka_unit_test(test_presets),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
