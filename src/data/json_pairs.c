#include "data/json_pairs.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <yajl/yajl_parse.h>

enum { PATH_SIZE = 512 };

typedef struct level {
    size_t length; /* of the path in front of this level's own part */
    int64_t index; /* of the next element of a list; -1 in an object */
} level;

typedef struct parse {
    json_pairs *out;
    char path[PATH_SIZE];
    level levels[JSON_PAIRS_MAX_DEPTH];
    int depth;
    const char *problem; /* why a callback stopped */
} parse;

static int stop(parse *p, const char *problem) {
    p->problem = problem;
    return 0;
}

/* Ends the path with `part`, the name of the value that comes next. */
static int set_part(parse *p, const char *part, size_t size) {
    const level *l = &p->levels[p->depth - 1];
    if (memchr(part, 0, size)) return stop(p, "a name holds a zero byte");
    int written =
        snprintf(p->path + l->length, PATH_SIZE - l->length, "%s%.*s", l->length ? "/" : "", (int)size, part);
    if (size >= PATH_SIZE || (size_t)written >= PATH_SIZE - l->length) return stop(p, "a name is too long");
    return 1;
}

/* Before every value: in a list, its number becomes the last part of the path. */
static int name_element(parse *p) {
    if (p->depth == 0 || p->levels[p->depth - 1].index < 0) return 1;
    char number[24];
    int size = snprintf(number, sizeof number, "%lld", (long long)p->levels[p->depth - 1].index++);
    return set_part(p, number, (size_t)size);
}

static int add_value(parse *p, const char *value, size_t size) {
    json_pairs *out = p->out;
    if (!name_element(p)) return 0;
    if (memchr(value, 0, size)) return stop(p, "a value holds a zero byte");
    if (out->count == out->capacity) {
        int capacity = out->capacity ? 2 * out->capacity : 32;
        json_pair *grown = realloc(out->items, (size_t)capacity * sizeof *grown);
        if (!grown) return stop(p, "no memory");
        out->items = grown;
        out->capacity = capacity;
    }
    json_pair pair = {.path = strdup(p->path), .value = strndup(value, size)};
    out->items[out->count++] = pair;
    return pair.path && pair.value ? 1 : stop(p, "no memory");
}

static int open_level(parse *p, int64_t index) {
    if (!name_element(p)) return 0;
    if (p->depth == JSON_PAIRS_MAX_DEPTH) return stop(p, "nested too deep");
    p->levels[p->depth++] = (level){.length = strlen(p->path), .index = index};
    return 1;
}

static int close_level(void *context) {
    parse *p = context;
    p->path[p->levels[--p->depth].length] = 0;
    return 1;
}

static int on_null(void *context) {
    return add_value(context, "null", 4);
}

static int on_boolean(void *context, int value) {
    return value ? add_value(context, "true", 4) : add_value(context, "false", 5);
}

static int on_number(void *context, const char *s, size_t size) {
    return add_value(context, s, size);
}

static int on_string(void *context, const unsigned char *s, size_t size) {
    return add_value(context, (const char *)s, size);
}

static int on_start_map(void *context) {
    return open_level(context, -1);
}

static int on_start_array(void *context) {
    return open_level(context, 0);
}

static int on_key(void *context, const unsigned char *s, size_t size) {
    return set_part(context, (const char *)s, size);
}

static int compare_path(const void *a, const void *b) {
    return strcmp((*(const json_pair *const *)a)->path, (*(const json_pair *const *)b)->path);
}

static status refuse_twins(const json_pairs *pairs, const char *name) {
    if (pairs->count < 2) return STATUS_OK;
    const json_pair **sorted = malloc((size_t)pairs->count * sizeof *sorted);
    if (!sorted) return error_set(STATUS_OS, "free some memory", "%s: no memory", name);
    for (int i = 0; i < pairs->count; i++) sorted[i] = &pairs->items[i];
    qsort(sorted, (size_t)pairs->count, sizeof *sorted, compare_path);
    status s = STATUS_OK;
    for (int i = 1; i < pairs->count && s == STATUS_OK; i++)
        if (compare_path(&sorted[i - 1], &sorted[i]) == 0)
            s = error_set(STATUS_DATA, "the file is damaged", "%s: %s stands there twice", name,
                          sorted[i]->path);
    free(sorted);
    return s;
}

