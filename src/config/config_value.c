#include "config/config_value.h"

#include "base/text.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LIST_DEPTH_LIMIT = 8, BLOCK_SIZE = 16 * 1024 };

struct config_block {
    struct config_block *next;
    size_t used, size;
    max_align_t bytes[];
};

void *config_alloc(config_block **memory, size_t size) {
    size_t align = _Alignof(max_align_t);
    if (size > SIZE_MAX / 2) return NULL;
    size = (size + align - 1) / align * align;
    config_block *b = *memory;
    if (!b || b->size - b->used < size) {
        size_t capacity = size > BLOCK_SIZE ? size : BLOCK_SIZE;
        b = calloc(1, sizeof *b + capacity);
        if (!b) return NULL;
        b->size = capacity;
        b->next = *memory;
        *memory = b;
    }
    void *p = (char *)b->bytes + b->used;
    b->used += size;
    return p;
}

char *config_copy(config_block **memory, const char *text, size_t length) {
    char *copy = config_alloc(memory, length + 1);
    if (copy && length) memcpy(copy, text, length);
    return copy;
}

void config_memory_free(config_block *memory) {
    while (memory) {
        config_block *next = memory->next;
        free(memory);
        memory = next;
    }
}

config_node *config_scalar(config_block **memory, const char *text, bool quoted) {
    config_node *node = config_alloc(memory, sizeof *node);
    if (node) *node = (config_node){.text = text, .quoted = quoted, .weight = (int)strlen(text) + 4};
    return node;
}

/* ---- Python and YAML flow literals ---- */

static const char *skip_space(const char *p) {
    while (isspace((unsigned char)*p)) p++;
    return p;
}

/* A quoted string at *p, which it moves behind the closing quote. Backslash stands for the character after
 * it. */
static config_node *parse_quoted(config_block **memory, const char **p) {
    char quote = **p;
    const char *start = *p + 1, *end = start;
    while (*end && *end != quote) end += end[0] == '\\' && end[1] ? 2 : 1;
    if (!*end) return NULL;
    char *text = config_alloc(memory, (size_t)(end - start) + 1);
    if (!text) return NULL;
    size_t n = 0;
    for (const char *c = start; c < end; c++) {
        if (*c == '\\') c++;
        text[n++] = *c;
    }
    *p = end + 1;
    return config_scalar(memory, text, true);
}

static config_node *parse_items(config_block **memory, const char **p, int depth);

static config_node *parse_item(config_block **memory, const char **p, int depth) {
    if (**p == '(' || **p == '[') return parse_items(memory, p, depth + 1);
    if (**p == '"' || **p == '\'') return parse_quoted(memory, p);
    const char *start = *p;
    *p += strcspn(*p, ",()[]\"'");
    const char *end = *p;
    while (end > start && isspace((unsigned char)end[-1])) end--;
    if (end == start) return NULL;
    const char *text = config_copy(memory, start, (size_t)(end - start));
    return text ? config_scalar(memory, text, false) : NULL;
}

/* The list that starts with the bracket at *p; moves *p behind its end. */
static config_node *parse_items(config_block **memory, const char **p, int depth) {
    if (depth > LIST_DEPTH_LIMIT) return NULL;
    char close = **p == '(' ? ')' : ']';
    config_node *list = config_alloc(memory, sizeof *list);
    if (!list) return NULL;
    list->is_list = true;
    config_node **end = &list->first;
    for (*p = skip_space(*p + 1); **p != close; *p = skip_space(*p)) {
        config_node *item = parse_item(memory, p, depth);
        if (!item) return NULL;
        *end = item;
        end = &item->next;
        list->count++;
        *p = skip_space(*p);
        if (**p == ',')
            (*p)++;
        else if (**p != close)
            return NULL;
    }
    (*p)++;
    return list;
}

config_node *config_parse_list(config_block **memory, const char *text) {
    const char *p = skip_space(text);
    if (*p != '(' && *p != '[') return NULL;
    config_node *list = parse_items(memory, &p, 1);
    return list && !*skip_space(p) ? list : NULL;
}

/* Whether parse_item reads the text back as it stands. */
static bool is_plain(const char *text) {
    size_t n = strlen(text);
    return n > 0 && !text[strcspn(text, ",()[]\"'")] && !isspace((unsigned char)text[0]) &&
           !isspace((unsigned char)text[n - 1]);
}

/* Words are written as Python does, so that a YAML list and the table's default compare. */
static void write_scalar(FILE *to, const config_node *node) {
    if (!node->quoted && is_plain(node->text)) {
        const char *text = node->text;
        fputs(strcmp(text, "true") == 0 ? "True" : strcmp(text, "false") == 0 ? "False" : text, to);
        return;
    }
    fputc('"', to);
    for (const char *p = node->text; *p; p++) {
        if (*p == '"' || *p == '\\') fputc('\\', to);
        fputc(*p, to);
    }
    fputc('"', to);
}

