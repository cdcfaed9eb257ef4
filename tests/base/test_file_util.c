#include "base/file_util.h"

#include <limits.h>
#include <setjmp.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static char folder[64];

static const char *in_folder(const char *name) {
    static char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static int make_folder(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/test_file_util.XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

static void written_bytes_read_back(void **state) {
    (void)state;
    const char *path = in_folder("a.bin");
    for (int round = 0; round < 2; round++) {
        assert_int_equal(write_file_atomic(path, "one\0two", 7 - (size_t)round), STATUS_OK);
        char *bytes;
        size_t size;
        assert_int_equal(read_file(&bytes, &size, path, 100), STATUS_OK);
        assert_int_equal(size, 7 - round);
        assert_memory_equal(bytes, "one\0two", size);
        assert_int_equal(bytes[size], '\0');
        free(bytes);
    }
    assert_int_not_equal(access(in_folder("a.bin.part"), F_OK), 0);
}

static void reading_names_the_culprit(void **state) {
    (void)state;
    char *bytes;
    size_t size;
    assert_int_equal(read_file(&bytes, &size, in_folder("missing"), 100), STATUS_NO_INPUT);
    assert_non_null(strstr(error_cause(), "missing"));
    assert_null(bytes);
    assert_int_equal(read_file(&bytes, &size, folder, 100), STATUS_NO_INPUT);
    assert_int_equal(write_file_atomic(in_folder("big"), "123456", 6), STATUS_OK);
    assert_int_equal(read_file(&bytes, &size, in_folder("big"), 5), STATUS_DATA);
    assert_non_null(strstr(error_cause(), "6 bytes, more than the 5"));
}

static void folders_are_made_and_refused(void **state) {
    (void)state;
    char deep[PATH_MAX];
    snprintf(deep, sizeof deep, "%s/x//y/z/", folder);
    assert_int_equal(make_directories(deep), STATUS_OK);
    assert_int_equal(make_directories(deep), STATUS_OK);
    assert_int_equal(write_file_atomic(in_folder("file"), "", 0), STATUS_OK);
    assert_int_equal(make_directories(in_folder("file")), STATUS_CANT_CREATE);
    assert_non_null(strstr(error_cause(), "/file"));
    assert_int_equal(make_directories(in_folder("file/below")), STATUS_CANT_CREATE);
    assert_int_equal(make_directories(""), STATUS_CANT_CREATE);
    assert_int_equal(make_directories("/proc/no_such_place"), STATUS_CANT_CREATE);
}

/* A failing write (here by the file size limit) must leave the old file whole and nothing beside it. */
static void failed_write_keeps_the_old_file(void **state) {
    (void)state;
    const char *path = in_folder("kept");
    assert_int_equal(write_file_atomic(path, "old", 3), STATUS_OK);
    static char large[65536];
    struct rlimit before, tight;
    getrlimit(RLIMIT_FSIZE, &before);
    tight = before;
    tight.rlim_cur = 4096;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &tight);
    status result = write_file_atomic(path, large, sizeof large);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_int_equal(result, STATUS_IO);
    assert_non_null(strstr(error_cause(), "kept.part"));
    assert_int_not_equal(access(in_folder("kept.part"), F_OK), 0);
    char *bytes;
    size_t size;
    assert_int_equal(read_file(&bytes, &size, in_folder("kept"), 100), STATUS_OK);
    assert_string_equal(bytes, "old");
    free(bytes);
    assert_int_equal(write_file_atomic(in_folder("no/such/folder"), "", 0), STATUS_CANT_CREATE);
}

/* What is no regular file stays what it is; a named pipe stands for /dev/null, which only root could lose. */
static void special_files_are_written_to(void **state) {
    (void)state;
    char got[8] = "";
    struct stat info;
    const char *pipe = in_folder("out_pipe");
    assert_int_equal(mkfifo(pipe, 0600), 0);
    int reader = open(pipe, O_RDONLY | O_NONBLOCK);
    assert_true(reader >= 0);
    assert_int_equal(write_file_check(pipe), STATUS_OK);
    assert_int_equal(write_file_atomic(pipe, "text", 4), STATUS_OK);
    assert_int_equal(read(reader, got, sizeof got), 4);
    assert_memory_equal(got, "text", 4);
    close(reader);
    assert_int_equal(stat(in_folder("out_pipe"), &info), 0);
    assert_true(S_ISFIFO(info.st_mode));
}

static void places_for_files_are_checked(void **state) {
    (void)state;
    char below[PATH_MAX];
    snprintf(below, sizeof below, "%s/", folder);
    assert_int_equal(write_file_check(in_folder("new")), STATUS_OK);
    assert_int_not_equal(access(in_folder("new"), F_OK), 0);
    assert_int_not_equal(access(in_folder("new.part"), F_OK), 0);
    assert_int_equal(write_file_check(folder), STATUS_CANT_CREATE);
    assert_int_equal(write_file_check(below), STATUS_CANT_CREATE);
    assert_int_equal(write_file_check(""), STATUS_CANT_CREATE);
    assert_int_equal(write_file_check(in_folder("no/such/folder")), STATUS_CANT_CREATE);
}

static void long_paths_are_refused(void **state) {
    (void)state;
    char path[PATH_MAX], long_name[PATH_MAX];
    assert_int_equal(path_join(path, "a/b", "c.txt"), STATUS_OK);
    assert_string_equal(path, "a/b/c.txt");
    memset(long_name, 'x', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    assert_int_equal(path_join(path, long_name, "c.txt"), STATUS_CANT_CREATE);
    assert_non_null(strstr(error_cause(), "c.txt"));
    long_name[PATH_MAX - 1 - 6] = '\0'; /* just fits */
    assert_int_equal(path_join(path, long_name, "c.txt"), STATUS_OK);
    assert_int_equal(strlen(path), PATH_MAX - 1);
}

static void a_named_pipe_makes_nobody_wait(void **state) {
    (void)state;
    char *bytes;
    size_t size;
    assert_int_equal(mkfifo(in_folder("pipe"), 0600), 0);
    assert_int_equal(read_file(&bytes, &size, in_folder("pipe"), 100), STATUS_NO_INPUT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(written_bytes_read_back),      cmocka_unit_test(reading_names_the_culprit),
        cmocka_unit_test(folders_are_made_and_refused), cmocka_unit_test(failed_write_keeps_the_old_file),
        cmocka_unit_test(special_files_are_written_to), cmocka_unit_test(places_for_files_are_checked),
        cmocka_unit_test(long_paths_are_refused),       cmocka_unit_test(a_named_pipe_makes_nobody_wait),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
