/* Dataset specifications, files confined to the image folder, several datasets as one. */
#include "data/coco_test_util.h"

#include "data/dataset.h"

#define CATEGORIES "\"categories\":[{\"id\":1,\"name\":\"x\"}]"

/* An annotation file with one image per name (NULL ends), ids from 1, and one polygon object in each. */
static const char *write_names(const char *file, const char *categories, const char *const *names) {
    char text[8192];
    size_t at = (size_t)snprintf(text, sizeof text, "{%s,\"images\":[", categories);
    for (int i = 0; names[i]; i++)
        at += (size_t)snprintf(text + at, sizeof text - at,
                               "%s{\"id\":%d,\"file_name\":\"%s\",\"width\":9,\"height\":9}", i ? "," : "",
                               i + 1, names[i]);
    at += (size_t)snprintf(text + at, sizeof text - at, "],\"annotations\":[");
    for (int i = 0; names[i]; i++)
        at += (size_t)snprintf(text + at, sizeof text - at,
                               "%s{\"id\":%d,\"image_id\":%d,\"category_id\":1,\"bbox\":[1,1,5,5],"
                               "\"segmentation\":[[1,1,5,1,5,5]]}",
                               i ? "," : "", i, i + 1);
    snprintf(text + at, sizeof text - at, "]}");
    return write_text(file, text);
}

static status open_spec(dataset **out, const char *spec) {
    *out = NULL;
    return dataset_open(out, &spec, 1, NULL, 0, NULL);
}

static void make_folders(void) {
    mkdir(in_folder("images"), 0755);
    mkdir(in_folder("images/train"), 0755);
    mkdir(in_folder("images/folder.jpg"), 0755);
    write_text("images/a.jpg", "x");
    write_text("images/train/b.jpg", "x");
    write_text("images/c d.jpg", "x");
    write_text("secret.jpg", "x");
}

static void test_split(void **state) {
    (void)state;
    write_text("plain", "{}");
    char with_colon[PATH_MAX];
    snprintf(with_colon, sizeof with_colon, "%s:images", in_folder("plain"));
    const struct {
        const char *spec, *annotations, *image_dir;
    } cases[] = {{"a.json:images", "a.json", "images"},
                 {"x/a.JSON:/data/images/", "x/a.JSON", "/data/images/"},
                 {"C:a.json:D:images", "C:a.json", "D:images"},
                 {"a.json:b.json:images", "a.json:b.json", "images"},
                 {with_colon, in_folder("plain"), "images"},
                 {"a.json:", NULL, NULL},
                 {"a.txt:images", NULL, NULL},
                 {":", NULL, NULL},
                 {"", NULL, NULL}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *annotations, *image_dir;
        status s = dataset_split_spec(&annotations, &image_dir, cases[i].spec);
        assert_int_equal(s, cases[i].annotations ? STATUS_OK : STATUS_CONFIG);
        if (s != STATUS_OK) continue;
        assert_string_equal(annotations, cases[i].annotations);
        assert_string_equal(image_dir, cases[i].image_dir);
        free(annotations);
        free(image_dir);
    }
}

static void test_paths(void **state) {
    (void)state;
    make_folders();
    char inside[PATH_MAX], outside[PATH_MAX];
    snprintf(inside, sizeof inside, "%s", in_folder("images/train/b.jpg"));
    snprintf(outside, sizeof outside, "%s", in_folder("secret.jpg"));
    static const char *const found_at[] = {
        "a.jpg",       "train/b.jpg", "c d.jpg", "train/b.jpg", "a.jpg", "a.jpg", "a.jpg",
        "train/b.jpg", "a.jpg",       "a.jpg",   "train/b.jpg", NULL,    NULL,    NULL,
        NULL,          NULL,          NULL,      NULL,          NULL};
    const char *const names[] = {"a.jpg",
                                 "train/b.jpg",
                                 "c d.jpg",
                                 "train\\\\b.jpg",
                                 "./a.jpg",
                                 "other/a.jpg",
                                 "train/../a.jpg",
                                 ".//train//b.jpg",
                                 "C:\\\\data\\\\a.jpg",
                                 "/somewhere/a.jpg",
                                 inside,
                                 "../secret.jpg",
                                 outside,
                                 "train/../../secret.jpg",
                                 "..",
                                 "absent.jpg",
                                 "folder.jpg",
                                 "/",
                                 "A.jpg",
                                 NULL};
    write_names("paths.json", CATEGORIES, names);
    char spec[2 * PATH_MAX];
    for (int slash = 0; slash < 2; slash++) {
        snprintf(spec, sizeof spec, "%s:%s%s", in_folder("paths.json"), in_folder("images"),
                 slash ? "/" : "");
        dataset *d;
        assert_int_equal(open_spec(&d, spec), STATUS_OK);
        uint32_t missing = 0, first = 99;
        for (uint32_t i = 0; names[i]; i++) {
            char path[PATH_MAX], real[PATH_MAX], expected[PATH_MAX], below[PATH_MAX];
            bool fits = dataset_image_path(d, i, path, sizeof path);
            if (dataset_image_missing(d, i) != (found_at[i] == NULL)) print_message("%s\n", names[i]);
            assert_int_equal(dataset_image_missing(d, i), found_at[i] == NULL);
            missing += found_at[i] == NULL;
            if (fits) { /* never out of the folder, found or not */
                assert_non_null(realpath(in_folder("images"), below));
                assert_null(strstr(path, ".."));
                assert_int_equal(strncmp(path, in_folder("images"), strlen(in_folder("images"))), 0);
            }
            if (!found_at[i]) continue;
            assert_true(fits);
            assert_non_null(realpath(path, real));
            assert_true(snprintf(expected, sizeof expected, "%s/%s", below, found_at[i]) < PATH_MAX);
            assert_string_equal(real, expected);
        }
        assert_int_equal(dataset_missing_count(d, &first), missing);
        assert_int_equal(first, 11);
        dataset_report(d);
        dataset_free(d);
    }
}

