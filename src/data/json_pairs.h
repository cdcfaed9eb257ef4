/* A small JSON document as a list of (path, value) texts: {"a": {"b": [7, "x"]}} gives "a/b/0" = "7" and
 * "a/b/1" = "x". For manifests, states and metadata, not for data sets: at most 16 MiB and 8 levels. */
#ifndef DATA_JSON_PAIRS_H
#define DATA_JSON_PAIRS_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { JSON_PAIRS_MAX_BYTES = 16 << 20, JSON_PAIRS_MAX_DEPTH = 8 };

typedef struct json_pair {
    char *path;
    char *value; /* text of a string or number; "true", "false", "null" */
} json_pair;

typedef struct json_pairs {
    json_pair *items; /* in the order of the text */
    int count, capacity;
} json_pairs;

/* `name` stands for the document in messages. DATA: not valid JSON, too large, too deep, or a key twice.
 * Release it also after a failure. */
status json_pairs_parse(json_pairs *out, const char *name, const char *text, size_t size);
void json_pairs_release(json_pairs *pairs);

/* JSON Lines: calls `add` with each line that is a document, in order, and counts the others (empty ones aside) in
 * *unread. Stops at the first call that fails, with its code; OS. */
typedef status (*json_pairs_line)(void *context, const json_pairs *line);
status json_pairs_parse_lines(int64_t *unread, json_pairs_line add, void *context, const char *text,
                              size_t size);

/* Value of a path, NULL where there is none. */
const char *json_pairs_get(const json_pairs *pairs, const char *path);

/* The value as a whole number; false where it is absent, something else or too large. */
bool json_pairs_i64(int64_t *out, const json_pairs *pairs, const char *path);

/* The value as a finite number; false where it is absent or something else. */
bool json_pairs_f64(double *out, const json_pairs *pairs, const char *path);

/* The same of a pair at hand. */
bool json_pair_i64(int64_t *out, const json_pair *pair);
bool json_pair_f64(double *out, const json_pair *pair);

#endif