status json_pairs_parse(json_pairs *out, const char *name, const char *text, size_t size) {
    static const yajl_callbacks callbacks = {.yajl_null = on_null,
                                             .yajl_boolean = on_boolean,
                                             .yajl_number = on_number,
                                             .yajl_string = on_string,
                                             .yajl_start_map = on_start_map,
                                             .yajl_map_key = on_key,
                                             .yajl_end_map = close_level,
                                             .yajl_start_array = on_start_array,
                                             .yajl_end_array = close_level};
    *out = (json_pairs){0};
    if (size > JSON_PAIRS_MAX_BYTES)
        return error_set(STATUS_DATA, "check that this is the right file",
                         "%s: %zu bytes of JSON, more than 16 MiB", name, size);
    parse p = {.out = out};
    yajl_handle yajl = yajl_alloc(&callbacks, NULL, &p);
    if (!yajl) return error_set(STATUS_OS, "free some memory", "%s: no memory for the JSON parser", name);
    yajl_status result = yajl_parse(yajl, (const unsigned char *)text, size);
    if (result == yajl_status_ok) result = yajl_complete_parse(yajl);
    size_t at = yajl_get_bytes_consumed(yajl);
    yajl_free(yajl);
    if (result != yajl_status_ok)
        return error_set(STATUS_DATA, "the file is damaged", "%s: %s near byte %zu", name,
                         p.problem ? p.problem : "not valid JSON", at);
    return refuse_twins(out, name);
}

status json_pairs_parse_lines(int64_t *unread, json_pairs_line add, void *context, const char *text,
                              size_t size) {
    *unread = 0;
    for (size_t at = 0; at < size;) {
        const char *end = memchr(text + at, '\n', size - at);
        size_t length = end ? (size_t)(end - text) - at : size - at;
        json_pairs line = {0};
        status s = length ? json_pairs_parse(&line, "line", text + at, length) : STATUS_OK;
        if (s == STATUS_DATA) {
            ++*unread;
            error_clear();
            s = STATUS_OK;
        } else if (s == STATUS_OK && length)
            s = add(context, &line);
        json_pairs_release(&line);
        if (s != STATUS_OK) return s;
        at += length + 1;
    }
    return STATUS_OK;
}

void json_pairs_release(json_pairs *pairs) {
    for (int i = 0; i < pairs->count; i++) {
        free(pairs->items[i].path);
        free(pairs->items[i].value);
    }
    free(pairs->items);
    *pairs = (json_pairs){0};
}

static const json_pair *find_pair(const json_pairs *pairs, const char *path) {
    for (int i = 0; i < pairs->count; i++)
        if (strcmp(pairs->items[i].path, path) == 0) return &pairs->items[i];
    return NULL;
}

const char *json_pairs_get(const json_pairs *pairs, const char *path) {
    const json_pair *pair = find_pair(pairs, path);
    return pair ? pair->value : NULL;
}

bool json_pair_i64(int64_t *out, const json_pair *pair) {
    if (!*pair->value) return false;
    char *end;
    errno = 0;
    long long value = strtoll(pair->value, &end, 10);
    if (errno || *end) return false;
    *out = value;
    return true;
}

bool json_pair_f64(double *out, const json_pair *pair) {
    if (!*pair->value) return false;
    char *end;
    double value = strtod(pair->value, &end);
    if (*end || !isfinite(value)) return false;
    *out = value;
    return true;
}

bool json_pairs_i64(int64_t *out, const json_pairs *pairs, const char *path) {
    const json_pair *pair = find_pair(pairs, path);
    return pair && json_pair_i64(out, pair);
}

bool json_pairs_f64(double *out, const json_pairs *pairs, const char *path) {
    const json_pair *pair = find_pair(pairs, path);
    return pair && json_pair_f64(out, pair);
}
