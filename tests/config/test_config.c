/* Keys, values and overrides: the table itself, what each type accepts, what is refused and how it is said. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ctype.h>
#include <math.h>
#include <string.h>

#include "config/config.h"

enum { MOST_ARGUMENTS = 8 };

/* Loads no file and the words of `line`, which are separated by '~' (so that values may hold spaces). */
static status load_line(config *cfg, const char *line) {
    char text[512], *words[MOST_ARGUMENTS];
    int n = 0;
    snprintf(text, sizeof text, "%s", line);
    char *rest = text;
    while (rest && n < MOST_ARGUMENTS) words[n++] = strsep(&rest, "~");
    return config_load(cfg, NULL, words, n);
}

static void expect_accepted(const char *line, const char *key, const char *value) {
    config cfg;
    if (load_line(&cfg, line) != STATUS_OK) fail_msg("%s: refused: %s", line, error_cause());
    assert_string_equal(config_format(&cfg, config_find(key)), value);
    assert_int_equal(cfg.origins[config_find(key)].file, CONFIG_FROM_COMMAND_LINE);
    config_release(&cfg);
}

/* Refused with `code`; the cause holds `cause`, the remedy `remedy`. */
static void expect_refusal(const char *line, status code, const char *cause, const char *remedy) {
    config cfg;
    assert_int_equal(load_line(&cfg, line), code);
    if (!strstr(error_cause(), cause)) fail_msg("%s: cause \"%s\" lacks \"%s\"", line, error_cause(), cause);
    if (!strstr(error_remedy(), remedy))
        fail_msg("%s: remedy \"%s\" lacks \"%s\"", line, error_remedy(), remedy);
    assert_null(cfg.memory);
}

static void test_table(void **state) {
    (void)state;
    static const char *const fields[] = {
#define KEY(type, field, name, default_text, help, ...) #field,
#define INERT(type, field, name, default_text) #field,
#include "config/config_keys.def"
#undef KEY
#undef INERT
    };
    for (int k = 0; k < CONFIG_KEY_COUNT; k++) {
        const config_key *key = &config_keys[k];
        assert_int_equal(config_find(key->name), k); /* no name twice */
        assert_int_equal(strlen(key->name), strlen(fields[k]));
        for (size_t i = 0; fields[k][i]; i++)
            assert_int_equal(fields[k][i], key->name[i] == '.' ? '_' : key->name[i]);
        if (key->help) assert_true(*key->help && key->help[strlen(key->help) - 1] != '.');
    }
}

/* Every default obeys its own rule: given as an override it is accepted and changes nothing. */
static void test_defaults(void **state) {
    (void)state;
    config defaults;
    assert_int_equal(config_default(&defaults), STATUS_OK);
    for (int k = 0; k < CONFIG_KEY_COUNT; k++) {
        char line[512];
        snprintf(line, sizeof line, "%s~%s", config_keys[k].name, config_keys[k].default_text);
        expect_accepted(line, config_keys[k].name, config_format(&defaults, k));
        assert_int_equal(defaults.origins[k].file, CONFIG_FROM_DEFAULT);
    }
    config_release(&defaults);
}

static void test_typed_members(void **state) {
    (void)state;
    config cfg;
    assert_int_equal(
        load_line(&cfg, "SOLVER.STEPS~(7, 9)~SOLVER.WEIGHT_DECAY_BIAS=0.5~INPUT.MIN_SIZE_TRAIN=(640,)"),
        STATUS_OK);
    assert_int_equal(cfg.SOLVER_STEPS.count, 2);
    assert_int_equal(cfg.SOLVER_STEPS.values[1], 9);
    assert_true(cfg.SOLVER_WEIGHT_DECAY_BIAS.is_set && cfg.SOLVER_WEIGHT_DECAY_BIAS.value == 0.5);
    assert_true(cfg.SOLVER_WEIGHT_DECAY_NORM.is_set && cfg.SOLVER_WEIGHT_DECAY_NORM.value == 0.0);
    assert_int_equal(cfg.INPUT_MIN_SIZE_TRAIN.values[0], 640);
    assert_int_equal(cfg.MODEL_ANCHOR_GENERATOR_SIZES.count, 5);
    assert_true(cfg.MODEL_ANCHOR_GENERATOR_SIZES.values[4].values[0] == 512.0);
    assert_string_equal(cfg.MODEL_RPN_IN_FEATURES.values[4], "p6");
    assert_string_equal(cfg.MODEL_FPN_NORM, "");
    assert_true(cfg.MODEL_PIXEL_MEAN.values[2] == 123.675);
    config_release(&cfg);
}

