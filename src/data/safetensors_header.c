#include "data/safetensors_header.h"

#include "base/text.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <yajl/yajl_parse.h>

#define METADATA "__metadata__"

/* What the next JSON event may be. The header has a fixed shape, so anything nested deeper is refused where
 * it starts. */
typedef enum place {
    PLACE_START,        /* before the outer object */
    PLACE_NAME,         /* in it, before a name */
    PLACE_TENSOR,       /* after a tensor's name, before its object */
    PLACE_FIELD,        /* in a tensor's object, before a field's name */
    PLACE_DTYPE,        /* before the value of "dtype" */
    PLACE_SHAPE,        /* before the list of "shape" */
    PLACE_SHAPE_ITEM,   /* in that list */
    PLACE_OFFSETS,      /* before the list of "data_offsets" */
    PLACE_OFFSETS_ITEM, /* in that list */
    PLACE_METADATA,     /* before the object of "__metadata__" */
    PLACE_META_KEY,     /* in it, before a key */
    PLACE_META_VALUE,   /* before its value */
    PLACE_END
} place;

typedef struct parse {
    const char *path;
    safetensors_header *header;
    size_t text_used;
    int64_t capacity, metadata_capacity;
    place at;
    bool has_metadata, has_dtype, has_shape, has_offsets;
    int offsets; /* numbers seen in "data_offsets" */
    uint64_t offset[2];
    status failure; /* of a callback; its message is recorded */
} parse;

static const char REMEDY[] =
    "the file is damaged or was not written by a safetensors library; write or download it again";

static int fail(parse *p, const char *rule) {
    const safetensors_header *h = p->header;
    if (p->at >= PLACE_FIELD && p->at <= PLACE_OFFSETS_ITEM && h->count > 0)
        p->failure = error_set(STATUS_DATA, REMEDY, "%s: tensor %.200s: %s", p->path,
                               h->tensors[h->count - 1].name, rule);
    else
        p->failure = error_set(STATUS_DATA, REMEDY, "%s: safetensors header: %s", p->path, rule);
    return 0;
}

static int out_of_memory(parse *p) {
    p->failure =
        error_set(STATUS_OS, "free some memory", "%s: no memory for the safetensors header", p->path);
    return 0;
}

/* Copies a decoded string behind the others; NULL (and a failure) for one that a C string or a terminal
 * cannot hold. Decoding never lengthens, and the two quotes are gone, so the text with its NUL fits where the
 * header did. */
static char *keep_text(parse *p, const unsigned char *s, size_t length, bool is_name) {
    for (size_t i = 0; i < length; i++) {
        if (s[i] == 0 || (is_name && (s[i] < 0x20 || s[i] == 0x7f))) {
            fail(p, "a name holds a control character");
            return NULL;
        }
    }
    char *copy = p->header->text + p->text_used;
    memcpy(copy, s, length);
    copy[length] = 0;
    p->text_used += length + 1;
    return copy;
}

static bool equals(const unsigned char *s, size_t length, const char *word) {
    return length == strlen(word) && memcmp(s, word, length) == 0;
}

static int start_tensor(parse *p, const unsigned char *s, size_t length) {
    safetensors_header *h = p->header;
    if (h->count == p->capacity) {
        int64_t capacity = p->capacity ? p->capacity * 2 : 64;
        safetensors_tensor *grown = realloc(h->tensors, (size_t)capacity * sizeof *grown);
        if (!grown) return out_of_memory(p);
        h->tensors = grown;
        p->capacity = capacity;
    }
    char *name = keep_text(p, s, length, true);
    if (!name) return 0;
    h->tensors[h->count++] = (safetensors_tensor){.name = name};
    p->has_dtype = p->has_shape = p->has_offsets = false;
    p->at = PLACE_TENSOR;
    return 1;
}

static int start_field(parse *p, const unsigned char *s, size_t length) {
    bool *seen;
    place next;
    if (equals(s, length, "dtype")) {
        seen = &p->has_dtype;
        next = PLACE_DTYPE;
    } else if (equals(s, length, "shape")) {
        seen = &p->has_shape;
        next = PLACE_SHAPE;
    } else if (equals(s, length, "data_offsets")) {
        seen = &p->has_offsets;
        next = PLACE_OFFSETS;
    } else {
        return fail(p, "a field other than dtype, shape and data_offsets");
    }
    if (*seen) return fail(p, "a field stands there twice");
    *seen = true;
    p->at = next;
    return 1;
}

