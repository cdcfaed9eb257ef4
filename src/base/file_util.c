#include "base/file_util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

status error_from_output(int error_number, const char *doing, const char *path) {
    status code = STATUS_CANT_CREATE;
    const char *remedy = "choose an output folder that exists or can be made";
    switch (error_number) {
    case EACCES:
    case EPERM:
    case EROFS:
        code = STATUS_NO_PERMISSION;
        remedy = "choose an output folder you may write to, or change its permissions";
        break;
    case EISDIR:
        remedy = "name a file, not a folder";
        break;
    case ENOSPC:
    case EDQUOT:
        code = STATUS_IO;
        remedy = "free some space on that disk, or choose another output folder";
        break;
    case EIO:
    case EFBIG:
    case ESTALE:
        code = STATUS_IO;
        remedy = "check the disk and the file size limit (ulimit -f), or choose another output folder";
        break;
    case ENOMEM:
    case EMFILE:
    case ENFILE:
        code = STATUS_OS;
        remedy = "free some memory, or raise the limit of open files (ulimit -n)";
        break;
    default:
        break;
    }
    return error_set(code, remedy, "cannot %s %s: %s", doing, path, strerror(error_number));
}

static status error_from_input(int error_number, const char *path) {
    if (error_number == EACCES || error_number == EPERM)
        return error_set(STATUS_NO_PERMISSION, "make the file readable for this user", "cannot read %s: %s",
                         path, strerror(error_number));
    if (error_number == ENOENT || error_number == ENOTDIR || error_number == EISDIR || error_number == ELOOP)
        return error_set(STATUS_NO_INPUT, "check the path", "cannot read %s: %s", path,
                         strerror(error_number));
    return error_set(STATUS_IO, "check the disk the file lies on", "cannot read %s: %s", path,
                     strerror(error_number));
}

static status read_descriptor(char *bytes, size_t size, int fd, const char *path) {
    for (size_t at = 0; at < size;) {
        ssize_t got = read(fd, bytes + at, size - at);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return error_from_input(errno, path);
        if (got == 0)
            return error_set(STATUS_IO, "do not change the file while it is read",
                             "%s became shorter while it was read (%zu of %zu bytes)", path, at, size);
        at += (size_t)got;
    }
    return STATUS_OK;
}

status read_file(char **out, size_t *size, const char *path, size_t limit) {
    *out = NULL;
    *size = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe without a writer must not hold us */
    if (fd < 0) return error_from_input(errno, path);
    struct stat info;
    status result = STATUS_OK;
    char *bytes = NULL;
    if (fstat(fd, &info) != 0)
        result = error_from_input(errno, path);
    else if (!S_ISREG(info.st_mode))
        result =
            error_set(STATUS_NO_INPUT, "give the path of a regular file", "cannot read %s: not a file", path);
    else if ((uint64_t)info.st_size > limit)
        result =
            error_set(STATUS_DATA, "check that this is the right file",
                      "%s has %lld bytes, more than the %zu allowed", path, (long long)info.st_size, limit);
    else if (!(bytes = malloc((size_t)info.st_size + 1)))
        result = error_set(STATUS_OS, "free some memory", "no memory for the %lld bytes of %s",
                           (long long)info.st_size, path);
    else
        result = read_descriptor(bytes, (size_t)info.st_size, fd, path);
    close(fd);
    if (result != STATUS_OK) {
        free(bytes);
        return result;
    }
    bytes[info.st_size] = '\0';
    *out = bytes;
    *size = (size_t)info.st_size;
    return STATUS_OK;
}

status write_all(int fd, const void *bytes, size_t size, const char *path) {
    for (const char *p = bytes; size > 0;) {
        ssize_t put = write(fd, p, size);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return error_from_output(errno, "write", path);
        p += put;
        size -= (size_t)put;
    }
    return STATUS_OK;
}

status sync_directory(const char *path) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return error_from_output(errno, "open", path);
    int failed = fsync(fd) != 0 ? errno : 0;
    close(fd);
    /* Some network file systems cannot sync a folder; there the rename itself has to do. */
    if (failed && failed != EINVAL) return error_from_output(failed, "sync", path);
    return STATUS_OK;
}

