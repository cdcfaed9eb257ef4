#include "config/config.h"
#include "base/log.h"
#include "config/config_check.h"
#include "config/config_value.h"
#include "config/config_yaml.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BASE_CHAIN_LIMIT = 16, WHERE_SIZE = 512 };

#define ANYTHING .bounded = false
#define RANGE(lo, hi) .bounded = true, .min = (lo), .max = (hi)
#define AT_LEAST(lo) RANGE(lo, (double)INFINITY)
#define ABOVE(lo) .exclusive = true, RANGE(lo, (double)INFINITY)
#define ABOVE_UP_TO(lo, hi) .exclusive = true, RANGE(lo, hi)
#define ONE_OF(words) .one_of = (words)
#define COUNT(lo, hi) .counted = true, .min_count = (lo), .max_count = (hi)
#define FIXED .fixed = true
#define INFINITE .infinite = true

const config_key config_keys[CONFIG_KEY_COUNT] = {
#define KEY(type, field, name, default_text, help, ...)                                                      \
    {name, CONFIG_##type, offsetof(config, field), default_text, help, {__VA_ARGS__}},
#define INERT(type, field, name, default_text)                                                               \
    {name, CONFIG_##type, offsetof(config, inert.field), default_text, NULL, {.bounded = false}},
#include "config/config_keys.def"
#undef KEY
#undef INERT
};

int config_find(const char *name) {
    for (int k = 0; k < CONFIG_KEY_COUNT; k++)
        if (strcmp(config_keys[k].name, name) == 0) return k;
    return -1;
}

void config_release(config *cfg) {
    config_memory_free(cfg->memory);
    *cfg = (config){0};
}

static status out_of_memory(void) {
    return error_set(STATUS_OS, "free some memory and start again",
                     "out of memory while reading the configuration");
}

static status store_text(config *cfg, int key, const char *text, const char *where, config_origin origin) {
    const char *copy = config_copy(&cfg->memory, text, strlen(text));
    config_node *node = copy ? config_scalar(&cfg->memory, copy, false) : NULL;
    if (!node) return out_of_memory();
    RETURN_IF_ERROR(config_store(cfg, key, node, where));
    cfg->origins[key] = origin;
    return STATUS_OK;
}

status config_default(config *out) {
    *out = (config){0};
    for (int k = 0; k < CONFIG_KEY_COUNT; k++) {
        status s = store_text(out, k, config_keys[k].default_text, NULL,
                              (config_origin){.file = CONFIG_FROM_DEFAULT});
        if (s != STATUS_OK) {
            config_release(out);
            return s;
        }
    }
    return STATUS_OK;
}

/* ---- files ---- */

/* A file being read and those that named it as their base. */
typedef struct chain {
    dev_t device;
    ino_t inode;
    const struct chain *includer;
    int length;
} chain;

static status open_file(const char *path, const char *where, const chain *includer, int *fd, chain *link) {
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat info;
    if (*fd < 0 || fstat(*fd, &info) != 0) {
        int e = errno;
        if (*fd >= 0) close(*fd);
        status code = e == EACCES || e == EPERM ? STATUS_NO_PERMISSION : STATUS_NO_INPUT;
        return error_set(
            code, "check the name; it is relative to the current folder, a _BASE_ to the file that names it",
            "%sconfiguration file %s: %s", where, path, strerror(e));
    }
    if (S_ISDIR(info.st_mode) || (includer && !S_ISREG(info.st_mode))) { /* --config may be a pipe */
        close(*fd);
        return error_set(STATUS_NO_INPUT, "name a .yaml file", "%sconfiguration file %s: %s", where, path,
                         S_ISDIR(info.st_mode) ? "is a folder" : "is no regular file");
    }
    *link = (chain){.device = info.st_dev,
                    .inode = info.st_ino,
                    .includer = includer,
                    .length = includer ? includer->length + 1 : 1};
    for (const chain *c = includer; c; c = c->includer) {
        if (c->device != link->device || c->inode != link->inode) continue;
        close(*fd);
        return error_set(STATUS_CONFIG, "remove one of the _BASE_ lines", "%s_BASE_ %s leads back to itself",
                         where, path);
    }
    if (link->length > BASE_CHAIN_LIMIT) {
        close(*fd);
        return error_set(STATUS_CONFIG, "join some of the files", "%s_BASE_ %s: more than %d files in a row",
                         where, path, BASE_CHAIN_LIMIT);
    }
    return STATUS_OK;
}

/* Reads until end of file, or one byte more than a configuration may have. */
static status read_all(int fd, const char *path, char *text, size_t capacity, size_t *size) {
    fcntl(fd, F_SETFL, 0); /* O_NONBLOCK kept open() from waiting for the writer of a pipe */
    for (*size = 0; *size < capacity;) {
        ssize_t n = read(fd, text + *size, capacity - *size);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0)
            return error_set(STATUS_IO, "check the disk", "configuration file %s: %s", path, strerror(errno));
        if (n == 0) break;
        *size += (size_t)n;
    }
    return STATUS_OK;
}

static status load_file(config *cfg, const char *path, const char *where, const chain *includer);

/* `base` as seen from the folder of `path`. */
static const char *base_path(config *cfg, const char *path, const char *base) {
    const char *slash = strrchr(path, '/');
    if (*base == '/' || !slash) return base;
    size_t folder = (size_t)(slash - path) + 1;
    char *joined = config_alloc(&cfg->memory, folder + strlen(base) + 1);
    if (joined) {
        memcpy(joined, path, folder);
        memcpy(joined + folder, base, strlen(base));
    }
    return joined;
}

static status note_file(config *cfg, const char *path, int *index) {
    const char **files = config_alloc(&cfg->memory, (size_t)(cfg->file_count + 1) * sizeof *files);
    const char *copy = config_copy(&cfg->memory, path, strlen(path));
    if (!files || !copy) return out_of_memory();
    for (int i = 0; i < cfg->file_count; i++) files[i] = cfg->files[i];
    files[cfg->file_count] = copy;
    *index = cfg->file_count++;
    cfg->files = files;
    return STATUS_OK;
}

static status load_yaml(config *cfg, const char *path, const char *text, size_t size, const chain *link) {
    int file = 0;
    RETURN_IF_ERROR(note_file(cfg, path, &file));
    config_document document;
    RETURN_IF_ERROR(config_yaml_parse(&document, &cfg->memory, path, text, size));
    char where[WHERE_SIZE];
    if (document.base) {
        snprintf(where, sizeof where, "%.400s:%d: ", path, document.base_line);
        const char *base = base_path(cfg, path, document.base);
        if (!base) return out_of_memory();
        RETURN_IF_ERROR(load_file(cfg, base, where, link));
    }
    for (const config_entry *e = document.first; e; e = e->next) {
        snprintf(where, sizeof where, "%.400s:%d: ", path, e->line);
        RETURN_IF_ERROR(config_store(cfg, e->key, e->value, where));
        cfg->origins[e->key] = (config_origin){.file = file, .line = e->line};
    }
    return STATUS_OK;
}

static status load_file(config *cfg, const char *path, const char *where, const chain *includer) {
    int fd;
    chain link;
    RETURN_IF_ERROR(open_file(path, where, includer, &fd, &link));
    size_t size = 0;
    char *text = config_alloc(&cfg->memory, CONFIG_FILE_LIMIT + 1);
    status s = text ? read_all(fd, path, text, CONFIG_FILE_LIMIT + 1, &size) : out_of_memory();
    close(fd);
    return s == STATUS_OK ? load_yaml(cfg, path, text, size, &link) : s;
}

/* ---- the command line ---- */

/* Length of NAME in "NAME=VALUE" where NAME could be a key's, else 0. */
static size_t assigned_name(const char *argument) {
    size_t n = strspn(argument, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.");
    return argument[n] == '=' ? n : 0;
}

bool config_is_override(const char *argument) {
    if (config_find(argument) >= 0 || assigned_name(argument) > 0) return true;
    size_t n = strspn(argument, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.");
    size_t first = strcspn(argument, ".");
    char section[64];
    if (argument[n] || !argument[first] || first >= sizeof section) return false;
    memcpy(section, argument, first);
    section[first] = '\0';
    return config_is_section(section) && access(argument, F_OK) != 0;
}

status config_set(config *cfg, const char *name, const char *text) {
    int key = config_find(name);
    if (key >= 0)
        return store_text(cfg, key, text,
                          "command line: ", (config_origin){.file = CONFIG_FROM_COMMAND_LINE});
    if (config_is_section(name))
        return error_set(STATUS_CONFIG, "maskrcnn config --keys lists every key",
                         "command line: %s is a section, not a key", name);
    return config_unknown_key("command line: ", name);
}

static status apply_overrides(config *cfg, char *const *overrides, int n) {
    for (int i = 0; i < n; i++) {
        const char *name = overrides[i], *value;
        size_t length = assigned_name(name);
        if (length > 0) {
            value = name + length + 1;
            name = config_copy(&cfg->memory, name, length);
            if (!name) return out_of_memory();
        } else if (i + 1 < n) {
            value = overrides[++i];
        } else if (config_find(name) < 0) {
            return config_unknown_key("command line: ", name);
        } else {
            return error_set(STATUS_USAGE, "write KEY VALUE or KEY=VALUE, e.g. SOLVER.MAX_ITER 1000",
                             "command line: %s has no value", name);
        }
        RETURN_IF_ERROR(config_set(cfg, name, value));
    }
    return STATUS_OK;
}

static status finish(config *cfg, status s) {
    if (s == STATUS_OK) s = config_check(cfg);
    if (s == STATUS_OK) s = config_check_size(cfg);
    if (s != STATUS_OK) config_release(cfg);
    return s;
}

status config_load(config *out, const char *path, char *const *overrides, int n) {
    RETURN_IF_ERROR(config_default(out));
    status s = path ? load_file(out, path, "", NULL) : STATUS_OK;
    if (s == STATUS_OK) s = apply_overrides(out, overrides, n);
    return finish(out, s);
}

status config_load_text(config *out, const char *name, const char *text, size_t size) {
    RETURN_IF_ERROR(config_default(out));
    return finish(out, load_yaml(out, name, text, size, NULL));
}

void config_log_warnings(config *cfg) {
    config defaults;
    if (config_default(&defaults) != STATUS_OK) return;
    for (int k = 0; k < CONFIG_KEY_COUNT; k++) {
        if (config_keys[k].help || cfg->origins[k].file == CONFIG_FROM_DEFAULT) continue;
        const char *value = config_format(cfg, k), *usual = config_format(&defaults, k);
        if (value && usual && strcmp(value, usual) != 0)
            log_warn("config", "%s = %s has no effect in this program", config_keys[k].name, value);
    }
    config_release(&defaults);
}
