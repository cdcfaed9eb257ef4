/* Helpers of the data tests: a folder of their own, files written from text, the shared real data. */
#ifndef TESTS_DATA_COCO_TEST_UTIL_H
#define TESTS_DATA_COCO_TEST_UTIL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/status.h"

static char test_folder[PATH_MAX / 2];

static int make_test_folder(void **state) {
    (void)state;
    const char *base = getenv("TMPDIR");
    snprintf(test_folder, sizeof test_folder, "%s/data_test_XXXXXX", base && *base ? base : "/tmp");
    return mkdtemp(test_folder) ? 0 : -1;
}

static inline void remove_tree(const char *folder) {
    DIR *dir = opendir(folder);
    if (!dir) return;
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        char path[PATH_MAX];
        struct stat info;
        if (snprintf(path, sizeof path, "%s/%s", folder, entry->d_name) >= PATH_MAX) continue;
        if (lstat(path, &info) == 0 && S_ISDIR(info.st_mode))
            remove_tree(path);
        else
            unlink(path);
    }
    closedir(dir);
    rmdir(folder);
}

static int remove_test_folder(void **state) {
    (void)state;
    remove_tree(test_folder);
    return 0;
}

/* Path of a name inside the test's folder; each call has its own memory, up to eight at a time. */
static inline const char *in_folder(const char *name) {
    static char paths[8][PATH_MAX];
    static int next;
    char *path = paths[next++ % 8];
    snprintf(path, PATH_MAX, "%s/%s", test_folder, name);
    return path;
}

static inline const char *write_bytes(const char *name, const void *bytes, size_t size) {
    const char *path = in_folder(name);
    FILE *file = fopen(path, "wbe");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
    return path;
}

static inline const char *write_text(const char *name, const char *text) {
    return write_bytes(name, text, strlen(text));
}

/* Path of a folder of the shared real data, or NULL (the reason is printed) where it is absent. */
static inline const char *shared_data(const char *name) {
    static char path[PATH_MAX];
    const char *base = getenv("MASKRCNN_SHARED");
    snprintf(path, sizeof path, "%s/data/%s", base && *base ? base : TEST_SOURCE_DIR "/../shared", name);
    if (access(path, R_OK) == 0) return path;
    print_message("skipped: %s is absent (set MASKRCNN_SHARED)\n", path);
    return NULL;
}

#endif