static void write_node(FILE *to, const config_node *node) {
    if (!node->is_list) {
        write_scalar(to, node);
        return;
    }
    fputc('[', to);
    for (const config_node *item = node->first; item; item = item->next) {
        write_node(to, item);
        if (item->next) fputs(", ", to);
    }
    fputc(']', to);
}

const char *config_node_text(config_block **memory, const config_node *node) {
    if (!node->is_list) return node->text;
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);
    if (!to) return NULL;
    write_node(to, node);
    const char *copy = fclose(to) == 0 ? config_copy(memory, text, size) : NULL;
    free(text);
    return copy;
}

/* ---- conversion ---- */

typedef struct conversion {
    config *cfg;
    const config_key *key;
    const config_node *node; /* the whole value, for messages */
    const char *where;
} conversion;

static status out_of_memory(const conversion *c) {
    return error_set(STATUS_OS, "free some memory and start again", "out of memory while reading %s",
                     c->key->name);
}

static const char *kind_text(config_type type) {
    switch (type) {
    case CONFIG_BOOL:
        return "True or False";
    case CONFIG_INT:
        return "an integer";
    case CONFIG_FLOAT:
        return "a number";
    case CONFIG_OPTIONAL:
        return "a number or None";
    case CONFIG_STRING:
        return "a string";
    case CONFIG_INTS:
        return "a list of integers";
    case CONFIG_FLOATS:
        return "a list of numbers";
    case CONFIG_STRINGS:
        return "a list of strings";
    case CONFIG_FLOAT_LISTS:
        return "a list of lists of numbers";
    case CONFIG_ANY:
        return "a value";
    }
    return "a value";
}

/* Writes what the key accepts, e.g. "an integer from 1 to 64". */
static void describe(const config_key *key, char *out, size_t size) {
    const config_rule *r = &key->rule;
    size_t n = 0;
#define ADD(...)                                                                                             \
    do {                                                                                                     \
        if (n < size) n += (size_t)snprintf(out + n, size - n, __VA_ARGS__);                                 \
    } while (0)
    if (r->fixed) {
        ADD("%s, the only value this program implements", key->default_text);
        return;
    }
    if (r->one_of) {
        ADD("one of");
        for (const char *p = r->one_of;; p++) {
            size_t length = strcspn(p, "|");
            ADD(length ? "%s %.*s" : "%s \"%.*s\"", p == r->one_of ? "" : ",", (int)length, p);
            p += length;
            if (!*p) return;
        }
    }
    ADD("%s", kind_text(key->type));
    if (r->counted && r->min_count == r->max_count)
        ADD(" of length %d", r->min_count);
    else if (r->counted)
        ADD(" of length %d to %d", r->min_count, r->max_count);
    if (r->bounded && isinf(r->max))
        ADD(r->exclusive ? " above %.15g" : " of at least %.15g", r->min);
    else if (r->bounded)
        ADD(r->exclusive ? " above %.15g, at most %.15g" : " from %.15g to %.15g", r->min, r->max);
#undef ADD
}

static status refuse(const conversion *c) {
    char expected[512];
    describe(c->key, expected, sizeof expected);
    const char *text = config_node_text(&c->cfg->memory, c->node);
    if (!text) return out_of_memory(c);
    size_t length = strlen(text);
    error_set(STATUS_CONFIG, NULL, "%s%s = %.120s%s: expected %s",
              c->where ? c->where : "default: ", c->key->name, length ? text : "\"\"",
              length > 120 ? "..." : "", expected);
    error_set_remedy("write e.g. %s %s%s%s", c->key->name, strpbrk(c->key->default_text, " (") ? "\"" : "",
                     *c->key->default_text ? c->key->default_text : "\"\"",
                     strpbrk(c->key->default_text, " (") ? "\"" : "");
    return STATUS_CONFIG;
}

/* Digits with an optional sign, as Python and YAML write them. */
static bool parse_int(const char *text, int64_t *out) {
    const char *p = text + (*text == '-' || *text == '+');
    size_t digits = strspn(p, "0123456789");
    if (digits == 0 || p[digits]) return false;
    errno = 0;
    long long v = strtoll(text, NULL, 10);
    *out = v;
    return errno == 0;
}

/* A decimal number, with or without point and exponent; or .inf. Not strtod's "nan", "infinity" and
 * hexadecimals. */
