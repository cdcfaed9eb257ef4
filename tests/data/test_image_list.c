/* Which images arguments name, and their ids. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "data/image_list.h"

static char folder[] = "/tmp/test_image_list_XXXXXX";
static const char *const files[] = {
    "b/2.png", "b/10.JPG", "b/1.jpeg", "b/notes.txt", "b/.png",
    "a/7.jpg", "a/8.jpg",  "a/x.bin",  "odd/[1].jpg", "big/99999999999999999999.png"};
static const char *const folders[] = {"b", "a", "a/9.jpg", "none", "odd", "big"};
enum { FILES = sizeof files / sizeof *files, FOLDERS = sizeof folders / sizeof *folders };

static const char *place(const char *name) {
    static char path[4][PATH_MAX];
    static int turn;
    char *out = path[turn++ % 4];
    snprintf(out, PATH_MAX, "%s/%s", folder, name);
    return out;
}

static int make(void **state) {
    (void)state;
    if (!mkdtemp(folder)) return -1;
    for (int i = 0; i < FOLDERS; i++) mkdir(place(folders[i]), 0777);
    for (int i = 0; i < FILES; i++) {
        FILE *f = fopen(place(files[i]), "w");
        if (!f) return -1;
        fclose(f);
    }
    return 0;
}

static int clean(void **state) {
    (void)state;
    for (int i = 0; i < FILES; i++) unlink(place(files[i]));
    for (int i = FOLDERS - 1; i >= 0; i--) rmdir(place(folders[i]));
    return rmdir(folder);
}

static void assert_paths(const image_list *list, int from, const char *const *names) {
    int n = 0;
    for (; names[n]; n++) {
        assert_true(from + n < list->count);
        assert_string_equal(list->paths[from + n], place(names[n]));
    }
    assert_int_equal(list->count, from + n);
}

static void files_folders_and_patterns(void **state) {
    (void)state;
    image_list list = {0};
    assert_int_equal(image_list_add(&list, place("a/x.bin")), STATUS_OK); /* by its bytes, not its ending */
    assert_paths(&list, 0, (const char *[]){"a/x.bin", NULL});
    assert_int_equal(image_list_add(&list, place("b")), STATUS_OK);
    assert_paths(&list, 1, (const char *[]){"b/1.jpeg", "b/10.JPG", "b/2.png", NULL});
    assert_int_equal(image_list_add(&list, place("a/*.jpg")), STATUS_OK); /* without the folder a/9.jpg */
    assert_paths(&list, 4, (const char *[]){"a/7.jpg", "a/8.jpg", NULL});
    assert_int_equal(image_list_add(&list, place("odd/[1].jpg")), STATUS_OK); /* a name before a pattern */
    assert_paths(&list, 6, (const char *[]){"odd/[1].jpg", NULL});
    image_list_release(&list);
}

static void what_is_not_there_is_named(void **state) {
    (void)state;
    image_list list = {0};
    const char *const missing[] = {"a/1.jpg", "none", "a/*.tif", "nowhere/*"};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(image_list_add(&list, place(missing[i])), STATUS_NO_INPUT);
        assert_non_null(strstr(error_cause(), missing[i]));
    }
    assert_int_equal(list.count, 0);
    image_list_release(&list);
}

static void assert_ids(const char *const *names, const int64_t *expected, bool differ_expected) {
    image_list list = {0};
    int64_t ids[8];
    bool differ;
    for (int i = 0; names[i]; i++) assert_int_equal(image_list_add(&list, place(names[i])), STATUS_OK);
    assert_int_equal(image_list_ids(ids, &list), STATUS_OK);
    for (int i = 0; i < list.count; i++) assert_int_equal(ids[i], expected[i]);
    assert_int_equal(image_list_stems_differ(&differ, &list), STATUS_OK);
    assert_int_equal(differ, differ_expected);
    image_list_release(&list);
}

static void ids_are_numbers_of_the_names_or_places(void **state) {
    (void)state;
    assert_ids((const char *[]){"a/8.jpg", "b/10.JPG", "b/1.jpeg", NULL}, (int64_t[]){8, 10, 1}, true);
    assert_ids((const char *[]){"a/8.jpg", "a/x.bin", NULL}, (int64_t[]){1, 2}, true);
    assert_ids((const char *[]){"a/8.jpg", "a/8.jpg", NULL}, (int64_t[]){1, 2}, false);
    assert_ids((const char *[]){"b/2.png", "big/99999999999999999999.png", NULL}, (int64_t[]){1, 2}, true);
    image_list list = {0};
    char stem[16];
    assert_int_equal(image_list_add(&list, place("b/.png")), STATUS_OK);
    assert_string_equal(image_list_stem(stem, sizeof stem, &list, 0), ".png");
    image_list_release(&list);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_folders_and_patterns),
        cmocka_unit_test(what_is_not_there_is_named),
        cmocka_unit_test(ids_are_numbers_of_the_names_or_places),
    };
    return cmocka_run_group_tests(tests, make, clean);
}
