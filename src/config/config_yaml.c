#include "config/config_yaml.h"
#include "base/nearest.h"

#include <string.h>
#include <yaml.h>

enum { NAME_LIMIT = 256, ANCHOR_LIMIT = 256, WEIGHT_LIMIT = CONFIG_FILE_LIMIT };

/* A value that was given a name by &name. */
typedef struct anchor {
    const char *name;
    const config_node *node;
    struct anchor *next;
} anchor;

typedef struct reader {
    yaml_parser_t parser;
    config_block **memory;
    config_document *out;
    const char *name;
    int seen[CONFIG_KEY_COUNT];    /* line where a key stood, 0: not yet */
    struct section_line *sections; /* sections met so far */
    anchor *anchors;               /* latest first */
    int anchor_count;
} reader;

typedef struct section_line {
    const char *name;
    int line;
    struct section_line *next;
} section_line;

static status out_of_memory(const reader *r) {
    return error_set(STATUS_OS, "free some memory and start again",
                     "%s: out of memory while reading the configuration", r->name);
}

static int line_of(const yaml_event_t *event) {
    return (int)event->start_mark.line + 1;
}

static status next_event(reader *r, yaml_event_t *event) {
    if (yaml_parser_parse(&r->parser, event)) return STATUS_OK;
    if (r->parser.error == YAML_MEMORY_ERROR) return out_of_memory(r);
    const char *problem = r->parser.problem ? r->parser.problem : "not readable";
    if (r->parser.error == YAML_READER_ERROR)
        return error_set(STATUS_CONFIG, "save the file as UTF-8 text", "%s: not YAML: %s at byte %zu",
                         r->name, problem, r->parser.problem_offset);
    return error_set(STATUS_CONFIG, "correct the file there; nesting is by spaces, never tabs",
                     "%s:%zu: not YAML: %s (column %zu)", r->name, r->parser.problem_mark.line + 1, problem,
                     r->parser.problem_mark.column + 1);
}

static bool tag_allowed(const yaml_char_t *tag) {
    return !tag || strncmp((const char *)tag, "tag:yaml.org,2002:", 18) == 0 ||
           strcmp((const char *)tag, "!") == 0;
}

/* Zero bytes, and tags of other languages; *name is the anchor, or NULL. */
static status check_event(const reader *r, const yaml_event_t *event, const char **name) {
    const yaml_char_t *tag = NULL;
    const yaml_char_t *anchor_name = NULL;
    if (event->type == YAML_SCALAR_EVENT) {
        anchor_name = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
        if (memchr(event->data.scalar.value, 0, event->data.scalar.length))
            return error_set(STATUS_CONFIG, "remove it", "%s:%d: a value holds a zero byte", r->name,
                             line_of(event));
    } else if (event->type == YAML_SEQUENCE_START_EVENT) {
        anchor_name = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
    } else if (event->type == YAML_MAPPING_START_EVENT) {
        anchor_name = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
    }
    if (!tag_allowed(tag))
        return error_set(STATUS_CONFIG, "remove the tag", "%s:%d: the tag %s is not accepted", r->name,
                         line_of(event), (const char *)tag);
    *name = (const char *)anchor_name;
    return STATUS_OK;
}

/* For names, sections and _BASE_: neither anchor nor alias. */
static status check_plain(const reader *r, const yaml_event_t *event) {
    const char *name = NULL;
    RETURN_IF_ERROR(check_event(r, event, &name));
    if (!name && event->type != YAML_ALIAS_EVENT) return STATUS_OK;
    return error_set(STATUS_CONFIG, "write it out, or put common settings into a file named by _BASE_",
                     "%s:%d: anchors and aliases are accepted on values of keys only", r->name,
                     line_of(event));
}

static status too_deep(const reader *r, int line) {
    return error_set(STATUS_CONFIG, "no key needs that", "%s:%d: nested deeper than %d levels", r->name, line,
                     CONFIG_DEPTH_LIMIT);
}

static config_node *scalar_of(reader *r, const yaml_event_t *event) {
    const char *text =
        config_copy(r->memory, (const char *)event->data.scalar.value, event->data.scalar.length);
    yaml_scalar_style_t style = event->data.scalar.style;
    bool quoted = style == YAML_SINGLE_QUOTED_SCALAR_STYLE || style == YAML_DOUBLE_QUOTED_SCALAR_STYLE;
    return text ? config_scalar(r->memory, text, quoted) : NULL;
}

static status read_sequence(reader *r, int depth, const char *key, config_node **out);

/* A copy of the value an alias stands for; its items are shared. */
static status read_alias(reader *r, const yaml_event_t *event, config_node **out) {
    const char *name = (const char *)event->data.alias.anchor;
    const anchor *a = r->anchors;
    while (a && strcmp(a->name, name) != 0) a = a->next;
    if (!a)
        return error_set(STATUS_CONFIG, "write the value out",
                         "%s:%d: *%s: no value before it has the name &%s", r->name, line_of(event), name,
                         name);
    *out = config_alloc(r->memory, sizeof **out);
    if (!*out) return out_of_memory(r);
    **out = *a->node;
    (*out)->next = NULL;
    return STATUS_OK;
}