static int start_pair(parse *p, const unsigned char *s, size_t length) {
    safetensors_header *h = p->header;
    if (h->metadata_count == p->metadata_capacity) {
        int64_t capacity = p->metadata_capacity ? p->metadata_capacity * 2 : 16;
        safetensors_pair *grown = realloc(h->metadata, (size_t)capacity * sizeof *grown);
        if (!grown) return out_of_memory(p);
        h->metadata = grown;
        p->metadata_capacity = capacity;
    }
    char *key = keep_text(p, s, length, true);
    if (!key) return 0;
    h->metadata[h->metadata_count++] = (safetensors_pair){.key = key};
    p->at = PLACE_META_VALUE;
    return 1;
}

static int on_key(void *context, const unsigned char *s, size_t length) {
    parse *p = context;
    switch (p->at) {
    case PLACE_NAME:
        if (!equals(s, length, METADATA)) return start_tensor(p, s, length);
        if (p->has_metadata) return fail(p, "\"" METADATA "\" stands there twice");
        p->has_metadata = true;
        p->at = PLACE_METADATA;
        return 1;
    case PLACE_FIELD:
        return start_field(p, s, length);
    default:
        return start_pair(p, s, length);
    }
}

static int on_string(void *context, const unsigned char *s, size_t length) {
    parse *p = context;
    safetensors_header *h = p->header;
    if (p->at == PLACE_META_VALUE) {
        char *value = keep_text(p, s, length, false);
        if (!value) return 0;
        h->metadata[h->metadata_count - 1].value = value;
        p->at = PLACE_META_KEY;
        return 1;
    }
    if (p->at != PLACE_DTYPE) return fail(p, "a string where none belongs");
    for (int d = 0; d < SAFETENSORS_DTYPES; d++) {
        if (equals(s, length, safetensors_dtype_name((safetensors_dtype)d))) {
            h->tensors[h->count - 1].dtype = (safetensors_dtype)d;
            p->at = PLACE_FIELD;
            return 1;
        }
    }
    return fail(p, "unknown dtype");
}

/* Only plain digits are an unsigned integer: "-0", "1.0" and "1e2" are not. */
static int on_number(void *context, const char *s, size_t length) {
    parse *p = context;
    if (p->at != PLACE_SHAPE_ITEM && p->at != PLACE_OFFSETS_ITEM)
        return fail(p, "a number where none belongs");
    uint64_t value = 0;
    for (size_t i = 0; i < length; i++) {
        if (s[i] < '0' || s[i] > '9') return fail(p, "a number that is not a non-negative integer");
        if (__builtin_mul_overflow(value, 10u, &value) ||
            __builtin_add_overflow(value, (uint64_t)(s[i] - '0'), &value) || value > INT64_MAX)
            return fail(p, "a number above 2^63 - 1");
    }
    if (p->at == PLACE_OFFSETS_ITEM) {
        if (p->offsets == 2) return fail(p, "data_offsets has more than two numbers");
        p->offset[p->offsets++] = value;
        return 1;
    }
    safetensors_tensor *t = &p->header->tensors[p->header->count - 1];
    if (t->rank == SAFETENSORS_MAX_RANK) return fail(p, "shape has more than 8 sizes");
    t->shape[t->rank++] = (int64_t)value;
    return 1;
}

static int finish_tensor(parse *p) {
    safetensors_tensor *t = &p->header->tensors[p->header->count - 1];
    if (!p->has_dtype || !p->has_shape || !p->has_offsets)
        return fail(p, "dtype, shape or data_offsets is missing");
    if (p->offset[1] < p->offset[0]) return fail(p, "data_offsets ends before it begins");
    uint64_t bytes = 1;
    for (int i = 0; i < t->rank; i++)
        if (__builtin_mul_overflow(bytes, (uint64_t)t->shape[i], &bytes))
            return fail(p, "the product of its shape overflows");
    if (bytes > INT64_MAX / 8) return fail(p, "the product of its shape overflows");
    t->elements = (int64_t)bytes;
    bytes *= safetensors_dtype_size(t->dtype);
    if (p->offset[1] - p->offset[0] != bytes)
        return fail(p, "data_offsets do not span shape times size of dtype");
    t->offset = (size_t)p->offset[0];
    t->bytes = (size_t)bytes;
    p->at = PLACE_NAME;
    return 1;
}

