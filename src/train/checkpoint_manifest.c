#include "train/checkpoint_manifest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "base/file_util.h"
#include "base/json_write.h"
#include "data/safetensors.h"
#include "data/json_pairs.h"

const char *const checkpoint_files[] = {"weights.safetensors", "momentum.safetensors", "state.json", NULL};

/* The last bytes of a manifest: the CRC of everything in front of them. */
#define SEAL_FORMAT ", \"crc32c\": \"%08x\"}\n"
enum { SEAL_SIZE = sizeof ", \"crc32c\": \"01234567\"}\n" - 1 };

static const char REMEDY[] = "remove this checkpoint and resume from an older one; check the disk";

static bool is_safetensors(const char *name) {
    return strstr(name, ".safetensors") != NULL;
}

static void write_crc(json_writer *json, uint32_t crc) {
    char text[9];
    snprintf(text, sizeof text, "%08x", crc);
    json_write_string(json, text);
}

/* CRC of `size` bytes from `offset` on, read in chunks: a checkpoint never lies in memory twice. */
static status crc_of_range(uint32_t *crc, int fd, const char *path, size_t offset, size_t size) {
    unsigned char chunk[1 << 16];
    *crc = 0;
    while (size > 0) {
        ssize_t got = pread(fd, chunk, size < sizeof chunk ? size : sizeof chunk, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0)
            return error_set(got < 0 ? STATUS_IO : STATUS_DATA, REMEDY, "%s: cannot read byte %zu: %s", path,
                             offset, got < 0 ? strerror(errno) : "the file ends there");
        *crc = crc32c(*crc, chunk, (size_t)got);
        offset += (size_t)got;
        size -= (size_t)got;
    }
    return STATUS_OK;
}

typedef struct member {
    char path[PATH_MAX];
    const char *name;
    int fd;
    size_t size;
    uint32_t crc;
} member;

