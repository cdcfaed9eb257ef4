/* Whole-file reading, and writing that survives a crash: written beside, fsynced, renamed, directory fsynced.
 * Failures name the path and say what to do. Codes: NO_INPUT missing file, CANT_CREATE no such place for it,
 * NO_PERMISSION, IO full or failing disk, DATA larger than the limit, OS no memory. */
#ifndef BASE_FILE_UTIL_H
#define BASE_FILE_UTIL_H

#include "base/status.h"

#include <limits.h>

/* Reads the file into `*out` (zero-terminated beyond its `*size` bytes; free() it). A file larger than
 * `limit` bytes is refused before anything is allocated. A folder is NO_INPUT. */
status read_file(char **out, size_t *size, const char *path, size_t limit);

/* Replaces `path` by `size` bytes in one go: `<path>.part` is written and fsynced, then renamed, then the
 * folder is fsynced. On failure the old file is untouched and `.part` is removed. One writer per path at a
 * time. What is no regular file (/dev/null, /dev/stdout, a named pipe) is written to as it is. */
status write_file_atomic(const char *path, const void *bytes, size_t size);

/* Whether write_file_atomic could write there: to be asked before hours of work for the file. Leaves nothing behind. */
status write_file_check(const char *path);

/* Writes all bytes to an open descriptor, also through short writes and signals; `path` is for the message. */
status write_all(int fd, const void *bytes, size_t size, const char *path);

/* Renames `from` to `to` and fsyncs the folder of `to`, so that the name survives a power loss. */
status rename_durable(const char *from, const char *to);

/* "folder/name" in `path`; CANT_CREATE where it is too long. */
status path_join(char path[PATH_MAX], const char *folder, const char *name);

/* fsync of a folder, which makes the names in it durable. */
status sync_directory(const char *path);

/* Makes `path` and what is missing above it (mode 0777 less umask); fine if it is there, an error if it is a
 * file. */
status make_directories(const char *path);

/* Records what went wrong with an output (open, write, fsync, rename...): the status fits the errno number. */
status error_from_output(int error_number, const char *doing, const char *path);

#endif
