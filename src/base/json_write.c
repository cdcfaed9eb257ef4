#include "base/json_write.h"

#include "base/check.h"
#include "base/text.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

void json_write_init(json_writer *w) {
    *w = (json_writer){0};
}

void json_write_release(json_writer *w) {
    free(w->text);
    json_write_init(w);
}

static void append(json_writer *w, const char *bytes, size_t count) {
    if (w->out_of_memory) return;
    if (count >= w->capacity - w->size || !w->text) {
        size_t capacity = w->capacity ? w->capacity : 256;
        while (count >= capacity - w->size) {
            if (__builtin_mul_overflow(capacity, (size_t)2, &capacity)) {
                w->out_of_memory = true;
                return;
            }
        }
        char *grown = realloc(w->text, capacity);
        if (!grown) {
            w->out_of_memory = true;
            return;
        }
        w->text = grown;
        w->capacity = capacity;
    }
    memcpy(w->text + w->size, bytes, count);
    w->size += count;
    w->text[w->size] = '\0';
}

static void append_text(json_writer *w, const char *text) {
    append(w, text, strlen(text));
}

/* What stands before a value: nothing after a key, else the separator of the array. */
static void before_value(json_writer *w) {
    if (w->after_key) {
        w->after_key = false;
        return;
    }
    if (w->depth == 0) return;
    CHECK(w->kind[w->depth - 1] == '[', "a JSON value in an object needs its key first");
    if (w->filled[w->depth - 1]) append(w, ", ", 2);
    w->filled[w->depth - 1] = true;
}

static void begin(json_writer *w, char kind) {
    before_value(w);
    CHECK(w->depth < JSON_WRITE_MAX_DEPTH, "JSON nested deeper than %d", JSON_WRITE_MAX_DEPTH);
    w->kind[w->depth] = kind;
    w->filled[w->depth] = false;
    w->depth++;
    append(w, &kind, 1);
}

static void end(json_writer *w, char kind, char close) {
    CHECK(w->depth > 0 && w->kind[w->depth - 1] == kind && !w->after_key, "JSON `%c` does not close anything",
          close);
    w->depth--;
    append(w, &close, 1);
}

void json_write_begin_object(json_writer *w) {
    begin(w, '{');
}
void json_write_end_object(json_writer *w) {
    end(w, '{', '}');
}
void json_write_begin_array(json_writer *w) {
    begin(w, '[');
}
void json_write_end_array(json_writer *w) {
    end(w, '[', ']');
}

static void append_quoted(json_writer *w, const char *text) {
    append(w, "\"", 1);
    const unsigned char *p = (const unsigned char *)text, *plain = p;
    while (*p) {
        size_t length = text_utf8_length((const char *)p, SIZE_MAX);
        if (length && *p >= 0x20 && *p != '"' && *p != '\\') {
            p += length;
            continue;
        }
        append(w, (const char *)plain, (size_t)(p - plain));
        char escape[8];
        if (!length)
            snprintf(escape, sizeof escape, "\\ufffd");
        else if (*p == '\n')
            snprintf(escape, sizeof escape, "\\n");
        else if (*p == '\t')
            snprintf(escape, sizeof escape, "\\t");
        else if (*p == '\r')
            snprintf(escape, sizeof escape, "\\r");
        else if (*p < 0x20)
            snprintf(escape, sizeof escape, "\\u%04x", *p);
        else
            snprintf(escape, sizeof escape, "\\%c", *p);
        append_text(w, escape);
        plain = ++p;
    }
    append(w, (const char *)plain, (size_t)(p - plain));
    append(w, "\"", 1);
}

void json_write_key(json_writer *w, const char *key) {
    CHECK(w->depth > 0 && w->kind[w->depth - 1] == '{' && !w->after_key, "JSON key %s outside an object",
          key);
    if (w->filled[w->depth - 1]) append(w, ", ", 2);
    w->filled[w->depth - 1] = true;
    append_quoted(w, key);
    append(w, ": ", 2);
    w->after_key = true;
}

void json_write_string(json_writer *w, const char *text) {
    before_value(w);
    append_quoted(w, text);
}

void json_write_i64(json_writer *w, int64_t value) {
    char digits[32];
    snprintf(digits, sizeof digits, "%" PRId64, value);
    before_value(w);
    append_text(w, digits);
}

void json_write_bool(json_writer *w, bool value) {
    before_value(w);
    append_text(w, value ? "true" : "false");
}

void json_write_null(json_writer *w) {
    before_value(w);
    append(w, "null", 4);
}

void json_format_f64(char out[32], double value) {
    if (!isfinite(value)) {
        memcpy(out, "null", 5);
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(out, 32, "%.*g", digits, value);
        if (strtod(out, NULL) == value) return;
    }
}

void json_format_f32(char out[32], float value) {
    if (!isfinite(value)) {
        memcpy(out, "null", 5);
        return;
    }
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(out, 32, "%.*g", digits, (double)value);
        if (strtof(out, NULL) == value) return;
    }
}

void json_write_f64(json_writer *w, double value) {
    char digits[32];
    json_format_f64(digits, value);
    before_value(w);
    append_text(w, digits);
}

void json_write_f32(json_writer *w, float value) {
    char digits[32];
    json_format_f32(digits, value);
    before_value(w);
    append_text(w, digits);
}

void json_write_newline(json_writer *w) {
    CHECK(w->depth == 0, "a line end inside a JSON value");
    append(w, "\n", 1);
}

static status memory_status(const json_writer *w) {
    if (!w->out_of_memory) return STATUS_OK;
    return error_set(STATUS_OS, "free some memory", "no memory for JSON text beyond %zu bytes", w->size);
}

status json_write_flush(json_writer *w, FILE *file) {
    RETURN_IF_ERROR(memory_status(w));
    if (w->size) fwrite(w->text, 1, w->size, file);
    w->size = 0;
    return STATUS_OK;
}

status json_write_finish(json_writer *w) {
    CHECK(w->depth == 0 && !w->after_key, "JSON text ends inside a value (depth %d)", w->depth);
    return memory_status(w);
}
