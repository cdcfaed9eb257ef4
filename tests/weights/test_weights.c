/* Loading and saving weights: names old and new, layouts, what may differ and what may not, claims. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "device/device.h"
#include "weights/weight_names.h"
#include "weights/weights.h"

#define HEAD "roi_heads.box_predictor.cls_score."

static device *cpu;
static config cfg;
static char folder[] = "/tmp/test_weights_XXXXXX";

/* One record of every layout, under real names. */
static void make_store(param_store *store, int classes) {
    const param_spec specs[] = {
        {.name = "backbone.body.conv1.weight",
         .kind = PARAM_WEIGHT,
         .layout = LAYOUT_CONV,
         .rank = 4,
         .shape = {2, 3, 5, 4}},
        {.name = "backbone.body.bn1.running_mean", .kind = PARAM_BUFFER, .rank = 1, .shape = {2}},
        {.name = "backbone.fpn.inner_blocks.0.0.weight",
         .kind = PARAM_WEIGHT,
         .layout = LAYOUT_CONV,
         .rank = 4,
         .shape = {3, 1, 1, 2},
         .trainable = true},
        {.name = "rpn.head.conv.0.0.bias", .kind = PARAM_BIAS, .rank = 1, .shape = {3}, .trainable = true},
        {.name = "roi_heads.box_head.fc6.weight",
         .kind = PARAM_WEIGHT,
         .layout = LAYOUT_FLATTENED,
         .rank = 2,
         .shape = {2, 12},
         .map = {2, 3, 2},
         .trainable = true},
        {.name = HEAD "weight",
         .kind = PARAM_WEIGHT,
         .rank = 2,
         .shape = {classes + 1, 2},
         .trainable = true},
        {.name = "roi_heads.mask_head.0.0.bias",
         .kind = PARAM_BIAS,
         .rank = 1,
         .shape = {2},
         .trainable = true},
        {.name = "roi_heads.mask_predictor.conv5_mask.weight",
         .kind = PARAM_WEIGHT,
         .layout = LAYOUT_DECONV,
         .rank = 4,
         .shape = {3, 2, 2, 4},
         .trainable = true},
    };
    param_store_init(store);
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) param_store_add(store, &specs[i]);
    assert_int_equal(param_store_allocate(store, cpu, NULL, true), STATUS_OK);
    for (int64_t i = 0; i < store->total; i++) store->values[i] = -7;
}

/* A file whose tensor values are 100 * (position of the tensor) + index. */
typedef struct entry {
    const char *name;
    int rank;
    int64_t shape[4];
} entry;

static void write_file(const char *path, const entry *entries, int count, const char *const *metadata) {
    safetensors_writer *w;
    assert_int_equal(safetensors_writer_new(&w, path), STATUS_OK);
    for (; metadata && *metadata; metadata += 2) safetensors_writer_metadata(w, metadata[0], metadata[1]);
    for (int i = 0; i < count; i++)
        safetensors_writer_declare(w, entries[i].name, SAFETENSORS_F32, entries[i].rank, entries[i].shape);
    status s = safetensors_writer_begin(w);
    for (int i = 0; i < count; i++) {
        int64_t n = 1;
        for (int k = 0; k < entries[i].rank; k++) n *= entries[i].shape[k];
        for (int64_t k = 0; k < n && s == STATUS_OK; k++)
            s = safetensors_writer_append(w, &(float){(float)(100 * i + k)}, 4);
    }
    assert_int_equal(safetensors_writer_finish(w, s), STATUS_OK);
}

/* All tensors of the model under today's names and in PyTorch's layouts. */
static const entry whole[] = {
    {"backbone.body.conv1.weight", 4, {2, 4, 3, 5}},
    {"backbone.body.bn1.running_mean", 1, {2}},
    {"backbone.fpn.inner_blocks.0.0.weight", 4, {3, 2, 1, 1}},
    {"rpn.head.conv.0.0.bias", 1, {3}},
    {"roi_heads.box_head.fc6.weight", 2, {2, 12}},
    {HEAD "weight", 2, {5, 2}},
    {"roi_heads.mask_head.0.0.bias", 1, {2}},
    {"roi_heads.mask_predictor.conv5_mask.weight", 4, {3, 4, 2, 2}},
};
enum { WHOLE = sizeof whole / sizeof *whole };