static int on_start_map(void *context) {
    parse *p = context;
    switch (p->at) {
    case PLACE_START:
        p->at = PLACE_NAME;
        return 1;
    case PLACE_TENSOR:
        p->at = PLACE_FIELD;
        return 1;
    case PLACE_METADATA:
        p->at = PLACE_META_KEY;
        return 1;
    default:
        return fail(p, "an object where none belongs");
    }
}

static int on_end_map(void *context) {
    parse *p = context;
    switch (p->at) {
    case PLACE_FIELD:
        return finish_tensor(p);
    case PLACE_META_KEY:
        p->at = PLACE_NAME;
        return 1;
    default:
        p->at = PLACE_END;
        return 0; /* yajl would let an unfinished token pass behind the end */
    }
}

static int on_start_array(void *context) {
    parse *p = context;
    if (p->at == PLACE_SHAPE) {
        p->at = PLACE_SHAPE_ITEM;
    } else if (p->at == PLACE_OFFSETS) {
        p->offsets = 0;
        p->at = PLACE_OFFSETS_ITEM;
    } else {
        return fail(p, "a list where none belongs");
    }
    return 1;
}

static int on_end_array(void *context) {
    parse *p = context;
    if (p->at == PLACE_OFFSETS_ITEM && p->offsets != 2)
        return fail(p, "data_offsets has less than two numbers");
    p->at = PLACE_FIELD;
    return 1;
}

static int on_null(void *context) {
    return fail(context, "null where none belongs");
}

static int on_boolean(void *context, int value) {
    (void)value;
    return fail(context, "true or false where none belongs");
}

/* The code unit of an escape `\uXXXX` at s, -1 if there is none. */
static int escape_unit(const unsigned char *s, size_t left) {
    if (left < 6 || s[0] != '\\' || s[1] != 'u') return -1;
    int unit = 0;
    for (int i = 2; i < 6; i++) {
        int c = s[i] | 0x20;
        int digit = s[i] >= '0' && s[i] <= '9' ? s[i] - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (digit < 0) return -1;
        unit = unit * 16 + digit;
    }
    return unit;
}

