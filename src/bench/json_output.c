#include "bench/json_output.h"

#include "base/file_util.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

/* What write_file_atomic makes beside the file. */
status json_output_check(const char *path) {
    char part[PATH_MAX];
    if (!path) return STATUS_OK;
    if ((size_t)snprintf(part, sizeof part, "%s.part", path) >= sizeof part)
        return error_from_output(ENAMETOOLONG, "create", path);
    int fd = open(part, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) return error_from_output(errno, "create", path);
    close(fd);
    unlink(part);
    return STATUS_OK;
}

status json_output_write(const char *path, json_writer *w) {
    json_write_newline(w);
    RETURN_IF_ERROR(json_write_finish(w));
    return path ? write_file_atomic(path, w->text, w->size) : STATUS_OK;
}

void json_output_f64(json_writer *w, const char *key, double value) {
    json_write_key(w, key);
    json_write_f64(w, value);
}

void json_output_i64(json_writer *w, const char *key, int64_t value) {
    json_write_key(w, key);
    json_write_i64(w, value);
}

void json_output_bool(json_writer *w, const char *key, bool value) {
    json_write_key(w, key);
    json_write_bool(w, value);
}

void json_output_text(json_writer *w, const char *key, const char *value) {
    json_write_key(w, key);
    json_write_string(w, value);
}
