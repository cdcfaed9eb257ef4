/* Predictors of weights for another class list: rows by name, whatever their order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "device/device.h"
#include "weights/class_rows.h"
#include "weights/weights.h"

#define BOX "roi_heads.box_predictor."
#define LOGITS "roi_heads.mask_predictor.mask_fcn_logits.weight"

enum { MOST = 8, SCORE_WIDTH = 3, MASK_WIDTH = 2, START = -7 };

static device *cpu;
static config cfg;
static char folder[] = "/tmp/test_class_rows_XXXXXX";

static void ok(status s) {
    if (s != STATUS_OK) fail_msg("%s", error_cause());
}

/* Finds `names` in `from` (lists that end with NULL) and compares the sources with `expected`. */
static void assert_matches(const char *const *names, const char *const *from, const int *expected,
                           bool is_same) {
    int count = 0, from_count = 0, matched = 0;
    while (names[count]) count++;
    while (from[from_count]) from_count++;
    class_rows rows;
    ok(class_rows_match(&rows, names, count, from, from_count));
    for (int i = 0; i < count; i++) {
        assert_int_equal(rows.source[i], expected[i]);
        matched += expected[i] >= 0;
    }
    assert_int_equal(rows.matched, matched);
    assert_int_equal(rows.is_same, is_same);
    class_rows_release(&rows);
}

static void names_are_matched(void **state) {
    (void)state;
    const char *const pets[] = {"cat", "dog", "bird", NULL}, *const birds[] = {"bird", "owl", NULL},
                      *const loud[] = {"DOG", "dog", "Cat", NULL}, *const none[] = {NULL},
                      *const gaps[] = {"", "N/A", "dog", "N/A", NULL};
    assert_matches(pets, pets, (int[]){0, 1, 2}, true);
    assert_matches(birds, pets, (int[]){2, -1}, false);
    assert_matches(pets, birds, (int[]){-1, -1, 0}, false);
    assert_matches(pets, loud, (int[]){2, 1, -1}, false); /* exact before case */
    assert_matches(loud, pets, (int[]){-1, 1, 0}, false); /* a class is taken once */
    assert_matches(gaps, gaps, (int[]){-1, -1, 2, -1}, true);
    assert_matches(pets, none, (int[]){-1, -1, -1}, false);
    assert_matches(none, none, (int[]){0}, true);
}

static void rows_outside_are_refused(void **state) {
    (void)state;
    int source[] = {2, -1};
    class_rows rows = {.count = 2, .source = source, .matched = 1};
    float from[4] = {0, 10, 20, 30}, to[3] = {1, 2, 3};
    assert_false(class_rows_copy(to, 3, from, 3, 1, 1, &rows)); /* the file has no class 2 */
    assert_false(class_rows_copy(to, 2, from, 4, 1, 1, &rows)); /* the model has no class 1 */
    assert_false(class_rows_copy(to, 3, from, 4, 1, 4, &rows)); /* no multiple of 4 */
    assert_true(to[0] == 1 && to[1] == 2 && to[2] == 3);
    assert_true(class_rows_copy(to, 3, from, 4, 1, 1, &rows));
    assert_true(to[0] == 0 && to[1] == 30 && to[2] == 3);
}

/* The predictors of a model with `classes`, all values START, and one tensor more. */
static void make_store(param_store *store, int classes) {
    const param_spec specs[] = {
        {.name = "rpn.head.cls_logits.bias", .kind = PARAM_BIAS, .rank = 1, .shape = {3}},
        {.name = BOX "cls_score.weight",
         .kind = PARAM_WEIGHT,
         .rank = 2,
         .shape = {classes + 1, SCORE_WIDTH}},
        {.name = BOX "cls_score.bias", .kind = PARAM_BIAS, .rank = 1, .shape = {classes + 1}},
        {.name = BOX "bbox_pred.weight",
         .kind = PARAM_WEIGHT,
         .rank = 2,
         .shape = {4 * (classes + 1), SCORE_WIDTH}},
        {.name = BOX "bbox_pred.bias", .kind = PARAM_BIAS, .rank = 1, .shape = {4 * (classes + 1)}},
        {.name = LOGITS,
         .kind = PARAM_WEIGHT,
         .layout = LAYOUT_CONV,
         .rank = 4,
         .shape = {classes + 1, 1, 1, MASK_WIDTH}},
    };
    param_store_init(store);
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        param_spec spec = specs[i];
        spec.trainable = true;
        param_store_add(store, &spec);
    }
    ok(param_store_allocate(store, cpu, NULL, true));
    for (int64_t i = 0; i < store->total; i++) store->values[i] = START;
}

/* Weights of `names` whose values say where they stand: 1000 * block + index in the block. */
static void write_weights(const char *const *names, int count) {
    param_store store;
    make_store(&store, count);
    for (int i = 0; i < store.count; i++) {
        const param *p = &store.params[i];
        int per_class = class_rows_per_class(p->name);
        int64_t block = per_class ? per_class * (p->size / p->shape[0]) : p->size;
        for (int64_t k = 0; k < p->size; k++)
            store.values[p->offset + k] = (float)(1000 * (k / block) + k % block);
    }
    weights_classes classes = {count, names, NULL};
    ok(weights_save("classes.safetensors", &store, &cfg, &classes, 9));
    param_store_release(&store);
}

/* Loads classes.safetensors into a model for `names` with rows for `rows` classes. */
static weights_report load(param_store *store, const char *const *names, int count, int rows) {
    weights_report report;
    weights_classes classes = {count, names, NULL};
    make_store(store, rows);
    ok(weights_load(&report, store, "classes.safetensors", &cfg, &classes, WEIGHTS_START));
    return report;
}

