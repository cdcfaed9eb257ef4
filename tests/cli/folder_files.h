/* Text files of a test's own folder. Include after cmocka.h. */
#ifndef TESTS_CLI_FOLDER_FILES_H
#define TESTS_CLI_FOLDER_FILES_H

#include <stdio.h>

/* FOLDER/name, until the next call. */
static inline const char *folder_path(const char *folder, const char *name) {
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

/* The file's text, until the next call; at most 128 KiB of it. Fails the test where there is none. */
static inline char *folder_read(const char *folder, const char *name) {
    static char text[131072];
    FILE *f = fopen(folder_path(folder, name), "r");
    if (!f) fail_msg("there is no %s/%s", folder, name);
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    fclose(f);
    return text;
}

static inline void folder_write(const char *folder, const char *name, const char *text) {
    FILE *f = fopen(folder_path(folder, name), "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

#endif