static bool parse_float(const char *text, double *out) {
    const char *p = text + (*text == '-' || *text == '+');
    if (strcmp(p, ".inf") == 0 || strcmp(p, "inf") == 0) {
        *out = *text == '-' ? -INFINITY : INFINITY;
        return true;
    }
    size_t whole = strspn(p, "0123456789");
    p += whole;
    size_t fraction = 0;
    if (*p == '.') {
        fraction = strspn(p + 1, "0123456789");
        p += 1 + fraction;
    }
    if (whole + fraction == 0) return false;
    if (*p == 'e' || *p == 'E') {
        p += 1 + (p[1] == '-' || p[1] == '+');
        size_t digits = strspn(p, "0123456789");
        if (digits == 0) return false;
        p += digits;
    }
    *out = strtod(text, NULL);
    return *p == '\0' && isfinite(*out);
}

static bool in_bounds(const config_rule *r, double v) {
    if (isinf(v)) return r->infinite && v > 0;
    return !r->bounded || ((r->exclusive ? v > r->min : v >= r->min) && v <= r->max);
}

static bool convert_int(const config_rule *r, const config_node *node, int64_t *out) {
    if (node->is_list || !parse_int(node->text, out)) return false;
    bool wide = r->bounded && !isinf(r->max) && r->max > INT32_MAX;
    return in_bounds(r, (double)*out) && (wide || (*out >= -INT32_MAX && *out <= INT32_MAX));
}

static bool convert_float(const config_rule *r, const config_node *node, double *out) {
    return !node->is_list && parse_float(node->text, out) && in_bounds(r, *out);
}

static bool is_one_of(const char *text, const char *const *words) {
    for (; *words; words++)
        if (strcmp(text, *words) == 0) return true;
    return false;
}

static bool convert_bool(const config_node *node, bool *out) {
    static const char *const yes[] = {"True", "true", "TRUE", "yes", "Yes", "on", "On", NULL};
    static const char *const no[] = {"False", "false", "FALSE", "no", "No", "off", "Off", NULL};
    *out = !node->is_list && is_one_of(node->text, yes);
    return *out || (!node->is_list && is_one_of(node->text, no));
}

static bool convert_optional(const config_rule *r, const config_node *node, config_optional *out) {
    static const char *const none[] = {"None", "none", "null", "~", NULL};
    *out = (config_optional){0};
    if (!node->is_list && is_one_of(node->text, none)) return true;
    out->is_set = convert_float(r, node, &out->value);
    return out->is_set;
}

/* A scalar's text without the quotes a command line may have around it. NULL when memory is out. */
static const char *unquoted(const conversion *c, const config_node *node) {
    const char *text = node->text;
    size_t n = strlen(text);
    if (node->quoted || n < 2 || (*text != '"' && *text != '\'') || text[n - 1] != *text) return text;
    return config_copy(&c->cfg->memory, text + 1, n - 2);
}

/* NULL where the node is no acceptable string: a text that is not UTF-8 could not be written back as YAML. */
static const char *convert_string(const conversion *c, const config_node *node) {
    const char *text = node->is_list ? NULL : unquoted(c, node), *one_of = c->key->rule.one_of;
    return text && text_is_utf8(text) && (!one_of || text_is_choice(one_of, text)) ? text : NULL;
}

/* A list as it is; text as the list it spells: "(1, 2)", "1, 2" (not for strings), "" is empty, one value is
 * a list of one. */
static const config_node *as_list(const conversion *c, const config_node *node) {
    if (node->is_list) return node;
    config_block **memory = &c->cfg->memory;
    const char *p = skip_space(node->text);
    if (*p == '(' || *p == '[') return config_parse_list(memory, p);
    config_node *list = config_alloc(memory, sizeof *list);
    if (!list) return NULL;
    list->is_list = true;
    if (!*p) return list;
    if (strchr(p, ',') && (c->key->type != CONFIG_STRINGS || *p == '"' || *p == '\'')) {
        char *bracketed = config_alloc(memory, strlen(p) + 3);
        if (!bracketed) return NULL;
        sprintf(bracketed, "(%s)", p);
        return config_parse_list(memory, bracketed);
    }
    list->first = config_scalar(memory, node->text, node->quoted);
    list->count = 1;
    return list->first ? list : NULL;
}

static bool good_count(const config_rule *r, int count) {
    return !r->counted || (count >= r->min_count && count <= r->max_count);
}

static bool convert_floats(const conversion *c, const config_node *node, bool counted, config_floats *out) {
    const config_node *list = as_list(c, node);
    if (!list || (counted && !good_count(&c->key->rule, list->count))) return false;
    *out = (config_floats){.values = config_alloc(&c->cfg->memory, (size_t)list->count * sizeof *out->values),
                           .count = list->count};
    if (!out->values) return false;
    double *v = out->values;
    for (const config_node *item = list->first; item; item = item->next)
        if (!convert_float(&c->key->rule, item, v++)) return false;
    return true;
}

