#include "record/json_lines.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file_util.h"
#include "base/log.h"

enum { FILE_LIMIT = 1 << 30 };

/* Iteration of a line; -1 if it is not one of our lines. */
static int64_t line_iteration(const char *line, size_t length) {
    static const char key[] = "\"iteration\": ";
    if (length < 2 || line[0] != '{' || line[length - 1] != '}') return -1;
    const char *found = memmem(line, length, key, sizeof key - 1);
    if (!found) return -1;
    char *end;
    errno = 0;
    long long iteration = strtoll(found + sizeof key - 1, &end, 10);
    return end == found + sizeof key - 1 || errno || iteration < 0 ? -1 : iteration;
}

/* Keeps whole lines of iterations before `start`; returns the new size. */
static size_t keep_lines(char *text, size_t size, int64_t start, int64_t *cut) {
    size_t kept = 0;
    *cut = 0;
    for (size_t at = 0; at < size;) {
        char *end = memchr(text + at, '\n', size - at);
        size_t length = end ? (size_t)(end - text) - at : size - at;
        int64_t iteration = end ? line_iteration(text + at, length) : -1;
        if (iteration >= 0 && iteration < start) {
            memmove(text + kept, text + at, length + 1);
            kept += length + 1;
        } else
            ++*cut;
        at += length + (end != NULL);
    }
    return kept;
}

status json_lines_cut(const char *path, int64_t start) {
    if (access(path, F_OK) != 0) return STATUS_OK;
    char *text;
    size_t size;
    int64_t cut;
    RETURN_IF_ERROR(read_file(&text, &size, path, FILE_LIMIT));
    size_t kept = keep_lines(text, size, start, &cut);
    status result = kept == size ? STATUS_OK : write_file_atomic(path, text, kept);
    free(text);
    if (result == STATUS_OK && cut)
        log_info("events", "%s: cut %lld lines that do not come before iteration %lld", path, (long long)cut,
                 (long long)start);
    return result;
}

status json_lines_append(int fd, const char *text, size_t size, const char *path) {
    off_t end = lseek(fd, 0, SEEK_END);
    status result = write_all(fd, text, size, path);
    if (result != STATUS_OK) {
        /* Part of a line must not stand before the next one. */
        if (end >= 0 && ftruncate(fd, end) != 0) return error_from_output(errno, "shorten", path);
        return result;
    }
    return fsync(fd) == 0 ? STATUS_OK : error_from_output(errno, "sync", path);
}