static float value_at(const param_store *store, const char *name, int64_t index) {
    int i = param_store_find(store, name);
    assert_true(i >= 0);
    return store->values[store->params[i].offset + index];
}

static void assert_untouched(const param_store *store) {
    for (int64_t i = 0; i < store->total; i++) assert_true(store->values[i] == -7);
}

static void assert_says(const char *text) {
    if (!strstr(error_cause(), text)) fail_msg("\"%s\" lacks \"%s\"", error_cause(), text);
}

static void names_become_todays(void **state) {
    (void)state;
    static const char *const pairs[][2] = {
        {"backbone.fpn.inner_blocks.0.weight", "backbone.fpn.inner_blocks.0.0.weight"},
        {"backbone.fpn.layer_blocks.3.bias", "backbone.fpn.layer_blocks.3.0.bias"},
        {"backbone.fpn.layer_blocks.3.0.bias", "backbone.fpn.layer_blocks.3.0.bias"},
        {"rpn.head.conv.weight", "rpn.head.conv.0.0.weight"},
        {"rpn.head.conv.0.0.weight", "rpn.head.conv.0.0.weight"},
        {"roi_heads.mask_head.mask_fcn1.weight", "roi_heads.mask_head.0.0.weight"},
        {"roi_heads.mask_head.mask_fcn4.bias", "roi_heads.mask_head.3.0.bias"},
        {"roi_heads.mask_head.mask_fcn0.bias", "roi_heads.mask_head.mask_fcn0.bias"},
        {"roi_heads.mask_predictor.mask_fcn_logits.bias", "roi_heads.mask_predictor.mask_fcn_logits.bias"},
        {"conv1.weight", "backbone.body.conv1.weight"},
        {"bn1.running_var", "backbone.body.bn1.running_var"},
        {"layer4.2.conv3.weight", "backbone.body.layer4.2.conv3.weight"},
        {"layer5.0.conv1.weight", "layer5.0.conv1.weight"},
        {"fc.weight", "fc.weight"},
    };
    char out[PARAM_NAME_SIZE];
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        assert_true(weight_name_today(out, sizeof out, pairs[i][0]));
        assert_string_equal(out, pairs[i][1]);
    }
    assert_false(weight_name_today(out, 8, "conv1.weight"));
    assert_true(weight_name_is_counter("bn1.num_batches_tracked"));
}

/* Where an element of PyTorch's layout must lie in ours, written out for each layout. */
static void layouts_are_turned(void **state) {
    (void)state;
    param_store store;
    weights_report report;
    make_store(&store, 4);
    write_file("whole.safetensors", whole, WHOLE, NULL);
    assert_int_equal(weights_load(&report, &store, "whole.safetensors", &cfg, NULL, WEIGHTS_EXACT),
                     STATUS_OK);
    assert_int_equal(report.loaded, WHOLE);
    assert_int_equal(report.loaded_values, 120 + 2 + 6 + 3 + 24 + 10 + 2 + 48);
    /* conv [K,C,R,S] = [2,4,3,5], k 1, c 2, r 1, s 3; ours [K,R,S,C] */
    assert_true(value_at(&store, "backbone.body.conv1.weight", ((1 * 3 + 1) * 5 + 3) * 4 + 2) ==
                0 + ((1 * 4 + 2) * 3 + 1) * 5 + 3);
    /* transposed [C,K,R,S] = [3,4,2,2], c 2, k 3, r 1, s 0; ours [C,R,S,K] */
    assert_true(value_at(&store, "roi_heads.mask_predictor.conv5_mask.weight",
                         ((2 * 2 + 1) * 2 + 0) * 4 + 3) == 700 + ((2 * 4 + 3) * 2 + 1) * 2 + 0);
    /* fc6 [K, C*H*W], H 2, W 3, C 2; k 1, c 1, h 0, w 2; ours [K, H*W*C] */
    assert_true(value_at(&store, "roi_heads.box_head.fc6.weight", 1 * 12 + (0 * 3 + 2) * 2 + 1) ==
                400 + 1 * 12 + (1 * 2 + 0) * 3 + 2);
    assert_true(value_at(&store, "rpn.head.conv.0.0.bias", 2) == 302);
    param_store_release(&store);
    unlink("whole.safetensors");
}