/* Opens a file of the checkpoint and takes its size and CRC. */
static status open_member(member *m, const char *folder, const char *name) {
    m->name = name;
    RETURN_IF_ERROR(path_join(m->path, folder, name));
    m->fd = open(m->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (m->fd < 0)
        return error_set(errno == ENOENT ? STATUS_NO_INPUT : STATUS_IO, REMEDY, "%s: %s", m->path,
                         strerror(errno));
    struct stat info;
    status s = fstat(m->fd, &info) == 0 ? STATUS_OK
                                        : error_set(STATUS_IO, REMEDY, "%s: %s", m->path, strerror(errno));
    if (s == STATUS_OK) {
        m->size = (size_t)info.st_size;
        s = crc_of_range(&m->crc, m->fd, m->path, 0, m->size);
    }
    if (s != STATUS_OK) close(m->fd);
    return s;
}

static status crc_of_tensor(uint32_t *crc, const member *m, const safetensors *file,
                            const safetensors_tensor *t) {
    const safetensors_tensor *last = safetensors_at(file, safetensors_count(file) - 1);
    size_t data = m->size - (last->offset + last->bytes);
    return crc_of_range(crc, m->fd, m->path, data + t->offset, t->bytes);
}

static status describe_tensors(json_writer *json, const member *m) {
    safetensors *file;
    RETURN_IF_ERROR(safetensors_open(&file, m->path));
    json_write_key(json, "tensors");
    json_write_begin_object(json);
    status s = STATUS_OK;
    for (int64_t i = 0; s == STATUS_OK && i < safetensors_count(file); i++) {
        const safetensors_tensor *t = safetensors_at(file, i);
        uint32_t crc;
        s = crc_of_tensor(&crc, m, file, t);
        json_write_key(json, t->name);
        write_crc(json, crc);
    }
    json_write_end_object(json);
    safetensors_close(file);
    return s;
}

/* One file's size and CRC, and the CRCs of its tensors. */
static status describe_file(json_writer *json, const char *folder, const char *name) {
    member m;
    RETURN_IF_ERROR(open_member(&m, folder, name));
    json_write_key(json, name);
    json_write_begin_object(json);
    json_write_key(json, "bytes");
    json_write_i64(json, (int64_t)m.size);
    json_write_key(json, "crc32c");
    write_crc(json, m.crc);
    status s = is_safetensors(name) ? describe_tensors(json, &m) : STATUS_OK;
    json_write_end_object(json);
    close(m.fd);
    return s;
}

status manifest_write(const char *folder) {
    json_writer json;
    json_write_init(&json);
    json_write_begin_object(&json);
    json_write_key(&json, "format");
    json_write_string(&json, "maskrcnn checkpoint 1");
    json_write_key(&json, "files");
    json_write_begin_object(&json);
    status s = STATUS_OK;
    for (int i = 0; checkpoint_files[i] && s == STATUS_OK; i++)
        s = describe_file(&json, folder, checkpoint_files[i]);
    char *text = NULL;
    if (s == STATUS_OK) {
        json_write_end_object(&json);
        json_write_end_object(&json);
        s = json_write_finish(&json);
    }
    if (s == STATUS_OK && !(text = malloc(json.size + SEAL_SIZE + 1)))
        s = error_set(STATUS_OS, "free some memory", "no memory for a manifest");
    if (s == STATUS_OK) {
        size_t sealed = json.size - 1; /* all but the last brace, which the seal writes again */
        memcpy(text, json.text, sealed);
        snprintf(text + sealed, SEAL_SIZE + 1, SEAL_FORMAT, crc32c(0, text, sealed));
        char path[PATH_MAX];
        s = path_join(path, folder, "manifest.json");
        if (s == STATUS_OK) s = write_file_atomic(path, text, sealed + SEAL_SIZE);
    }
    free(text);
    json_write_release(&json);
    return s;
}

/* The manifest's own CRC holds and its text is one. */
static status open_manifest(json_pairs *pairs, const char *folder) {
    *pairs = (json_pairs){0};
    char path[PATH_MAX], seal[SEAL_SIZE + 1];
    RETURN_IF_ERROR(path_join(path, folder, "manifest.json"));
    char *text;
    size_t size;
    RETURN_IF_ERROR(read_file(&text, &size, path, JSON_PAIRS_MAX_BYTES));
    size_t sealed = size < SEAL_SIZE ? 0 : size - SEAL_SIZE;
    snprintf(seal, sizeof seal, SEAL_FORMAT, crc32c(0, text, sealed));
    status s = size < SEAL_SIZE || memcmp(text + sealed, seal, SEAL_SIZE) != 0
                   ? error_set(STATUS_DATA, REMEDY, "%s: damaged: its own digest does not hold", path)
                   : json_pairs_parse(pairs, path, text, size);
    free(text);
    return s;
}

static bool crc_holds(const json_pairs *manifest, const char *key, uint32_t crc) {
    char text[9];
    snprintf(text, sizeof text, "%08x", crc);
    const char *expected = json_pairs_get(manifest, key);
    return expected && strcmp(expected, text) == 0;
}

/* Says which tensor of a damaged file it was, if its header can still be read. */
static status name_damage(const json_pairs *manifest, const member *m) {
    safetensors *file;
    if (!is_safetensors(m->name) || safetensors_open(&file, m->path) != STATUS_OK)
        return error_set(STATUS_DATA, REMEDY, "%s: damaged: its digest does not hold", m->path);
    status s = error_set(STATUS_DATA, REMEDY, "%s: damaged: its digest does not hold (header)", m->path);
    for (int64_t i = 0; i < safetensors_count(file); i++) {
        const safetensors_tensor *t = safetensors_at(file, i);
        char key[512];
        uint32_t crc;
        snprintf(key, sizeof key, "files/%s/tensors/%.300s", m->name, t->name);
        if (crc_of_tensor(&crc, m, file, t) == STATUS_OK && crc_holds(manifest, key, crc)) continue;
        s = error_set(STATUS_DATA, REMEDY, "%s: damaged: the digest of tensor %.200s does not hold", m->path,
                      t->name);
        break;
    }
    safetensors_close(file);
    return s;
}

static status verify_file(const json_pairs *manifest, const char *folder, const char *name) {
    char key[96];
    member m;
    int64_t expected;
    RETURN_IF_ERROR(open_member(&m, folder, name));
    status s = STATUS_OK;
    snprintf(key, sizeof key, "files/%s/bytes", name);
    if (!json_pairs_i64(&expected, manifest, key)) {
        s = error_set(STATUS_DATA, REMEDY, "%s: not in the manifest", m.path);
    } else if ((int64_t)m.size != expected) {
        s = error_set(STATUS_DATA, REMEDY, "%s: damaged: %zu bytes, the manifest says %lld", m.path, m.size,
                      (long long)expected);
    } else {
        snprintf(key, sizeof key, "files/%s/crc32c", name);
        if (!crc_holds(manifest, key, m.crc)) s = name_damage(manifest, &m);
    }
    close(m.fd);
    return s;
}

status manifest_verify(const char *folder) {
    json_pairs manifest;
    status s = open_manifest(&manifest, folder);
    for (int i = 0; checkpoint_files[i] && s == STATUS_OK; i++)
        s = verify_file(&manifest, folder, checkpoint_files[i]);
    json_pairs_release(&manifest);
    return s;
}
