#include "data/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/half.h"
#include "data/safetensors_header.h"

struct safetensors {
    char *path;
    const unsigned char *bytes;
    size_t size;
    bool is_mapped;
    safetensors_header header;
};

static const struct {
    const char *name;
    size_t size;
} DTYPES[SAFETENSORS_DTYPES] = {
#define DTYPE(name, bytes) {#name, bytes},
#include "data/safetensors_dtypes.def"
#undef DTYPE
};

const char *safetensors_dtype_name(safetensors_dtype dtype) {
    return DTYPES[dtype].name;
}

size_t safetensors_dtype_size(safetensors_dtype dtype) {
    return DTYPES[dtype].size;
}

/* What a file that is no safetensors file is instead; NULL if nothing known. */
static const char *foreign_format(const unsigned char *bytes, size_t size) {
    if (size >= 4 && memcmp(bytes, "PK\3\4", 4) == 0) return "a zip archive (PyTorch's .pth or NumPy's .npz)";
    if (size >= 2 && bytes[0] == 0x80 && bytes[1] >= 2 && bytes[1] <= 5)
        return "a Python pickle (.pth or .pkl)";
    if (size >= 4 && memcmp(bytes, "\x89HDF", 4) == 0) return "an HDF5 file";
    if (size >= 2 && bytes[0] == 0x1f && bytes[1] == 0x8b) return "a gzip file";
    if (size >= 1 && bytes[0] == '<') return "a web page";
    if (size >= 7 && memcmp(bytes, "version", 7) == 0) return "a Git LFS pointer";
    return NULL;
}

static status refuse_prefix(const char *path, const unsigned char *bytes, size_t size, const char *rule) {
    const char *format = foreign_format(bytes, size);
    if (format)
        return error_set(
            STATUS_DATA,
            "convert it to safetensors first: scripts/convert_weights.py IN OUT.safetensors does it where "
            "Python and torch are",
            "%s: not a safetensors file but %s", path, format);
    return error_set(STATUS_DATA, "give a .safetensors file; if it is one, it is damaged: copy it again",
                     "%s: not a safetensors file: %s", path, rule);
}

static status parse_file(safetensors *f) {
    if (f->size < 8)
        return refuse_prefix(f->path, f->bytes, f->size, "shorter than the 8 bytes of the header's length");
    uint64_t length = 0;
    for (int i = 7; i >= 0; i--) length = length << 8 | f->bytes[i];
    if (length > SAFETENSORS_MAX_HEADER)
        return refuse_prefix(f->path, f->bytes, f->size, "the header's length is above 16 MiB");
    if (length > f->size - 8)
        return refuse_prefix(f->path, f->bytes, f->size,
                             "the header's length is above the file's (cut off?)");
    if (length < 2 || f->bytes[8] != '{')
        return refuse_prefix(f->path, f->bytes, f->size, "the header does not start with '{'");
    const unsigned char *data = f->bytes + 8 + length;
    RETURN_IF_ERROR(safetensors_header_parse(&f->header, f->path, (const char *)f->bytes + 8, (size_t)length,
                                             f->size - 8 - (size_t)length));
    for (int64_t i = 0; i < f->header.count; i++)
        f->header.tensors[i].data = data + f->header.tensors[i].offset;
    return STATUS_OK;
}

static status new_file(safetensors **out, const char *path) {
    safetensors *f = calloc(1, sizeof *f);
    char *copy = strdup(path);
    if (!f || !copy) {
        free(f);
        free(copy);
        return error_set(STATUS_OS, "free some memory", "%s: no memory to open the file", path);
    }
    f->path = copy;
    *out = f;
    return STATUS_OK;
}

static status finish_open(safetensors **out, safetensors *f, status s) {
    if (s == STATUS_OK) {
        *out = f;
    } else {
        *out = NULL;
        safetensors_close(f);
    }
    return s;
}

/* Maps the regular file behind `fd`. */
static status map_file(safetensors *f, int fd) {
    struct stat info;
    if (fstat(fd, &info) != 0) return error_set(STATUS_IO, NULL, "%s: %s", f->path, strerror(errno));
    if (S_ISDIR(info.st_mode))
        return error_set(STATUS_DATA, "give the .safetensors file inside it", "%s: is a folder, not a file",
                         f->path);
    if (!S_ISREG(info.st_mode))
        return error_set(STATUS_DATA, "give a regular .safetensors file", "%s: is not a regular file",
                         f->path);
    f->size = (size_t)info.st_size;
    if (f->size == 0) return refuse_prefix(f->path, NULL, 0, "the file is empty");
    void *map = mmap(NULL, f->size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED)
        return error_set(errno == ENOMEM ? STATUS_OS : STATUS_IO, NULL, "%s: mmap of %zu bytes: %s", f->path,
                         f->size, strerror(errno));
    f->bytes = map;
    f->is_mapped = true;
    return parse_file(f);
}