static bool is_space(unsigned char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* yajl takes overlong UTF-8, turns a lone surrogate into "?" and counts a form feed as white space: all are
 * refused here, before it sees the text. */
static status check_encoding(const char *path, const unsigned char *s, size_t length) {
    for (size_t i = 0; i < length;) {
        size_t step = text_utf8_length((const char *)s + i, length - i);
        if (step == 0)
            return error_set(STATUS_DATA, REMEDY, "%s: safetensors header: byte %zu is not UTF-8", path,
                             8 + i);
        if (s[i] < 0x20 && !is_space(s[i]))
            return error_set(STATUS_DATA, REMEDY, "%s: safetensors header: control character at byte %zu",
                             path, 8 + i);
        if (s[i] == '\\') {
            int unit = escape_unit(s + i, length - i),
                low = unit >= 0 ? escape_unit(s + i + 6, length - i - 6) : -1;
            bool is_pair = unit >= 0xd800 && unit < 0xdc00 && low >= 0xdc00 && low < 0xe000;
            if (unit >= 0xd800 && unit < 0xe000 && !is_pair)
                return error_set(STATUS_DATA, REMEDY,
                                 "%s: safetensors header: half a surrogate pair at byte %zu", path, 8 + i);
            step = is_pair ? 12 : unit >= 0 ? 6 : 2;
        }
        i += step;
    }
    return STATUS_OK;
}

static int compare_offset(const void *a, const void *b) {
    const safetensors_tensor *x = a, *y = b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int compare_name(const void *a, const void *b, void *context) {
    const safetensors_tensor *tensors = context;
    return strcmp(tensors[*(const int64_t *)a].name, tensors[*(const int64_t *)b].name);
}

static int compare_key(const void *a, const void *b) {
    return strcmp(((const safetensors_pair *)a)->key, ((const safetensors_pair *)b)->key);
}

/* The tensors, sorted by offset, follow one another and end where the data ends. */
static status check_coverage(const safetensors_header *h, const char *path, size_t data_bytes) {
    size_t end = 0;
    for (int64_t i = 0; i < h->count; i++) {
        const safetensors_tensor *t = &h->tensors[i];
        if (t->bytes > data_bytes || t->offset > data_bytes - t->bytes)
            return error_set(
                STATUS_DATA, "the file is cut off; copy or download it again",
                "%s: tensor %.200s: data_offsets [%zu, %zu] reach behind the file's %zu bytes of data", path,
                t->name, t->offset, t->offset + t->bytes, data_bytes);
        if (t->offset != end)
            return error_set(STATUS_DATA, REMEDY,
                             "%s: tensor %.200s: begins at byte %zu of the data, but the tensors before it "
                             "end at %zu (%s)",
                             path, t->name, t->offset, end, t->offset < end ? "overlap" : "hole");
        end += t->bytes;
    }
    if (end != data_bytes)
        return error_set(STATUS_DATA, REMEDY,
                         "%s: the tensors cover %zu bytes, but the file has %zu bytes of data", path, end,
                         data_bytes);
    return STATUS_OK;
}

static status sort_and_check(safetensors_header *h, const char *path, size_t data_bytes) {
    if (h->count == 0) goto metadata;
    qsort(h->tensors, (size_t)h->count, sizeof *h->tensors, compare_offset);
    h->by_name = malloc((size_t)h->count * sizeof *h->by_name);
    if (!h->by_name)
        return error_set(STATUS_OS, "free some memory", "%s: no memory for the safetensors header", path);
    for (int64_t i = 0; i < h->count; i++) h->by_name[i] = i;
    qsort_r(h->by_name, (size_t)h->count, sizeof *h->by_name, compare_name, h->tensors);
    for (int64_t i = 1; i < h->count; i++) {
        const char *name = h->tensors[h->by_name[i]].name;
        if (strcmp(h->tensors[h->by_name[i - 1]].name, name) == 0)
            return error_set(STATUS_DATA, REMEDY, "%s: tensor %.200s: the name stands there twice", path,
                             name);
    }
metadata:
    if (h->metadata_count > 0)
        qsort(h->metadata, (size_t)h->metadata_count, sizeof *h->metadata, compare_key);
    for (int64_t i = 1; i < h->metadata_count; i++)
        if (strcmp(h->metadata[i - 1].key, h->metadata[i].key) == 0)
            return error_set(STATUS_DATA, REMEDY, "%s: " METADATA ": the key %.200s stands there twice", path,
                             h->metadata[i].key);
    return check_coverage(h, path, data_bytes);
}

status safetensors_header_parse(safetensors_header *header, const char *path, const char *json, size_t length,
                                size_t data_bytes) {
    static const yajl_callbacks callbacks = {.yajl_null = on_null,
                                             .yajl_boolean = on_boolean,
                                             .yajl_number = on_number,
                                             .yajl_string = on_string,
                                             .yajl_start_map = on_start_map,
                                             .yajl_map_key = on_key,
                                             .yajl_end_map = on_end_map,
                                             .yajl_start_array = on_start_array,
                                             .yajl_end_array = on_end_array};
    *header = (safetensors_header){.text = malloc(length + 1)};
    if (!header->text)
        return error_set(STATUS_OS, "free some memory", "%s: no memory for the safetensors header", path);
    RETURN_IF_ERROR(check_encoding(path, (const unsigned char *)json, length));
    parse p = {.path = path, .header = header, .at = PLACE_START};
    yajl_handle yajl = yajl_alloc(&callbacks, NULL, &p);
    if (!yajl) return error_set(STATUS_OS, "free some memory", "%s: no memory for the JSON parser", path);
    yajl_parse(yajl, (const unsigned char *)json, length);
    size_t consumed = yajl_get_bytes_consumed(yajl);
    yajl_free(yajl);
    if (p.failure) return p.failure;
    bool is_whole = p.at == PLACE_END;
    for (size_t i = consumed; is_whole && i < length; i++) is_whole = is_space((unsigned char)json[i]);
    if (!is_whole)
        return error_set(STATUS_DATA, REMEDY, "%s: safetensors header: not valid JSON near byte %zu", path,
                         8 + consumed);
    return sort_and_check(header, path, data_bytes);
}

void safetensors_header_release(safetensors_header *header) {
    free(header->tensors);
    free(header->by_name);
    free(header->metadata);
    free(header->text);
    *header = (safetensors_header){0};
}
