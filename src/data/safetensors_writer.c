#include "data/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/file_util.h"
#include "base/json_write.h"

struct safetensors_writer {
    char path[PATH_MAX], part[PATH_MAX];
    int fd; /* -1 before begin */
    json_writer header;
    bool in_metadata, in_tensors;
    size_t declared, written; /* bytes of data */
};

status safetensors_writer_new(safetensors_writer **out, const char *path) {
    *out = NULL;
    safetensors_writer *w = calloc(1, sizeof *w);
    if (!w) return error_set(STATUS_OS, "free some memory", "%s: no memory to write the file", path);
    int length = snprintf(w->path, sizeof w->path, "%s", path);
    if (length < 0 || (size_t)length >= sizeof w->path ||
        snprintf(w->part, sizeof w->part, "%s.part", path) >= (int)sizeof w->part) {
        free(w);
        return error_from_output(ENAMETOOLONG, "create", path);
    }
    w->fd = -1;
    json_write_init(&w->header);
    json_write_begin_object(&w->header);
    *out = w;
    return STATUS_OK;
}

void safetensors_writer_metadata(safetensors_writer *writer, const char *key, const char *value) {
    CHECK(!writer->in_tensors, "%s: metadata comes before the tensors", writer->path);
    if (!writer->in_metadata) {
        json_write_key(&writer->header, "__metadata__");
        json_write_begin_object(&writer->header);
        writer->in_metadata = true;
    }
    json_write_key(&writer->header, key);
    json_write_string(&writer->header, value);
}

static void end_metadata(safetensors_writer *w) {
    if (w->in_metadata) json_write_end_object(&w->header);
    w->in_metadata = false;
    w->in_tensors = true;
}

void safetensors_writer_declare(safetensors_writer *writer, const char *name, safetensors_dtype dtype,
                                int rank, const int64_t *shape) {
    CHECK(writer->fd < 0, "%s: tensor %s declared after the header was written", writer->path, name);
    CHECK(rank >= 0 && rank <= SAFETENSORS_MAX_RANK, "tensor %s: rank %d", name, rank);
    if (!writer->in_tensors) end_metadata(writer);
    json_writer *h = &writer->header;
    size_t bytes = safetensors_dtype_size(dtype);
    json_write_key(h, name);
    json_write_begin_object(h);
    json_write_key(h, "dtype");
    json_write_string(h, safetensors_dtype_name(dtype));
    json_write_key(h, "shape");
    json_write_begin_array(h);
    for (int i = 0; i < rank; i++) {
        CHECK(shape[i] >= 0 && !__builtin_mul_overflow(bytes, (size_t)shape[i], &bytes), "tensor %s: shape",
              name);
        json_write_i64(h, shape[i]);
    }
    json_write_end_array(h);
    json_write_key(h, "data_offsets");
    json_write_begin_array(h);
    json_write_i64(h, (int64_t)writer->declared);
    writer->declared += bytes;
    json_write_i64(h, (int64_t)writer->declared);
    json_write_end_array(h);
    json_write_end_object(h);
}

status safetensors_writer_begin(safetensors_writer *writer) {
    json_writer *h = &writer->header;
    if (!writer->in_tensors) end_metadata(writer);
    json_write_end_object(h);
    RETURN_IF_ERROR(json_write_finish(h));
    size_t padding = (8 - h->size % 8) % 8, length = h->size + padding;
    if (length > SAFETENSORS_MAX_HEADER)
        return error_set(STATUS_DATA, "write fewer tensors or less metadata into one file",
                         "%s: the header would have %zu bytes, more than 16 MiB", writer->path, length);
    unsigned char prefix[8];
    for (int i = 0; i < 8; i++) prefix[i] = (unsigned char)((uint64_t)length >> 8 * i);
    writer->fd = open(writer->part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (writer->fd < 0) return error_from_output(errno, "create", writer->path);
    RETURN_IF_ERROR(write_all(writer->fd, prefix, sizeof prefix, writer->path));
    RETURN_IF_ERROR(write_all(writer->fd, h->text, h->size, writer->path));
    return write_all(writer->fd, "        ", padding, writer->path);
}

status safetensors_writer_append(safetensors_writer *writer, const void *bytes, size_t size) {
    CHECK(writer->fd >= 0, "%s: data before the header", writer->path);
    CHECK(size <= writer->declared - writer->written, "%s: more data than declared", writer->path);
    writer->written += size;
    return write_all(writer->fd, bytes, size, writer->path);
}

status safetensors_writer_finish(safetensors_writer *writer, status so_far) {
    status s = so_far;
    if (s == STATUS_OK) {
        CHECK(writer->fd >= 0 && writer->written == writer->declared, "%s: %zu of %zu bytes written",
              writer->path, writer->written, writer->declared);
        if (fsync(writer->fd) != 0) s = error_from_output(errno, "sync", writer->path);
    }
    if (writer->fd >= 0) {
        if (close(writer->fd) != 0 && s == STATUS_OK) s = error_from_output(errno, "close", writer->path);
        if (s == STATUS_OK) s = rename_durable(writer->part, writer->path);
        if (s != STATUS_OK) unlink(writer->part);
    }
    json_write_release(&writer->header);
    free(writer);
    return s;
}