static void what_is_saved_is_loaded(void **state) {
    (void)state;
    param_store store, again;
    weights_report report;
    make_store(&store, 4);
    make_store(&again, 4);
    for (int i = 0; i < store.count; i++)
        for (int64_t k = 0; k < store.params[i].size; k++)
            store.values[store.params[i].offset + k] = (float)(i + 1) / (float)(k + 3);
    for (int64_t k = 0; k < store.trainable; k++) store.momentum[k] = 1 / (float)(k + 1);
    const char *names[] = {"apple", "date", "hazelnut", "caf\xc3\xa9"};
    int64_t ids[] = {1, 7, INT64_C(9007199254740993), -2};
    weights_classes classes = {4, names, ids};
    assert_int_equal(weights_save("saved.safetensors", &store, &cfg, &classes, 499), STATUS_OK);
    assert_int_equal(weights_load(&report, &again, "saved.safetensors", &cfg, &classes, WEIGHTS_EXACT),
                     STATUS_OK);
    for (int i = 0; i < store.count; i++) {
        const param *p = &store.params[i];
        assert_memory_equal(store.values + p->offset, again.values + p->offset,
                            (size_t)p->size * sizeof(float));
    }
    safetensors *f;
    assert_int_equal(safetensors_open(&f, "saved.safetensors"), STATUS_OK);
    assert_string_equal(safetensors_metadata(f, "format"), "pt");
    assert_string_equal(safetensors_metadata(f, "input_order"), "BGR");
    assert_string_equal(safetensors_metadata(f, "pixel_mean"), "[103.53, 116.28, 123.675]");
    assert_string_equal(safetensors_metadata(f, "stride_place"), "1x1");
    assert_string_equal(safetensors_metadata(f, "norm"), "FrozenBN");
    assert_string_equal(safetensors_metadata(f, "iteration"), "499");
    assert_string_equal(safetensors_metadata(f, "class_ids"), "[1, 7, 9007199254740993, -2]");
    safetensors_close(f);
    assert_int_equal(weights_save_momentum("momentum.safetensors", &store, 499), STATUS_OK);
    assert_int_equal(weights_load_momentum(&again, "momentum.safetensors"), STATUS_OK);
    for (int i = 0; i < store.count; i++) {
        const param *p = &store.params[i];
        if (p->trainable)
            assert_memory_equal(store.momentum + p->offset, again.momentum + p->offset,
                                (size_t)p->size * sizeof(float));
    }
    /* Weights are no momentum: they hold frozen tensors too. */
    assert_int_equal(weights_load_momentum(&again, "saved.safetensors"), STATUS_DATA);

    ids[2]--;
    assert_int_equal(weights_load(&report, &again, "saved.safetensors", &cfg, &classes, WEIGHTS_EXACT),
                     STATUS_DATA);
    assert_says("class 2 is hazelnut, id 9007199254740993");
    assert_int_equal(weights_load(&report, &again, "saved.safetensors", &cfg, &classes, WEIGHTS_START),
                     STATUS_OK);
    assert_int_equal(weights_load(&report, &again, "saved.safetensors", &cfg, NULL, WEIGHTS_EXACT),
                     STATUS_OK);
    param_store_release(&store);
    param_store_release(&again);
    unlink("saved.safetensors");
    unlink("momentum.safetensors");
}

static void old_names_are_read(void **state) {
    (void)state;
    param_store store;
    weights_report report;
    make_store(&store, 4);
    entry old[WHOLE];
    memcpy(old, whole, sizeof old);
    old[0].name = "conv1.weight";
    old[1].name = "bn1.running_mean";
    old[2].name = "backbone.fpn.inner_blocks.0.weight";
    old[3].name = "rpn.head.conv.bias";
    old[6].name = "roi_heads.mask_head.mask_fcn1.bias";
    write_file("old.safetensors", old, WHOLE, (const char *const[]){"format", "pt", NULL});
    assert_int_equal(weights_load(&report, &store, "old.safetensors", &cfg, NULL, WEIGHTS_EXACT), STATUS_OK);
    assert_true(value_at(&store, "roi_heads.mask_head.0.0.bias", 1) == 601);
    entry both[WHOLE + 1];
    memcpy(both, old, sizeof old);
    both[WHOLE] = whole[2];
    write_file("old.safetensors", both, WHOLE + 1, NULL);
    assert_int_equal(weights_load(&report, &store, "old.safetensors", &cfg, NULL, WEIGHTS_START),
                     STATUS_DATA);
    assert_says("tensors backbone.fpn.inner_blocks.0.weight and backbone.fpn.inner_blocks.0.0.weight are the "
                "same parameter");
    param_store_release(&store);
    unlink("old.safetensors");
}