static void test_accepted(void **state) {
    (void)state;
    static const char *const cases[][3] = {
        {"MODEL.MASK_ON~False", "MODEL.MASK_ON", "False"},
        {"MODEL.MASK_ON=true", "MODEL.MASK_ON", "True"},
        {"SEED~-1", "SEED", "-1"},
        {"SEED=-12345678901", "SEED", "-12345678901"},
        {"SOLVER.MAX_ITER~+7", "SOLVER.MAX_ITER", "7"},
        {"SOLVER.BASE_LR~1e-4", "SOLVER.BASE_LR", "0.0001"},
        {"SOLVER.BASE_LR~.5", "SOLVER.BASE_LR", "0.5"},
        {"SOLVER.BASE_LR~2", "SOLVER.BASE_LR", "2.0"},
        {"SOLVER.BASE_LR~3.0000000000000004e-7", "SOLVER.BASE_LR", "3.0000000000000004e-07"},
        {"SOLVER.CLIP_GRADIENTS.NORM_TYPE~.inf", "SOLVER.CLIP_GRADIENTS.NORM_TYPE", ".inf"},
        {"SOLVER.CLIP_GRADIENTS.NORM_TYPE~inf", "SOLVER.CLIP_GRADIENTS.NORM_TYPE", ".inf"},
        {"SOLVER.WEIGHT_DECAY_NORM~None", "SOLVER.WEIGHT_DECAY_NORM", "null"},
        {"SOLVER.STEPS~()", "SOLVER.STEPS", "[]"},
        {"SOLVER.STEPS~(60000, 80000)", "SOLVER.STEPS", "[60000, 80000]"},
        {"SOLVER.STEPS~[60000,80000,]", "SOLVER.STEPS", "[60000, 80000]"},
        {"SOLVER.STEPS~5, 6", "SOLVER.STEPS", "[5, 6]"},
        {"SOLVER.STEPS~5", "SOLVER.STEPS", "[5]"},
        {"DATASETS.TRAIN~(\"coco_2017_train\",)", "DATASETS.TRAIN", "[\"coco_2017_train\"]"},
        {"DATASETS.TRAIN~('a', 'b')", "DATASETS.TRAIN", "[\"a\", \"b\"]"},
        {"DATASETS.TRAIN~'a', 'b'", "DATASETS.TRAIN", "[\"a\", \"b\"]"},
        {"DATASETS.TRAIN~a, b.json:dir", "DATASETS.TRAIN", "[\"a, b.json:dir\"]"},
        {"DATASETS.TRAIN~/x y/a.json:/x y/images", "DATASETS.TRAIN", "[\"/x y/a.json:/x y/images\"]"},
        {"DATASETS.TEST~()", "DATASETS.TEST", "[]"},
        {"DATASETS.TEST~", "DATASETS.TEST", "[]"},
        {"MODEL.WEIGHTS~", "MODEL.WEIGHTS", "\"\""},
        {"MODEL.WEIGHTS~\"\"", "MODEL.WEIGHTS", "\"\""},
        {"MODEL.WEIGHTS='a b'", "MODEL.WEIGHTS", "\"a b\""},
        {"MODEL.WEIGHTS=a=b", "MODEL.WEIGHTS", "\"a=b\""},
        {"MODEL.WEIGHTS~-w\"", "MODEL.WEIGHTS", "\"-w\\\"\""},
        {"OUTPUT_DIR~d\xC3\xA9j\xC3\xA0\n", "OUTPUT_DIR", "\"d\xC3\xA9j\xC3\xA0\\x0A\""},
        {"MODEL.ANCHOR_GENERATOR.SIZES~[[8, 16.5]]", "MODEL.ANCHOR_GENERATOR.SIZES", "[[8.0, 16.5]]"},
        {"TEST.EXPECTED_RESULTS~[['bbox','AP',38.5,0.2]]", "TEST.EXPECTED_RESULTS",
         "\"[[\\\"bbox\\\", \\\"AP\\\", 38.5, 0.2]]\""},
        {"MODEL.RPN.IN_FEATURES~('p2','p3','p4','p5','p6')", "MODEL.RPN.IN_FEATURES",
         "[\"p2\", \"p3\", \"p4\", \"p5\", \"p6\"]"},
        {"SEED~1~SEED~2", "SEED", "2"},
        {"MODEL.RPN.BATCH_SIZE_PER_IMAGE~20000", "MODEL.RPN.BATCH_SIZE_PER_IMAGE", "20000"},
        {"MODEL.RPN.POSITIVE_FRACTION~1.0", "MODEL.RPN.POSITIVE_FRACTION", "1.0"},
        {"SOLVER.WARMUP_ITERS~0", "SOLVER.WARMUP_ITERS", "0"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_accepted(cases[i][0], cases[i][1], cases[i][2]);
}

static void test_refused(void **state) {
    (void)state;
    static const struct {
        const char *line, *cause, *remedy;
    } cases[] = {
        {"SOLVER.MAX_ITERS~3", "unknown key SOLVER.MAX_ITERS", "SOLVER.MAX_ITER?"},
        {"SLOVER.MAX_ITER=3", "unknown key SLOVER.MAX_ITER", "SOLVER.MAX_ITER?"},
        {"solver.max_iter~3", "unknown key solver.max_iter", "SOLVER.MAX_ITER?"},
        {"MAX_ITER~3", "unknown key MAX_ITER", "SOLVER.MAX_ITER?"},
        {"QUITE.ANOTHER~3", "unknown key QUITE.ANOTHER", "config --keys"},
        {"QUITE_ANOTHER", "unknown key QUITE_ANOTHER", "config --keys"},
        {"MODEL.RPN~3", "MODEL.RPN is a section", "config --keys"},
        {"_BASE_~x.yaml", "unknown key _BASE_", ""},
        {"SOLVER.MAX_ITER~abc", "SOLVER.MAX_ITER = abc: expected an integer from 1", "SOLVER.MAX_ITER 40000"},
        {"SOLVER.MAX_ITER~", "SOLVER.MAX_ITER = \"\": expected an integer", ""},
        {"SOLVER.MAX_ITER~0", "SOLVER.MAX_ITER = 0: expected an integer from 1", ""},
        {"SOLVER.MAX_ITER~-5", "SOLVER.MAX_ITER = -5", ""},
        {"SOLVER.MAX_ITER~1.5", "SOLVER.MAX_ITER = 1.5", ""},
        {"SOLVER.MAX_ITER~9e4", "SOLVER.MAX_ITER = 9e4", ""},
        {"SOLVER.MAX_ITER~99999999999999999999", "expected an integer", ""},
        {"SOLVER.MAX_ITER~(3,)", "SOLVER.MAX_ITER = (3,)", ""},
        {"SOLVER.BASE_LR~fast", "SOLVER.BASE_LR = fast: expected a number of at least 0", ""},
        {"SOLVER.BASE_LR~nan", "SOLVER.BASE_LR = nan", ""},
        {"SOLVER.BASE_LR~inf", "SOLVER.BASE_LR = inf", ""},
        {"SOLVER.BASE_LR~1e999", "SOLVER.BASE_LR = 1e999", ""},
        {"SOLVER.BASE_LR~0x10", "SOLVER.BASE_LR = 0x10", ""},
        {"SOLVER.BASE_LR~1e", "SOLVER.BASE_LR = 1e", ""},
        {"SOLVER.BASE_LR~-0.1", "SOLVER.BASE_LR = -0.1", ""},
        {"SOLVER.CLIP_GRADIENTS.NORM_TYPE~-inf", "expected a number above 0", ""},
        {"MODEL.MASK_ON~3", "MODEL.MASK_ON = 3: expected True or False", ""},
        {"MODEL.MASK_ON~maybe", "MODEL.MASK_ON = maybe", ""},
        {"INPUT.FORMAT~GRB", "INPUT.FORMAT = GRB: expected one of BGR, RGB", ""},
        {"MODEL.FPN.NORM~LN", "expected one of \"\", FrozenBN, BN, SyncBN, GN", ""},
        {"MODEL.PIXEL_MEAN~[1, 2]", "MODEL.PIXEL_MEAN = [1, 2]: expected a list of numbers of length 3",
         "123.675"},
        {"MODEL.PIXEL_STD~[1, 0, 1]", "MODEL.PIXEL_STD = [1, 0, 1]: expected", ""},
        {"SOLVER.STEPS~(1, x)", "SOLVER.STEPS = (1, x): expected a list of integers", ""},
        {"SOLVER.STEPS~(1, 2", "SOLVER.STEPS = (1, 2", ""},
        {"SOLVER.STEPS~(1, 2]", "SOLVER.STEPS = (1, 2]", ""},
        {"SOLVER.STEPS~(1, 2) 3", "SOLVER.STEPS = (1, 2) 3", ""},
        {"SOLVER.STEPS~(,)", "SOLVER.STEPS = (,)", ""},
        {"SOLVER.STEPS~((1,),)", "SOLVER.STEPS", ""},
        {"MODEL.ANCHOR_GENERATOR.SIZES~[[]]", "expected a list of lists of numbers", ""},
        {"MODEL.RPN.CONV_DIMS~[[[[[[[[[[[[1]]]]]]]]]]]]", "MODEL.RPN.CONV_DIMS", ""},
        {"MODEL.META_ARCHITECTURE~RetinaNet", "expected one of GeneralizedRCNN, ProposalNetwork", ""},
        {"MODEL.KEYPOINT_ON~True", "MODEL.KEYPOINT_ON = True", ""},
        {"MODEL.RPN.IN_FEATURES~p2",
         "MODEL.RPN.IN_FEATURES = [p2]: with MODEL.BACKBONE.NAME build_resnet_fpn_backbone only [p2, p3, p4, "
         "p5, p6]",
         ""},
        {"VERSION~1", "VERSION = 1: expected 2", ""},
        {"OUTPUT_DIR~a\xFF", "OUTPUT_DIR", ""},
        {"OUTPUT_DIR~\xED\xA0\x80", "OUTPUT_DIR", ""},
        {"MODEL.RESNETS.DEPTH~51", "MODEL.RESNETS.DEPTH = 51: expected 18, 34, 50 or 101", ""},
        {"MODEL.ANCHOR_GENERATOR.SIZES~[[1],[2]]", "MODEL.ANCHOR_GENERATOR.SIZES has 2 lists", ""},
        {"MODEL.ANCHOR_GENERATOR.SIZES~[[1],[2],[3],[4],[5, 6]]", "list 5 has 2 values", ""},
        {"MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS~[[1],[2]]", "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS has 2 lists",
         ""},
        {"MODEL.RESNETS.NORM~GN~MODEL.RESNETS.STEM_OUT_CHANNELS~16", "MODEL.RESNETS.STEM_OUT_CHANNELS = 16",
         "MODEL.GN_GROUPS"},
        {"MODEL.FPN.NORM~GN~MODEL.GN_GROUPS~48", "MODEL.FPN.OUT_CHANNELS = 256", "MODEL.GN_GROUPS"},
        {"INPUT.MIN_SIZE_TRAIN_SAMPLING~range", "INPUT.MIN_SIZE_TRAIN must hold", "(640, 800)"},
        {"INPUT.MIN_SIZE_TRAIN_SAMPLING~range~INPUT.MIN_SIZE_TRAIN~(9, 8)", "INPUT.MIN_SIZE_TRAIN must hold",
         ""},
        {"MODEL.RPN.IOU_THRESHOLDS~[0.7, 0.3]", "MODEL.RPN.IOU_THRESHOLDS", ""},
        {"SOLVER.STEPS~(80000, 60000)", "SOLVER.STEPS: 60000 does not come after 80000", ""},
        {"TEST.MAX_DETS~(1, 100, 100)", "TEST.MAX_DETS: 100 does not come after 100", ""},
        {"TEST.MAX_DETS~(1, 100)", "TEST.MAX_DETS = (1, 100): expected a list of integers of length 3", ""},
        {"DATASETS.REGISTER~x", "DATASETS.REGISTER: \"x\"", "NAME=ANNOTATIONS.json:IMAGE_DIR"},
        {"DATASETS.REGISTER~=a:b", "DATASETS.REGISTER", ""},
        {"DATASETS.REGISTER~x=", "DATASETS.REGISTER: \"x=\"", ""},
        {"MODEL.RPN.IOU_THRESHOLDS~[0.0, 0.7]", "MODEL.RPN.IOU_THRESHOLDS", ""},
        {"MODEL.ROI_HEADS.IOU_THRESHOLDS~[0]", "MODEL.ROI_HEADS.IOU_THRESHOLDS", ""},
        {"DATASETS.REGISTER~(\"x=a:b\", \"x=c:d\")", "x stands twice", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_refusal(cases[i].line, STATUS_CONFIG, cases[i].cause, cases[i].remedy);
    expect_refusal("SOLVER.MAX_ITER", STATUS_USAGE, "SOLVER.MAX_ITER has no value", "KEY VALUE");
    expect_refusal("SEED~1~SOLVER.MAX_ITER", STATUS_USAGE, "SOLVER.MAX_ITER has no value", "KEY VALUE");
}

static void test_set(void **state) {
    (void)state;
    config cfg;
    assert_int_equal(config_default(&cfg), STATUS_OK);
    assert_int_equal(config_set(&cfg, "MODEL.WEIGHTS", "w.safetensors"), STATUS_OK);
    assert_string_equal(cfg.MODEL_WEIGHTS, "w.safetensors");
    assert_int_equal(config_set(&cfg, "MODEL.DEVICE", "abacus"), STATUS_CONFIG);
    assert_string_equal(cfg.MODEL_DEVICE, "auto"); /* a refused value changes nothing */
    assert_int_equal(config_set(&cfg, "VERSION", "3"), STATUS_CONFIG);
    assert_int_equal(cfg.VERSION, 2);
    config_release(&cfg);
}

static void test_override_or_argument(void **state) {
    (void)state;
    static const char *const overrides[] = {"MODEL.WEIGHTS", "MODEL.WEIGTHS", "SEED", "SEED=3",
                                            "NOT.A.KEY=3"};
    static const char *const arguments[] = {"photo.jpg", "TEST.png", "MODEL", "IMG_1.JPG",
                                            "a=b.png",   "../X.Y",   ""};
    for (size_t i = 0; i < sizeof overrides / sizeof *overrides; i++)
        if (!config_is_override(overrides[i])) fail_msg("%s is an override", overrides[i]);
    for (size_t i = 0; i < sizeof arguments / sizeof *arguments; i++)
        if (config_is_override(arguments[i])) fail_msg("%s is an argument", arguments[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_typed_members),
        cmocka_unit_test(test_accepted),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_set),
        cmocka_unit_test(test_override_or_argument),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
