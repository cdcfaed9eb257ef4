/* Writes JSON text into a growing buffer: metrics lines, run_status.json, manifests, COCO results, synthetic
 * datasets. Separators are Python's (", " and ": "), on one line. The order of keys is the caller's.
 *
 *   json_writer w;
 *   json_write_init(&w);
 *   json_write_begin_object(&w);
 *   json_write_key(&w, "iteration"), json_write_i64(&w, 19);
 *   json_write_end_object(&w);
 *   RETURN_IF_ERROR(json_write_finish(&w));          // the only place that can fail: no memory
 *   ... w.text, w.size ...
 *   json_write_release(&w);
 *
 * A key without a value, a value where a key must stand, or an end without its begin is a CHECK. */
#ifndef BASE_JSON_WRITE_H
#define BASE_JSON_WRITE_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { JSON_WRITE_MAX_DEPTH = 32 };

typedef struct json_writer {
    char *text; /* zero-terminated, `size` bytes; owned by the writer */
    size_t size, capacity;
    int depth;
    char kind[JSON_WRITE_MAX_DEPTH];   /* '{' or '[' for each open level */
    bool filled[JSON_WRITE_MAX_DEPTH]; /* the level has an element already */
    bool after_key, out_of_memory;
} json_writer;

void json_write_init(json_writer *w);
void json_write_release(json_writer *w);

void json_write_begin_object(json_writer *w);
void json_write_end_object(json_writer *w);
void json_write_begin_array(json_writer *w);
void json_write_end_array(json_writer *w);
void json_write_key(json_writer *w, const char *key);

/* `text` is UTF-8; quotes, backslashes and control characters are escaped, malformed bytes become U+FFFD. */
void json_write_string(json_writer *w, const char *text);
void json_write_i64(json_writer *w, int64_t value);
void json_write_bool(json_writer *w, bool value);
void json_write_null(json_writer *w);

/* Shortest digits that read back as the same double (float); NaN and infinities, which JSON lacks, become
 * null. */
void json_write_f64(json_writer *w, double value);
void json_write_f32(json_writer *w, float value);

/* Appends the line end that makes a line of JSON Lines; only between values of level 0. */
void json_write_newline(json_writer *w);

/* Moves the text so far into `file` and empties the buffer; nesting goes on. For outputs too large for
 * memory. Write errors show in ferror(file); STATUS_OS if memory ran out on the way. */
status json_write_flush(json_writer *w, FILE *file);

/* CHECKs that everything is closed; STATUS_OS if memory ran out on the way, and then the text is incomplete. */
status json_write_finish(json_writer *w);

/* Shortest form of a number alone, for other text writers. `out` has room for 32 bytes. */
void json_format_f64(char out[32], double value);
void json_format_f32(char out[32], float value);

#endif