static void bare_backbone_starts_a_model(void **state) {
    (void)state;
    param_store store;
    weights_report report;
    make_store(&store, 4);
    const entry bare[] = {{"conv1.weight", 4, {2, 4, 3, 5}},
                          {"bn1.running_mean", 1, {2}},
                          {"bn1.num_batches_tracked", 0, {0}},
                          {"fc.weight", 2, {3, 2}},
                          {"fc.bias", 1, {3}}};
    write_file("bare.safetensors", bare, 5, NULL);
    assert_int_equal(weights_load(&report, &store, "bare.safetensors", &cfg, NULL, WEIGHTS_START), STATUS_OK);
    assert_int_equal(report.loaded, 2);
    assert_int_equal(report.kept, WHOLE - 2);
    assert_int_equal(report.ignored, 3);
    assert_int_equal(report.kept_frozen, 0);
    assert_true(value_at(&store, "backbone.body.bn1.running_mean", 1) == 101);
    assert_true(value_at(&store, "roi_heads.box_head.fc6.weight", 0) == -7);
    assert_int_equal(weights_load(&report, &store, "bare.safetensors", &cfg, NULL, WEIGHTS_EXACT),
                     STATUS_DATA);
    assert_says("6 tensors are missing (backbone.fpn.inner_blocks.0.0.weight, ");
    assert_says("2 do not belong to it (");
    write_file("bare.safetensors", bare + 3, 2, NULL);
    assert_int_equal(weights_load(&report, &store, "bare.safetensors", &cfg, NULL, WEIGHTS_START),
                     STATUS_DATA);
    assert_says("none of its 2 tensors");
    param_store_release(&store);
    unlink("bare.safetensors");
}

static void only_predictors_may_differ_and_only_at_the_start(void **state) {
    (void)state;
    param_store store;
    weights_report report;
    make_store(&store, 90);
    write_file("whole.safetensors", whole, WHOLE, NULL);
    assert_int_equal(weights_load(&report, &store, "whole.safetensors", &cfg, NULL, WEIGHTS_EXACT),
                     STATUS_DATA);
    assert_says("tensor " HEAD "weight has shape [5, 2] in the file, but [91, 2] in the model");
    assert_untouched(&store);
    assert_int_equal(weights_load(&report, &store, "whole.safetensors", &cfg, NULL, WEIGHTS_START),
                     STATUS_OK);
    assert_int_equal(report.restarted, 1);
    assert_int_equal(report.loaded, WHOLE - 1);
    assert_true(value_at(&store, HEAD "weight", 0) == -7);
    param_store_release(&store);
    /* Another width of a predictor, and any other tensor, is an error there too. */
    for (int i = 0; i < WHOLE; i++) {
        entry other[WHOLE];
        memcpy(other, whole, sizeof other);
        other[i].shape[other[i].rank - 1]++;
        make_store(&store, 4);
        write_file("whole.safetensors", other, WHOLE, NULL);
        assert_int_equal(weights_load(&report, &store, "whole.safetensors", &cfg, NULL, WEIGHTS_START),
                         STATUS_DATA);
        assert_says(whole[i].name);
        assert_says("in the file, but [");
        assert_untouched(&store);
        param_store_release(&store);
    }
    unlink("whole.safetensors");
}

