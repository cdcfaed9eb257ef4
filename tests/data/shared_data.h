/* Real pictures and annotations for tests live outside the repository, in the folder named by MASKRCNN_SHARED
 * or beside the source tree. A test that needs them skips, and says so, where they are absent. */
#ifndef TESTS_SHARED_DATA_H
#define TESTS_SHARED_DATA_H

#include <dirent.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Formats a path; a test's path that does not fit ends the test. */
__attribute__((format(printf, 2, 3), unused)) static void make_path(char path[PATH_MAX], const char *format,
                                                                    ...) {
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(path, PATH_MAX, format, arguments);
    va_end(arguments);
    if (length < 0 || length >= PATH_MAX) abort();
}

/* Folder `name` of the shared data; prints a reason and returns false where it is absent. */
static inline bool shared_folder(char path[PATH_MAX], const char *name) {
    const char *root = getenv("MASKRCNN_SHARED");
    if (root)
        make_path(path, "%s/data/%s", root, name);
    else
        make_path(path, "%s/../shared/data/%s", TEST_SOURCE_DIR, name);
    if (access(path, R_OK) == 0) return true;
    printf("skipped: no folder %s (set MASKRCNN_SHARED to the folder that holds data/%s)\n", path, name);
    return false;
}

static inline bool has_suffix(const char *text, const char *suffix) {
    size_t n = strlen(text), m = strlen(suffix);
    return n >= m && strcmp(text + n - m, suffix) == 0;
}

/* Calls visit(path, context) for every file in `folder` with that suffix; returns how many there were. */
static inline int for_each_file(const char *folder, const char *suffix,
                                void (*visit)(const char *path, void *context), void *context) {
    struct dirent **entries;
    int n = scandir(folder, &entries, NULL, alphasort), visited = 0;
    for (int i = 0; i < n; i++) {
        char path[PATH_MAX];
        make_path(path, "%s/%s", folder, entries[i]->d_name);
        if (entries[i]->d_type == DT_REG && has_suffix(path, suffix)) {
            visit(path, context);
            visited++;
        }
        free(entries[i]);
    }
    if (n >= 0) free(entries);
    return visited;
}

#endif