static void test_missing_things(void **state) {
    (void)state;
    make_folders();
    static const char *const none[] = {"p.jpg", "q.jpg", NULL}, *const empty[] = {NULL};
    char spec[2 * PATH_MAX];
    dataset *d;
    write_names("none.json", CATEGORIES, none);
    snprintf(spec, sizeof spec, "%s:%s", in_folder("none.json"), in_folder("images"));
    assert_int_equal(open_spec(&d, spec), STATUS_NO_INPUT);
    assert_non_null(strstr(error_cause(), "p.jpg"));
    snprintf(spec, sizeof spec, "%s:%s", in_folder("none.json"), in_folder("nowhere"));
    assert_int_equal(open_spec(&d, spec), STATUS_NO_INPUT);
    assert_non_null(strstr(error_cause(), "nowhere"));
    snprintf(spec, sizeof spec, "%s:%s", in_folder("absent.json"), in_folder("images"));
    assert_int_equal(open_spec(&d, spec), STATUS_NO_INPUT);
    assert_non_null(strstr(error_cause(), "absent.json"));
    write_text("broken.json", "{\"images\":[");
    snprintf(spec, sizeof spec, "%s:%s", in_folder("broken.json"), in_folder("images"));
    assert_int_equal(open_spec(&d, spec), STATUS_DATA);
    assert_int_equal(open_spec(&d, "coco_2017_train"), STATUS_CONFIG);
    assert_non_null(strstr(error_cause(), "coco_2017_train"));
    assert_int_equal(open_spec(&d, ""), STATUS_CONFIG);
    assert_null(d);
    write_names("empty.json", CATEGORIES, empty);
    snprintf(spec, sizeof spec, "%s:%s", in_folder("empty.json"), in_folder("images"));
    assert_int_equal(open_spec(&d, spec), STATUS_OK);
    assert_int_equal(dataset_image_count(d), 0);
    assert_int_equal(dataset_check_usable(d), STATUS_DATA);
    dataset_free(d);
}

static void test_several(void **state) {
    (void)state;
    make_folders();
    static const char *const one[] = {"a.jpg", "c d.jpg", NULL}, *const two[] = {"b.jpg", NULL};
    char first[PATH_MAX], second[PATH_MAX], images[PATH_MAX], train[PATH_MAX], third[2 * PATH_MAX];
    snprintf(first, sizeof first, "%s", write_names("one.json", CATEGORIES, one));
    snprintf(second, sizeof second, "%s", write_names("two.json", CATEGORIES, two));
    snprintf(images, sizeof images, "%s", in_folder("images"));
    snprintf(train, sizeof train, "%s", in_folder("images/train"));
    snprintf(third, sizeof third, "%s:%s", second, train);
    const dataset_registration known[] = {{"first_set", first, images}, {"second_set", second, train}};
    const char *specs[] = {"second_set", "first_set", third};
    dataset *d = NULL;
    assert_int_equal(dataset_open(&d, specs, 3, known, 2, NULL), STATUS_OK);
    assert_int_equal(dataset_part_count(d), 3);
    assert_int_equal(dataset_image_count(d), 4);
    static const char *const names[] = {"b.jpg", "a.jpg", "c d.jpg", "b.jpg"};
    static const int parts[] = {0, 1, 1, 2}, ids[] = {1, 1, 2, 1};
    for (uint32_t i = 0; i < 4; i++) {
        assert_string_equal(dataset_file_name(d, i), names[i]);
        assert_int_equal(dataset_image_part(d, i), parts[i]);
        assert_int_equal(dataset_image(d, i)->id, ids[i]);
        assert_int_equal(dataset_usable_annotations(d, i), 1);
        for (uint32_t k = 0; k < i; k++) assert_true(dataset_image_key(d, i) != dataset_image_key(d, k));
    }
    assert_true(dataset_image_key(d, 0) == 1);
    assert_int_equal(dataset_category_count(d), 1);
    assert_string_equal(dataset_category_name(d, 0), "x");
    assert_int_equal(dataset_category_id(d, 0), 1);
    assert_int_equal(dataset_check_usable(d), STATUS_OK);
    dataset_free(d);

    static const char *const others[] = {"\"categories\":[{\"id\":2,\"name\":\"x\"}]",
                                         "\"categories\":[{\"id\":1,\"name\":\"y\"}]", "\"categories\":[]"};
    for (int i = 0; i < 3; i++) {
        write_names("two.json", others[i], two);
        d = NULL;
        assert_int_equal(dataset_open(&d, specs, 2, known, 2, NULL), STATUS_DATA);
        assert_non_null(strstr(error_cause(), "one.json"));
        assert_non_null(strstr(error_cause(), "two.json"));
    }
    specs[0] = "third_set";
    assert_int_equal(dataset_open(&d, specs, 1, known, 2, NULL), STATUS_CONFIG);
    assert_non_null(strstr(error_remedy(), "first_set, second_set"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_split),
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_missing_things),
        cmocka_unit_test(test_several),
    };
    return cmocka_run_group_tests(tests, make_test_folder, remove_test_folder);
}