status safetensors_open(safetensors **out, const char *path) {
    *out = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        status code = errno == ENOENT || errno == ENOTDIR ? STATUS_NO_INPUT
                      : errno == EACCES                   ? STATUS_NO_PERMISSION
                                                          : STATUS_IO;
        return error_set(code, "check the path and its permissions", "%s: %s", path, strerror(errno));
    }
    safetensors *f = NULL;
    status s = new_file(&f, path);
    if (s == STATUS_OK) s = finish_open(out, f, map_file(f, fd));
    close(fd);
    return s;
}

status safetensors_open_memory(safetensors **out, const char *name, const void *bytes, size_t size) {
    *out = NULL;
    safetensors *f = NULL;
    RETURN_IF_ERROR(new_file(&f, name));
    f->bytes = bytes;
    f->size = size;
    return finish_open(out, f, parse_file(f));
}

void safetensors_close(safetensors *file) {
    if (!file) return;
    if (file->is_mapped) munmap((void *)file->bytes, file->size);
    safetensors_header_release(&file->header);
    free(file->path);
    free(file);
}

const char *safetensors_path(const safetensors *file) {
    return file->path;
}

int64_t safetensors_count(const safetensors *file) {
    return file->header.count;
}

const safetensors_tensor *safetensors_at(const safetensors *file, int64_t index) {
    CHECK(index >= 0 && index < file->header.count, "tensor %lld of %lld", (long long)index,
          (long long)file->header.count);
    return &file->header.tensors[index];
}

const safetensors_tensor *safetensors_find(const safetensors *file, const char *name) {
    const safetensors_header *h = &file->header;
    int64_t low = 0, high = h->count;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        const safetensors_tensor *t = &h->tensors[h->by_name[middle]];
        int order = strcmp(name, t->name);
        if (order == 0) return t;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

const char *safetensors_metadata(const safetensors *file, const char *key) {
    for (int64_t i = 0; i < file->header.metadata_count; i++)
        if (strcmp(file->header.metadata[i].key, key) == 0) return file->header.metadata[i].value;
    return NULL;
}

int64_t safetensors_metadata_count(const safetensors *file) {
    return file->header.metadata_count;
}

void safetensors_metadata_at(const char **key, const char **value, const safetensors *file, int64_t index) {
    CHECK(index >= 0 && index < file->header.metadata_count, "entry %lld", (long long)index);
    *key = file->header.metadata[index].key;
    *value = file->header.metadata[index].value;
}

status safetensors_read_f32(float *out, const safetensors *file, const safetensors_tensor *tensor) {
    const unsigned char *data = tensor->data;
    size_t n = (size_t)tensor->elements;
    switch (tensor->dtype) {
    case SAFETENSORS_F32:
        if (n > 0) memcpy(out, data, n * sizeof *out);
        return STATUS_OK;
    case SAFETENSORS_F64:
        for (size_t i = 0; i < n; i++) {
            double value;
            memcpy(&value, data + 8 * i, sizeof value);
            out[i] = (float)value;
        }
        return STATUS_OK;
    case SAFETENSORS_F16:
    case SAFETENSORS_BF16:
        for (size_t i = 0; i < n; i++) {
            uint16_t bits;
            memcpy(&bits, data + 2 * i, sizeof bits);
            out[i] = tensor->dtype == SAFETENSORS_F16 ? float16_to_float(bits) : bfloat16_to_float(bits);
        }
        return STATUS_OK;
    default:
        return error_set(STATUS_DATA, "store it as F32, F16, BF16 or F64",
                         "%s: tensor %.200s: dtype %s is not a float that can be read", file->path,
                         tensor->name, safetensors_dtype_name(tensor->dtype));
    }
}

char *safetensors_shape_text(char *text, const int64_t *shape, int rank) {
    size_t used = 0;
    text[used++] = '[';
    for (int i = 0; i < rank; i++)
        used += (size_t)snprintf(text + used, 24, i ? ", %lld" : "%lld", (long long)shape[i]);
    text[used++] = ']';
    text[used] = 0;
    return text;
}