static status note_anchor(reader *r, const char *name, int line, const config_node *node) {
    if (++r->anchor_count > ANCHOR_LIMIT)
        return error_set(STATUS_CONFIG, "write the values out", "%s:%d: more than %d anchors", r->name, line,
                         ANCHOR_LIMIT);
    anchor *a = config_alloc(r->memory, sizeof *a);
    if (!a || !(a->name = config_copy(r->memory, name, strlen(name)))) return out_of_memory(r);
    a->node = node;
    a->next = r->anchors;
    r->anchors = a;
    return STATUS_OK;
}

/* The value that starts with `event`. */
static status read_value(reader *r, const yaml_event_t *event, int depth, const char *key,
                         config_node **out) {
    const char *name = NULL;
    RETURN_IF_ERROR(check_event(r, event, &name));
    if (event->type == YAML_ALIAS_EVENT) return read_alias(r, event, out);
    if (event->type == YAML_SCALAR_EVENT) {
        *out = scalar_of(r, event);
        if (!*out) return out_of_memory(r);
    } else if (event->type == YAML_SEQUENCE_START_EVENT) {
        if (depth >= CONFIG_DEPTH_LIMIT) return too_deep(r, line_of(event));
        RETURN_IF_ERROR(read_sequence(r, depth + 1, key, out));
    } else {
        return error_set(STATUS_CONFIG, "give it a value",
                         "%s:%d: %s is a key, not a section: it cannot hold KEY: VALUE lines", r->name,
                         line_of(event), key);
    }
    return name ? note_anchor(r, name, line_of(event), *out) : STATUS_OK;
}

static status read_sequence(reader *r, int depth, const char *key, config_node **out) {
    config_node *list = config_alloc(r->memory, sizeof *list);
    if (!list) return out_of_memory(r);
    list->is_list = true;
    list->weight = 4; /* brackets and a comma: an empty list has text too */
    config_node **end = &list->first;
    for (;;) {
        yaml_event_t event;
        RETURN_IF_ERROR(next_event(r, &event));
        bool done = event.type == YAML_SEQUENCE_END_EVENT;
        int line = line_of(&event);
        config_node *item = NULL;
        status s = done ? STATUS_OK : read_value(r, &event, depth, key, &item);
        yaml_event_delete(&event);
        if (s != STATUS_OK) return s;
        if (done) break;
        *end = item;
        end = &item->next;
        list->count++;
        list->weight += item->weight;
        if (list->weight > WEIGHT_LIMIT)
            return error_set(STATUS_CONFIG, "no key needs that", "%s:%d: %s: more than %d KB of text",
                             r->name, line, key, WEIGHT_LIMIT / 1024);
    }
    *out = list;
    return STATUS_OK;
}

static status repeated(const reader *r, int line, const char *name, int first_line) {
    return error_set(STATUS_CONFIG, "keep one of them", "%s:%d: %s stands twice, first on line %d", r->name,
                     line, name, first_line);
}

static status note_section(reader *r, const char *name, int line) {
    for (const section_line *s = r->sections; s; s = s->next)
        if (strcmp(s->name, name) == 0) return repeated(r, line, name, s->line);
    section_line *s = config_alloc(r->memory, sizeof *s);
    if (!s || !(s->name = config_copy(r->memory, name, strlen(name)))) return out_of_memory(r);
    s->line = line;
    s->next = r->sections;
    r->sections = s;
    return STATUS_OK;
}

static status read_key(reader *r, int key, int line, const yaml_event_t *event, int depth) {
    if (r->seen[key]) return repeated(r, line, config_keys[key].name, r->seen[key]);
    r->seen[key] = line;
    config_node *value = NULL;
    RETURN_IF_ERROR(read_value(r, event, depth, config_keys[key].name, &value));
    config_entry *entry = config_alloc(r->memory, sizeof *entry);
    if (!entry) return out_of_memory(r);
    *entry = (config_entry){.key = key, .line = line, .value = value};
    if (r->out->last)
        r->out->last->next = entry;
    else
        r->out->first = entry;
    r->out->last = entry;
    return STATUS_OK;
}

static status read_base(reader *r, int line, const yaml_event_t *event) {
    RETURN_IF_ERROR(check_plain(r, event));
    if (r->out->base) return repeated(r, line, "_BASE_", r->out->base_line);
    if (event->type != YAML_SCALAR_EVENT || event->data.scalar.length == 0)
        return error_set(STATUS_CONFIG, "write e.g. _BASE_: \"Base-RCNN-FPN.yaml\"",
                         "%s:%d: _BASE_: expected the name of one file", r->name, line);
    r->out->base = config_copy(r->memory, (const char *)event->data.scalar.value, event->data.scalar.length);
    r->out->base_line = line;
    return r->out->base ? STATUS_OK : out_of_memory(r);
}

static status read_mapping(reader *r, const char *prefix, int depth);

