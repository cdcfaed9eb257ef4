/* Which category each label of a model stands for. */
#include "evaluate/class_map.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const names[] = {"disk", "box", "ring"};
static const int64_t ids[] = {1, 7, 90};
static const weights_classes set = {.count = 3, .names = names, .ids = ids}, nothing = {0};

static void expect_map(const class_map *map, int label, int category) {
    assert_int_equal(map->categories[label], category);
    if (category < 0) return;
    assert_int_equal(map->ids[label], ids[category]);
    assert_string_equal(map->names[label], names[category]);
}

static void numbers_decide_without_names(void **state) {
    (void)state;
    class_map map;
    assert_int_equal(class_map_make(&map, 3, &nothing, "w", &set, "s"), STATUS_OK);
    for (int i = 0; i < 3; i++) expect_map(&map, i, i);
    class_map_release(&map);
    assert_int_equal(class_map_make(&map, 5, &nothing, "w", &set, "s"), STATUS_OK);
    for (int i = 0; i < 5; i++) expect_map(&map, i, i < 3 ? i : -1);
    class_map_release(&map);
    assert_int_equal(class_map_make(&map, 90, &nothing, "w", &set, "s"), STATUS_OK);
    for (int i = 0; i < 90; i++) expect_map(&map, i, i == 0 ? 0 : i == 6 ? 1 : i == 89 ? 2 : -1);
    class_map_release(&map);
    static const int64_t high[] = {1, 7, 91}; /* no COCO numbering */
    weights_classes other = {.count = 3, .names = names, .ids = high};
    assert_int_equal(class_map_make(&map, 90, &nothing, "w", &other, "s"), STATUS_OK);
    assert_int_equal(map.categories[1], 1);
    assert_int_equal(map.categories[6], -1);
    class_map_release(&map);
    assert_int_equal(class_map_make(&map, 2, &nothing, "w", &set, "s"), STATUS_CONFIG);
    assert_non_null(strstr(error_cause(), "MODEL.ROI_HEADS.NUM_CLASSES"));
    class_map_release(&map);
}

static void names_must_agree(void **state) {
    (void)state;
    class_map map;
    assert_int_equal(class_map_make(&map, 5, &set, "w", &set, "s"), STATUS_OK);
    for (int i = 0; i < 5; i++) expect_map(&map, i, i < 3 ? i : -1);
    class_map_release(&map);

    weights_classes without_ids = {.count = 3, .names = names};
    assert_int_equal(class_map_make(&map, 3, &without_ids, "w", &set, "s"), STATUS_OK);
    class_map_release(&map);

    static const char *const gaps[] = {"N/A", "disk", "", "box", "N/A", "ring", "N/A"};
    weights_classes with_gaps = {.count = 7, .names = gaps};
    assert_int_equal(class_map_make(&map, 7, &with_gaps, "w", &set, "s"), STATUS_OK);
    for (int i = 0; i < 7; i++) expect_map(&map, i, i == 1 ? 0 : i == 3 ? 1 : i == 5 ? 2 : -1);
    class_map_release(&map);

    static const int64_t moved[] = {1, 8, 90};
    static const char *const swapped[] = {"box", "disk", "ring"}, *const more[] = {"disk", "box", "ring",
                                                                                   "cone"};
    const weights_classes wrong[] = {{.count = 3, .names = names, .ids = moved},
                                     {.count = 3, .names = swapped},
                                     {.count = 4, .names = more},
                                     {.count = 2, .names = names}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(class_map_make(&map, 4, &wrong[i], "weights.x", &set, "set.y"), STATUS_DATA);
        const char *both[] = {"weights.x", "set.y", "disk (1), box (7), ring (90)"};
        for (size_t k = 0; k < 3; k++) assert_non_null(strstr(error_cause(), both[k]));
        class_map_release(&map);
    }
    assert_int_equal(class_map_make(&map, 4, &wrong[0], "w", &set, "s"), STATUS_DATA);
    assert_non_null(strstr(error_cause(), "disk (1), box (8), ring (90)"));
    class_map_release(&map);
    /* A list longer than the labels there are. */
    assert_int_equal(class_map_make(&map, 3, &wrong[2], "w", &set, "s"), STATUS_DATA);
    class_map_release(&map);
}

static void long_lists_are_cut(void **state) {
    (void)state;
    enum { MANY = 300 };
    const char *many[MANY];
    int64_t numbers[MANY];
    for (int i = 0; i < MANY; i++) {
        many[i] = "something";
        numbers[i] = i;
    }
    weights_classes all = {.count = MANY, .names = many, .ids = numbers};
    char text[100];
    memset(text, 'x', sizeof text);
    class_table_text(text, sizeof text, &all);
    assert_true(strlen(text) < sizeof text);
    assert_non_null(strstr(text, "something (0), something (1), "));
    assert_string_equal(strstr(text, ", ..."), ", ... (300 classes)");
    class_table_text(text, sizeof text, &nothing);
    assert_string_equal(text, "");
}

static void lists_of_weights_files(void **state) {
    (void)state;
    static const struct {
        const char *names, *ids;
        status expected;
        int count;
    } cases[] = {
        {NULL, NULL, STATUS_OK, 0},
        {"[\"a\", \"b\"]", NULL, STATUS_OK, 2},
        {"[\"a\", \"b\"]", "[3, 9007199254740993]", STATUS_OK, 2},
        {"[\"a\", \"b\"]", "[3]", STATUS_DATA, 0},
        {"[\"a\", \"b\"]", "[3, \"x\"]", STATUS_DATA, 0},
        {"{\"a\": 1}", NULL, STATUS_DATA, 0},
        {"[\"a\"", NULL, STATUS_DATA, 0},
    };
    char path[] = "/tmp/test_class_map_XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        safetensors_writer *w;
        assert_int_equal(safetensors_writer_new(&w, path), STATUS_OK);
        if (cases[i].names) safetensors_writer_metadata(w, "class_names", cases[i].names);
        if (cases[i].ids) safetensors_writer_metadata(w, "class_ids", cases[i].ids);
        assert_int_equal(safetensors_writer_finish(w, safetensors_writer_begin(w)), STATUS_OK);
        class_table said;
        assert_int_equal(class_table_of_weights(&said, path), cases[i].expected);
        assert_int_equal(said.classes.count, cases[i].count);
        if (said.classes.count == 2) assert_string_equal(said.classes.names[1], "b");
        assert_int_equal(said.classes.ids != NULL, cases[i].expected == STATUS_OK && cases[i].ids);
        if (said.classes.ids) assert_true(said.classes.ids[1] == 9007199254740993);
        class_table_release(&said);
    }
    unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_decide_without_names),
        cmocka_unit_test(names_must_agree),
        cmocka_unit_test(long_lists_are_cut),
        cmocka_unit_test(lists_of_weights_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
