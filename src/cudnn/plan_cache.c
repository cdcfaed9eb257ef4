#include "cudnn/plan_cache.h"

#include "base/check.h"
#include "base/crc32c.h"
#include "base/file_util.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

enum { MAX_FILE = 256 << 20, FIELDS = 5 };

static char *copy_text(const char *text, size_t length) {
    char *copy = strndup(text, length);
    CHECK(copy, "out of memory for %zu bytes of a plan", length);
    return copy;
}

static void release_record(plan_record *r) {
    free(r->key);
    free(r->json);
}

static void clear(plan_cache *cache) {
    for (int i = 0; i < cache->count; i++) release_record(&cache->records[i]);
    cache->count = 0;
}

void plan_cache_release(plan_cache *cache) {
    clear(cache);
    free(cache->records);
    *cache = (plan_cache){0};
}

/* Where the key is or belongs. */
static int place_of(const plan_cache *cache, const char *key, bool *found) {
    int low = 0, high = cache->count;
    *found = false;
    while (low < high) {
        int middle = low + (high - low) / 2, order = strcmp(cache->records[middle].key, key);
        if (order == 0) *found = true;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const plan_record *plan_cache_find(const plan_cache *cache, const char *key) {
    bool found;
    int i = place_of(cache, key, &found);
    return found ? &cache->records[i] : NULL;
}

static void insert(plan_cache *cache, int at, const plan_record *record) {
    if (cache->count == cache->capacity) {
        cache->capacity = cache->capacity ? 2 * cache->capacity : 256;
        cache->records = realloc(cache->records, (size_t)cache->capacity * sizeof *cache->records);
        CHECK(cache->records, "out of memory for %d plans", cache->capacity);
    }
    memmove(&cache->records[at + 1], &cache->records[at],
            (size_t)(cache->count - at) * sizeof *cache->records);
    cache->records[at] = *record;
    cache->count++;
}

void plan_cache_put(plan_cache *cache, const char *key, const char *json, int64_t workspace,
                    double milliseconds) {
    CHECK(!strpbrk(key, "\t\r\n") && !strpbrk(json, "\t\r\n"), "a plan of several lines");
    plan_record record = {copy_text(key, strlen(key)), copy_text(json, strlen(json)), workspace,
                          milliseconds};
    bool found;
    int at = place_of(cache, key, &found);
    if (found) {
        release_record(&cache->records[at]);
        cache->records[at] = record;
    } else {
        insert(cache, at, &record);
    }
    cache->changed = true;
}

void plan_cache_remove(plan_cache *cache, const char *key) {
    bool found;
    int at = place_of(cache, key, &found);
    if (!found) return;
    release_record(&cache->records[at]);
    cache->count--;
    memmove(&cache->records[at], &cache->records[at + 1],
            (size_t)(cache->count - at) * sizeof *cache->records);
    cache->changed = true;
}

/* ---- reading -------------------------------------------------------------------------------------------- */

static bool bad_line(int line, const char *what) {
    error_set(STATUS_DATA, "remove the file; plans will be searched again", "line %d: %s", line, what);
    return false;
}

/* The whole field as a number. */
static bool read_integer(int64_t *out, const char *field) {
    char *end;
    errno = 0;
    *out = strtoll(field, &end, 10);
    return end != field && *end == '\0' && errno == 0 && *out >= 0;
}

static bool read_number(double *out, const char *field) {
    char *end;
    *out = strtod(field, &end);
    return end != field && *end == '\0' && *out >= -1.0 && *out < 1e9;
}

/* A line of five fields, which is changed: its tabs become ends of text. */
static bool parse_record(plan_cache *cache, char *line, int number) {
    char *fields[FIELDS] = {line}, *last_tab = strrchr(line, '\t');
    if (!last_tab) return bad_line(number, "no fields");
    uint32_t crc = crc32c(0, line, (size_t)(last_tab - line));
    int n = 1;
    for (char *tab = strchr(line, '\t'); tab && n < FIELDS; tab = strchr(tab + 1, '\t')) {
        *tab = '\0';
        fields[n++] = tab + 1;
    }
    char expected[16];
    snprintf(expected, sizeof expected, "%08" PRIx32, crc);
    if (n != FIELDS || strcmp(fields[4], expected) != 0) return bad_line(number, "damaged");
    int64_t workspace;
    double milliseconds;
    if (!fields[0][0] || !read_integer(&workspace, fields[1]) || !read_number(&milliseconds, fields[2]))
        return bad_line(number, "no key, workspace or time");
    plan_cache_put(cache, fields[0], fields[3], workspace, milliseconds);
    return true;
}

static bool parse_lines(plan_cache *cache, char *text, size_t size) {
    if (strlen(text) != size) return bad_line(0, "it is no text");
    if (size == 0 || text[size - 1] != '\n') return bad_line(0, "cut off");
    int number = 0;
    for (char *line = text, *end; *line; line = end + 1) {
        end = strchr(line, '\n');
        *end = '\0';
        if (strchr(line, '\r')) return bad_line(number + 1, "damaged");
        if (number++ == 0) {
            if (strcmp(line, cache->title) != 0)
                return bad_line(1, "made for another GPU or version of cuDNN");
        } else if (!parse_record(cache, line, number)) {
            return false;
        }
    }
    return true;
}

bool plan_cache_parse(plan_cache *cache, const char *text, size_t size) {
    char *copy = malloc(size + 1);
    CHECK(copy, "out of memory for %zu bytes of plans", size);
    memcpy(copy, text, size);
    copy[size] = '\0';
    bool right = parse_lines(cache, copy, size);
    free(copy);
    if (!right) clear(cache);
    cache->changed = false;
    return right;
}

static void read_cache(plan_cache *cache) {
    char *text;
    size_t size;
    if (access(cache->path, F_OK) != 0) return;
    if (read_file(&text, &size, cache->path, MAX_FILE) != STATUS_OK) {
        log_warn("plans", "the plan cache is not used: %s", error_cause());
        return;
    }
    if (!plan_cache_parse(cache, text, size))
        log_warn("plans", "the plan cache %s is not used: %s", cache->path, error_cause());
    free(text);
}

static void name_file(char *name, size_t size, const cudnn_target *target) {
    snprintf(name, size, "plans-cudnn%zu-sm%d-%s.txt", target->version, target->capability, target->name);
    for (char *c = name; *c; c++)
        if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.", *c)) *c = '_';
}

status plan_cache_open(plan_cache *cache, const char *folder, const cudnn_target *target) {
    char name[160];
    *cache = (plan_cache){0};
    name_file(name, sizeof name, target);
    RETURN_IF_ERROR(path_join(cache->path, folder, name));
    snprintf(cache->title, sizeof cache->title, "maskrcnn plans 1, cuDNN %zu, sm_%d, %s", target->version,
             target->capability, target->name);
    read_cache(cache);
    return STATUS_OK;
}

/* ---- writing -------------------------------------------------------------------------------------------- */

static status write_cache(const plan_cache *cache) {
    char *text = NULL;
    size_t size = 0;
    FILE *file = open_memstream(&text, &size);
    if (!file) return error_set(STATUS_OS, "free some memory", "no memory for the plan cache");
    fprintf(file, "%s\n", cache->title);
    for (int i = 0; i < cache->count; i++) {
        const plan_record *r = &cache->records[i];
        fflush(file);
        size_t start = size;
        fprintf(file, "%s\t%" PRId64 "\t%.6g\t%s", r->key, r->workspace, r->milliseconds, r->json);
        fflush(file);
        fprintf(file, "\t%08" PRIx32 "\n", crc32c(0, text + start, size - start));
    }
    status s = fclose(file) == 0 ? write_file_atomic(cache->path, text, size)
                                 : error_set(STATUS_OS, "free some memory", "no memory for the plan cache");
    free(text);
    return s;
}

/* Takes over what another process wrote since this one read. */
static void merge_file(plan_cache *cache) {
    plan_cache there = {0};
    memcpy(there.path, cache->path, sizeof there.path);
    memcpy(there.title, cache->title, sizeof there.title);
    read_cache(&there);
    for (int i = 0; i < there.count; i++) {
        const plan_record *r = &there.records[i];
        if (!plan_cache_find(cache, r->key))
            plan_cache_put(cache, r->key, r->json, r->workspace, r->milliseconds);
    }
    plan_cache_release(&there);
}

status plan_cache_save(plan_cache *cache) {
    if (!cache->changed) return STATUS_OK;
    char folder[PATH_MAX], lock[PATH_MAX + 8];
    snprintf(folder, sizeof folder, "%s", cache->path);
    *strrchr(folder, '/') = '\0';
    RETURN_IF_ERROR(make_directories(folder));
    snprintf(lock, sizeof lock, "%s.lock", cache->path);
    int fd = open(lock, O_CREAT | O_RDWR | O_CLOEXEC, 0666);
    if (fd < 0) return error_from_output(errno, "open", lock);
    while (flock(fd, LOCK_EX) != 0 && errno == EINTR) {
    }
    merge_file(cache);
    status s = write_cache(cache);
    close(fd);
    if (s == STATUS_OK) cache->changed = false;
    return s;
}