static status read_section(reader *r, const char *name, int line, const yaml_event_t *event, int depth) {
    RETURN_IF_ERROR(check_plain(r, event));
    RETURN_IF_ERROR(note_section(r, name, line));
    /* All lines of a section commented out leave it without a value. */
    if (event->type == YAML_SCALAR_EVENT && event->data.scalar.length == 0 &&
        event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE)
        return STATUS_OK;
    if (event->type != YAML_MAPPING_START_EVENT)
        return error_set(STATUS_CONFIG, "put its keys on lines of their own, indented by two spaces",
                         "%s:%d: %s is a section, not a key: it cannot have a value", r->name, line, name);
    return depth < CONFIG_DEPTH_LIMIT ? read_mapping(r, name, depth + 1) : too_deep(r, line);
}

/* One "key: value" whose key is `event`. */
static status read_pair(reader *r, const yaml_event_t *event, const char *prefix, int depth) {
    RETURN_IF_ERROR(check_plain(r, event));
    int line = line_of(event);
    if (event->type != YAML_SCALAR_EVENT)
        return error_set(STATUS_CONFIG, "write NAME: VALUE",
                         "%s:%d: a list or section stands where a key's name is expected", r->name, line);
    char where[NAME_LIMIT * 2], name[NAME_LIMIT];
    snprintf(where, sizeof where, "%.*s:%d: ", NAME_LIMIT, r->name, line);
    int length = snprintf(name, sizeof name, "%s%s%s", prefix, *prefix ? "." : "",
                          (const char *)event->data.scalar.value);
    if (length >= NAME_LIMIT) return config_unknown_key(where, name);
    bool is_base = !*prefix && strcmp(name, "_BASE_") == 0;
    int key = config_find(name);
    if (!is_base && key < 0 && !config_is_section(name)) return config_unknown_key(where, name);
    yaml_event_t value;
    RETURN_IF_ERROR(next_event(r, &value));
    status s = is_base    ? read_base(r, line, &value)
               : key >= 0 ? read_key(r, key, line, &value, depth)
                          : read_section(r, name, line, &value, depth);
    yaml_event_delete(&value);
    return s;
}

/* The pairs of a mapping whose start has been read, with its end. */
static status read_mapping(reader *r, const char *prefix, int depth) {
    for (;;) {
        yaml_event_t event;
        RETURN_IF_ERROR(next_event(r, &event));
        bool done = event.type == YAML_MAPPING_END_EVENT;
        status s = done ? STATUS_OK : read_pair(r, &event, prefix, depth);
        yaml_event_delete(&event);
        if (s != STATUS_OK || done) return s;
    }
}

static status read_root(reader *r) {
    for (int documents = 0;;) {
        yaml_event_t event;
        RETURN_IF_ERROR(next_event(r, &event));
        yaml_event_type_t type = event.type;
        int line = line_of(&event);
        status s = STATUS_OK;
        if (type == YAML_DOCUMENT_START_EVENT && ++documents > 1)
            s = error_set(STATUS_CONFIG, "put it into a file of its own",
                          "%s:%d: a second document starts here", r->name, line);
        else if (type == YAML_MAPPING_START_EVENT && (s = check_plain(r, &event)) == STATUS_OK)
            s = read_mapping(r, "", 1);
        else if (s == STATUS_OK && (type == YAML_SEQUENCE_START_EVENT || type == YAML_ALIAS_EVENT ||
                                    (type == YAML_SCALAR_EVENT && event.data.scalar.length > 0)))
            s = error_set(STATUS_CONFIG, "write lines such as SOLVER: and below it, indented, MAX_ITER: 1000",
                          "%s:%d: expected KEY: VALUE lines at the top", r->name, line);
        yaml_event_delete(&event);
        if (s != STATUS_OK || type == YAML_STREAM_END_EVENT) return s;
    }
}

status config_yaml_parse(config_document *out, config_block **memory, const char *name, const char *text,
                         size_t size) {
    *out = (config_document){0};
    if (size > CONFIG_FILE_LIMIT)
        return error_set(STATUS_CONFIG, "is this really a configuration file?", "%s: larger than %d KB", name,
                         CONFIG_FILE_LIMIT / 1024);
    reader r = {.memory = memory, .out = out, .name = name};
    if (!yaml_parser_initialize(&r.parser)) return out_of_memory(&r);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, size);
    status s = read_root(&r);
    yaml_parser_delete(&r.parser);
    return s;
}

bool config_is_section(const char *name) {
    size_t n = strlen(name);
    for (int k = 0; k < CONFIG_KEY_COUNT; k++)
        if (strncmp(config_keys[k].name, name, n) == 0 && config_keys[k].name[n] == '.') return true;
    return false;
}

status config_unknown_key(const char *where, const char *name) {
    nearest n;
    nearest_init(&n, name);
    for (int k = 0; k < CONFIG_KEY_COUNT; k++) nearest_try(&n, config_keys[k].name);
    const char *best = nearest_result(&n);
    error_set(STATUS_CONFIG, "maskrcnn config --keys lists every key", "%sunknown key %.200s", where, name);
    if (best) error_set_remedy("did you mean %s?", best);
    return STATUS_CONFIG;
}