status path_join(char path[PATH_MAX], const char *folder, const char *name) {
    if (snprintf(path, PATH_MAX, "%s/%s", folder, name) < PATH_MAX) return STATUS_OK;
    return error_set(STATUS_CANT_CREATE, "choose a folder with a shorter path, e.g. as OUTPUT_DIR",
                     "the path %.100s.../%.100s is too long", folder, name);
}

status rename_durable(const char *from, const char *to) {
    if (rename(from, to) != 0) return error_from_output(errno, "rename to", to);
    char folder[PATH_MAX];
    const char *slash = strrchr(to, '/');
    if (!slash) return sync_directory(".");
    int length = slash == to ? 1 : (int)(slash - to);
    if (length >= (int)sizeof folder) return error_from_output(ENAMETOOLONG, "sync", to);
    snprintf(folder, sizeof folder, "%.*s", length, to);
    return sync_directory(folder);
}

/* A device, a pipe: something to write to, which must not be replaced. */
static status write_file_through(const char *path, const void *bytes, size_t size) {
    int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (fd < 0) return error_from_output(errno, "open", path);
    status result = write_all(fd, bytes, size, path);
    if (close(fd) != 0 && result == STATUS_OK) result = error_from_output(errno, "close", path);
    return result;
}

static status write_file_beside(const char *path, const void *bytes, size_t size) {
    char part[PATH_MAX];
    if (snprintf(part, sizeof part, "%s.part", path) >= (int)sizeof part)
        return error_from_output(ENAMETOOLONG, "create", path);
    int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) return error_from_output(errno, "create", part);
    status result = write_all(fd, bytes, size, part);
    if (result == STATUS_OK && fsync(fd) != 0) result = error_from_output(errno, "sync", part);
    if (close(fd) != 0 && result == STATUS_OK) result = error_from_output(errno, "close", part);
    if (result == STATUS_OK) result = rename_durable(part, path);
    if (result != STATUS_OK) unlink(part);
    return result;
}

/* Also /dev/stdout, a link to what may be a regular file: the link must stay. */
static bool is_special(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && (!S_ISREG(info.st_mode) || strncmp(path, "/dev/", 5) == 0);
}

static bool is_directory(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

status write_file_atomic(const char *path, const void *bytes, size_t size) {
    return is_special(path) ? write_file_through(path, bytes, size) : write_file_beside(path, bytes, size);
}

status write_file_check(const char *path) {
    char part[PATH_MAX];
    if (!path[0])
        return error_set(STATUS_CANT_CREATE, "give the file a name", "the name of an output file is empty");
    if (is_directory(path) || path[strlen(path) - 1] == '/') return error_from_output(EISDIR, "create", path);
    if (is_special(path)) return access(path, W_OK) == 0 ? STATUS_OK : error_from_output(errno, "open", path);
    if (snprintf(part, sizeof part, "%s.part", path) >= (int)sizeof part)
        return error_from_output(ENAMETOOLONG, "create", path);
    int fd = open(part, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) return error_from_output(errno, "create", path);
    close(fd);
    unlink(part);
    return STATUS_OK;
}

static status make_one_directory(const char *path) {
    if (mkdir(path, 0777) == 0) return STATUS_OK;
    int failed = errno;
    struct stat info;
    if (stat(path, &info) == 0) {
        if (S_ISDIR(info.st_mode)) return STATUS_OK;
        failed = ENOTDIR;
    }
    return error_from_output(failed, "make folder", path);
}

status make_directories(const char *path) {
    char partial[PATH_MAX];
    if (!path[0])
        return error_set(STATUS_CANT_CREATE, "give the folder a name",
                         "the name of an output folder is empty");
    if (snprintf(partial, sizeof partial, "%s", path) >= (int)sizeof partial)
        return error_from_output(ENAMETOOLONG, "make folder", path);
    for (char *p = partial + 1; *p; p++) {
        if (*p != '/') continue;
        *p = '\0';
        RETURN_IF_ERROR(make_one_directory(partial));
        *p = '/';
    }
    return make_one_directory(partial);
}