static void claims_that_disagree_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *key, *value;
        status expected;
        const char *says, *remedy;
    } cases[] = {
        {"input_order", "BGR", STATUS_OK, "", ""},
        {"input_order", "RGB", STATUS_CONFIG, "input_order RGB, but INPUT.FORMAT is BGR",
         "set INPUT.FORMAT RGB,"},
        {"input_order", "RBG", STATUS_CONFIG, "input_order RBG, but INPUT.FORMAT is BGR",
         "take other weights"},
        {"pixel_mean", "[103.53,116.28,123.675]", STATUS_OK, "", ""},
        {"pixel_mean", "[123.675, 116.28, 103.53]", STATUS_CONFIG,
         "but MODEL.PIXEL_MEAN is [103.53, 116.28, 123.675]",
         "set MODEL.PIXEL_MEAN \"[123.675, 116.28, 103.53]\""},
        {"pixel_mean", "[103.53, 116.28]", STATUS_CONFIG, "pixel_mean [103.53, 116.28]",
         "take other weights"},
        {"pixel_mean", "[103.53, 116.28, \"x\"]", STATUS_CONFIG, "pixel_mean [103.53", "take other weights"},
        {"pixel_mean", "[103.53, 116.28", STATUS_DATA, "pixel_mean: not valid JSON", ""},
        {"pixel_std", "[57.375, 57.12, 58.395]", STATUS_CONFIG, "but MODEL.PIXEL_STD is [1, 1, 1]",
         "set MODEL.PIXEL_STD \"[57.375, 57.12, 58.395]\""},
        {"stride_place", "1x1", STATUS_OK, "", ""},
        {"stride_place", "3x3", STATUS_CONFIG, "stride_place 3x3, but MODEL.RESNETS.STRIDE_IN_1X1 is True",
         "set MODEL.RESNETS.STRIDE_IN_1X1 False"},
        {"norm", "SyncBN", STATUS_OK, "", ""},
        {"norm", "GN", STATUS_CONFIG, "norm GN, but MODEL.RESNETS.NORM is FrozenBN",
         "set MODEL.RESNETS.NORM GN"},
        {"norm_eps", "1e-05", STATUS_OK, "", ""},
        {"norm_eps", "0", STATUS_CONFIG, "norm_eps 0, but MODEL.RESNETS.NORM_EPS is 1e-05",
         "set MODEL.RESNETS.NORM_EPS 0"},
        {"norm_eps", "none", STATUS_CONFIG, "norm_eps none", "take other weights"},
        {"iteration", "90000", STATUS_OK, "", ""},
        {"format", "pt", STATUS_OK, "", ""},
    };
    param_store store;
    weights_report report;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        make_store(&store, 4);
        write_file("claims.safetensors", whole, WHOLE,
                   (const char *const[]){cases[i].key, cases[i].value, NULL});
        status s = weights_load(&report, &store, "claims.safetensors", &cfg, NULL, WEIGHTS_START);
        if (s != cases[i].expected)
            fail_msg("%s %s gave %d: %s", cases[i].key, cases[i].value, (int)s, error_cause());
        if (s != STATUS_OK) {
            assert_says(cases[i].says);
            assert_says("claims.safetensors");
            if (!strstr(error_remedy(), cases[i].remedy))
                fail_msg("\"%s\" lacks \"%s\"", error_remedy(), cases[i].remedy);
            assert_untouched(&store);
        }
        param_store_release(&store);
    }
    /* All that disagrees is said at once. */
    make_store(&store, 4);
    write_file("claims.safetensors", whole, WHOLE,
               (const char *const[]){"input_order", "RGB", "stride_place", "3x3", NULL});
    assert_int_equal(weights_load(&report, &store, "claims.safetensors", &cfg, NULL, WEIGHTS_START),
                     STATUS_CONFIG);
    assert_says("INPUT.FORMAT is BGR, and with stride_place 3x3, but");
    assert_string_equal(error_remedy(),
                        "set INPUT.FORMAT RGB MODEL.RESNETS.STRIDE_IN_1X1 False, or take other weights");
    param_store_release(&store);
    /* Images that come ready-made have no use for what the file says of the input; the network must still fit. */
    make_store(&store, 4);
    write_file("claims.safetensors", whole, WHOLE, (const char *const[]){"input_order", "RGB", NULL});
    assert_int_equal(weights_load(&report, &store, "claims.safetensors", &cfg, NULL, WEIGHTS_EXACT_OWN_INPUT),
                     STATUS_OK);
    write_file("claims.safetensors", whole, WHOLE, (const char *const[]){"norm", "GN", NULL});
    assert_int_equal(weights_load(&report, &store, "claims.safetensors", &cfg, NULL, WEIGHTS_EXACT_OWN_INPUT),
                     STATUS_CONFIG);
    param_store_release(&store);
    unlink("claims.safetensors");
}