/* Block `to` of every predictor is block `from` of the file; -1: its start value. */
static void assert_blocks(const param_store *store, const int *from, int blocks) {
    for (int i = 1; i < store->count; i++) {
        const param *p = &store->params[i];
        int64_t block = class_rows_per_class(p->name) * (p->size / p->shape[0]);
        assert_int_equal(p->size, block * blocks);
        for (int64_t k = 0; k < p->size; k++) {
            int source = from[k / block];
            float expected = source < 0 ? (float)START : (float)(1000 * source + k % block);
            if (store->values[p->offset + k] != expected)
                fail_msg("%s[%d] is %g instead of %g", p->name, (int)k, store->values[p->offset + k],
                         expected);
        }
    }
    assert_true(store->values[store->params[0].offset + 1] == 1);
}

static const char *const trained[] = {"date", "fig", "hazelnut"};

static void the_same_list_is_loaded(void **state) {
    (void)state;
    param_store store;
    weights_report r = load(&store, trained, 3, 3);
    assert_int_equal(r.loaded, 6);
    assert_int_equal(r.copied, 0);
    assert_blocks(&store, (int[]){0, 1, 2, 3}, 4);
    param_store_release(&store);
}

static void rows_follow_the_names(void **state) {
    (void)state;
    param_store store;
    /* As many classes, in another order. */
    const char *const turned[] = {"hazelnut", "date", "fig"};
    weights_report r = load(&store, turned, 3, 3);
    assert_int_equal(r.loaded, 1);
    assert_int_equal(r.copied, 5);
    assert_int_equal(r.restarted, 0);
    assert_blocks(&store, (int[]){0, 3, 1, 2}, 4);
    param_store_release(&store);
    /* More classes, two of them known. */
    const char *const more[] = {"walnut", "Fig", "apple", "date"};
    r = load(&store, more, 4, 4);
    assert_int_equal(r.copied, 5);
    assert_blocks(&store, (int[]){0, -1, 2, -1, 1}, 5);
    param_store_release(&store);
    /* Fewer; the model keeps rows that no class has. */
    r = load(&store, trained + 1, 1, 2);
    assert_blocks(&store, (int[]){0, 2, -1}, 3);
    param_store_release(&store);
    /* The same list, but other rows. */
    r = load(&store, trained, 3, 5);
    assert_int_equal(r.copied, 5);
    assert_blocks(&store, (int[]){0, 1, 2, 3, -1, -1}, 6);
    param_store_release(&store);
}

static void other_classes_start_anew(void **state) {
    (void)state;
    param_store store;
    const char *const others[] = {"apple", "walnut", "pear"};
    weights_report r = load(&store, others, 3, 3);
    assert_int_equal(r.loaded, 1);
    assert_int_equal(r.copied, 0);
    assert_int_equal(r.restarted, 5);
    assert_blocks(&store, (int[]){-1, -1, -1, -1}, 4);
    param_store_release(&store);
    ok(config_set(&cfg, "MODEL.COPY_CLASS_ROWS", "False"));
    r = load(&store, trained, 2, 2);
    assert_int_equal(r.restarted, 5);
    assert_blocks(&store, (int[]){-1, -1, -1}, 3);
    param_store_release(&store);
    ok(config_set(&cfg, "MODEL.COPY_CLASS_ROWS", "True"));
}

/* A file that names more classes than it has rows. */
static void names_must_fit_the_rows(void **state) {
    (void)state;
    const char *const names[] = {"date", "fig", "hazelnut", "walnut"};
    param_store store;
    weights_report report;
    make_store(&store, 2);
    weights_classes four = {4, names, NULL};
    ok(weights_save("classes.safetensors", &store, &cfg, &four, 9));
    weights_classes last = {1, names + 3, NULL};
    assert_int_equal(weights_load(&report, &store, "classes.safetensors", &cfg, &last, WEIGHTS_START),
                     STATUS_DATA);
    assert_non_null(strstr(error_cause(), BOX "cls_score.weight has 3 rows"));
    param_store_release(&store);
}

static void elsewhere_the_list_must_be_the_same(void **state) {
    (void)state;
    const char *const turned[] = {"hazelnut", "date", "fig"};
    weights_classes classes = {3, turned, NULL};
    weights_report report;
    param_store store;
    write_weights(trained, 3);
    make_store(&store, 3);
    assert_int_equal(weights_load(&report, &store, "classes.safetensors", &cfg, &classes, WEIGHTS_EXACT),
                     STATUS_DATA);
    assert_non_null(strstr(error_cause(), "class_names"));
    assert_non_null(strstr(error_cause(), "all 3 in the file: date, fig, hazelnut;"));
    assert_non_null(strstr(error_cause(), "all 3 in the data set: hazelnut, date, fig"));
    for (int64_t i = 0; i < store.total; i++) assert_true(store.values[i] == START);
    param_store_release(&store);
}

static int set_up(void **state) {
    (void)state;
    if (!mkdtemp(folder) || chdir(folder) != 0) return -1;
    if (device_open(&cpu, "cpu") != STATUS_OK || config_default(&cfg) != STATUS_OK) return -1;
    write_weights(trained, 3);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    unlink("classes.safetensors");
    config_release(&cfg);
    device_close(cpu);
    return chdir("/") == 0 ? rmdir(folder) : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_matched),
        cmocka_unit_test(rows_outside_are_refused),
        cmocka_unit_test(the_same_list_is_loaded),
        cmocka_unit_test(rows_follow_the_names),
        cmocka_unit_test(other_classes_start_anew),
        cmocka_unit_test(names_must_fit_the_rows),
        cmocka_unit_test(elsewhere_the_list_must_be_the_same),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