static bool convert_ints(const conversion *c, const config_node *node, config_ints *out) {
    const config_node *list = as_list(c, node);
    if (!list || !good_count(&c->key->rule, list->count)) return false;
    *out = (config_ints){.values = config_alloc(&c->cfg->memory, (size_t)list->count * sizeof *out->values),
                         .count = list->count};
    if (!out->values) return false;
    int64_t *v = out->values;
    for (const config_node *item = list->first; item; item = item->next)
        if (!convert_int(&c->key->rule, item, v++)) return false;
    return true;
}

static bool convert_strings(const conversion *c, const config_node *node, config_strings *out) {
    const config_node *list = as_list(c, node);
    if (!list || !good_count(&c->key->rule, list->count)) return false;
    *out =
        (config_strings){.values = config_alloc(&c->cfg->memory, (size_t)list->count * sizeof *out->values),
                         .count = list->count};
    if (!out->values) return false;
    const char **v = out->values;
    for (const config_node *item = list->first; item; item = item->next)
        if (!(*v++ = convert_string(c, item))) return false;
    return true;
}

static bool convert_float_lists(const conversion *c, const config_node *node, config_float_lists *out) {
    const config_node *list = as_list(c, node);
    if (!list || !good_count(&c->key->rule, list->count)) return false;
    *out = (config_float_lists){.values =
                                    config_alloc(&c->cfg->memory, (size_t)list->count * sizeof *out->values),
                                .count = list->count};
    if (!out->values) return false;
    config_floats *v = out->values;
    for (const config_node *item = list->first; item; item = item->next)
        if (!convert_floats(c, item, false, v++) || v[-1].count == 0) return false;
    return true;
}

static bool convert_any(const conversion *c, const config_node *node, const char **out) {
    const config_node *list = node->is_list ? node : config_parse_list(&c->cfg->memory, node->text);
    *out = list ? config_node_text(&c->cfg->memory, list) : unquoted(c, node);
    return *out && text_is_utf8(*out);
}

typedef union any_value {
    bool boolean;
    int64_t integer;
    double number;
    config_optional optional;
    const char *string;
    config_ints ints;
    config_floats floats;
    config_strings strings;
    config_float_lists float_lists;
} any_value;

static bool convert(const conversion *c, const config_node *node, any_value *out, size_t *size) {
    const config_rule *r = &c->key->rule;
    switch (c->key->type) {
#define CASE(name, member, expression)                                                                       \
    case CONFIG_##name:                                                                                      \
        *size = sizeof out->member;                                                                          \
        return expression
        CASE(BOOL, boolean, convert_bool(node, &out->boolean));
        CASE(INT, integer, convert_int(r, node, &out->integer));
        CASE(FLOAT, number, convert_float(r, node, &out->number));
        CASE(OPTIONAL, optional, convert_optional(r, node, &out->optional));
        CASE(STRING, string, (out->string = convert_string(c, node)) != NULL);
        CASE(INTS, ints, convert_ints(c, node, &out->ints));
        CASE(FLOATS, floats, convert_floats(c, node, true, &out->floats));
        CASE(STRINGS, strings, convert_strings(c, node, &out->strings));
        CASE(FLOAT_LISTS, float_lists, convert_float_lists(c, node, &out->float_lists));
        CASE(ANY, string, convert_any(c, node, &out->string));
#undef CASE
    }
    return false;
}

void *config_member(config *cfg, int key) {
    return (char *)cfg + config_keys[key].offset;
}

const void *config_member_const(const config *cfg, int key) {
    return (const char *)cfg + config_keys[key].offset;
}

status config_store(config *cfg, int key, const config_node *node, const char *where) {
    conversion c = {.cfg = cfg, .key = &config_keys[key], .node = node, .where = where};
    any_value value;
    size_t size = 0;
    if (!convert(&c, node, &value, &size)) return refuse(&c);
    void *member = config_member(cfg, key);
    if (!c.key->rule.fixed || !where) {
        memcpy(member, &value, size);
        return STATUS_OK;
    }
    /* Only the default is implemented: compare the two as text. */
    const char *before = config_format(cfg, key);
    any_value kept;
    memcpy(&kept, member, size);
    memcpy(member, &value, size);
    const char *after = config_format(cfg, key);
    if (!before || !after) return out_of_memory(&c);
    if (strcmp(before, after) == 0) return STATUS_OK;
    memcpy(member, &kept, size);
    return refuse(&c);
}