/* A few tensors decide what a file is. */
static void networks_that_are_not_the_models(void **state) {
    (void)state;
    param_store store;
    weights_report report;
    make_store(&store, 4);
    const entry detectron2[] = {{"backbone.bottom_up.stem.conv1.weight", 4, {2, 4, 3, 5}},
                                {HEAD "weight", 2, {5, 2}}};
    write_file("other.safetensors", detectron2, 2, NULL);
    assert_int_equal(weights_load(&report, &store, "other.safetensors", &cfg, NULL, WEIGHTS_START),
                     STATUS_DATA);
    assert_says("detectron2");
    assert_non_null(strstr(error_remedy(), "scripts/convert_weights.py"));
    const entry deep[] = {{"conv1.weight", 4, {2, 4, 3, 5}},
                          {"layer1.0.conv3.weight", 4, {2, 2, 1, 1}},
                          {"layer3.22.conv1.weight", 4, {2, 2, 1, 1}}};
    write_file("other.safetensors", deep, 3, NULL);
    assert_int_equal(weights_load(&report, &store, "other.safetensors", &cfg, NULL, WEIGHTS_START),
                     STATUS_CONFIG);
    assert_says("holds a ResNet-101, but MODEL.RESNETS.DEPTH is 50");
    assert_non_null(strstr(error_remedy(), "set MODEL.RESNETS.DEPTH 101"));
    assert_untouched(&store);
    unlink("other.safetensors");
    param_store_release(&store);
}

static void files_that_cannot_be_weights(void **state) {
    (void)state;
    param_store store;
    weights_report report;
    make_store(&store, 4);
    static const char *const urls[] = {"detectron2://ImageNetPretrained/MSRA/R-50.pkl",
                                       "https://example.org/model.safetensors"};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(weights_load(&report, &store, urls[i], &cfg, NULL, WEIGHTS_START), STATUS_NO_INPUT);
        assert_says(urls[i]);
        assert_says("nothing is downloaded");
        assert_non_null(strstr(error_remedy(), "--weights"));
    }
    assert_int_equal(weights_load(&report, &store, "absent.safetensors", &cfg, NULL, WEIGHTS_START),
                     STATUS_NO_INPUT);
    FILE *file = fopen("model.pth", "wb");
    assert_non_null(file);
    fwrite("PK\3\4 archive/data.pkl", 1, 21, file);
    fclose(file);
    assert_int_equal(weights_load(&report, &store, "model.pth", &cfg, NULL, WEIGHTS_START), STATUS_DATA);
    assert_says("model.pth");
    unlink("model.pth");
    safetensors_writer *w;
    assert_int_equal(safetensors_writer_new(&w, "whole_numbers.safetensors"), STATUS_OK);
    safetensors_writer_declare(w, "roi_heads.mask_head.0.0.bias", SAFETENSORS_I32, 1, (int64_t[]){2});
    status s = safetensors_writer_begin(w);
    if (s == STATUS_OK) s = safetensors_writer_append(w, (int32_t[]){1, 2}, 8);
    assert_int_equal(safetensors_writer_finish(w, s), STATUS_OK);
    assert_int_equal(weights_load(&report, &store, "whole_numbers.safetensors", &cfg, NULL, WEIGHTS_START),
                     STATUS_DATA);
    assert_says("tensor roi_heads.mask_head.0.0.bias: dtype I32");
    unlink("whole_numbers.safetensors");
    assert_untouched(&store);
    param_store_release(&store);
}

static int set_up(void **state) {
    (void)state;
    if (!mkdtemp(folder) || chdir(folder) != 0) return -1;
    return device_open(&cpu, "cpu") == STATUS_OK && config_default(&cfg) == STATUS_OK ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    config_release(&cfg);
    device_close(cpu);
    return chdir("/") == 0 ? rmdir(folder) : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_become_todays),
        cmocka_unit_test(layouts_are_turned),
        cmocka_unit_test(what_is_saved_is_loaded),
        cmocka_unit_test(old_names_are_read),
        cmocka_unit_test(bare_backbone_starts_a_model),
        cmocka_unit_test(only_predictors_may_differ_and_only_at_the_start),
        cmocka_unit_test(claims_that_disagree_are_refused),
        cmocka_unit_test(networks_that_are_not_the_models),
        cmocka_unit_test(files_that_cannot_be_weights),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
