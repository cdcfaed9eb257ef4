/* One YAML file as a flat list of known keys with untyped values. Used by config.c only. */
#ifndef CONFIG_CONFIG_YAML_H
#define CONFIG_CONFIG_YAML_H

#include "config/config_value.h"

typedef struct config_entry {
    int key;
    int line; /* 1-based */
    const config_node *value;
    struct config_entry *next;
} config_entry;

typedef struct config_document {
    const char *base; /* value of _BASE_, or NULL */
    int base_line;
    config_entry *first, *last;
} config_document;

/* Parses `size` bytes; `name` stands for the file in messages. Unknown and repeated keys, aliases of
 * sections, values blown up by aliases, tags that are not YAML's own, a second document, more than
 * CONFIG_DEPTH_LIMIT levels and bad syntax are refused with file:line. CONFIG, OS. */
status config_yaml_parse(config_document *out, config_block **memory, const char *name, const char *text,
                         size_t size);

/* Records "unknown key" with the nearest name; `where` starts the message. Returns CONFIG. */
status config_unknown_key(const char *where, const char *name);

/* Whether `name` is a section, e.g. "MODEL" or "MODEL.RPN". */
bool config_is_section(const char *name);

#endif
