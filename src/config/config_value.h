/* Values of the configuration: memory that lives as long as the config, untyped nodes as YAML or Python
 * literals give them, and their conversion to and from the typed members. Used by the config_*.c files only. */
#ifndef CONFIG_CONFIG_VALUE_H
#define CONFIG_CONFIG_VALUE_H

#include "config/config.h"

typedef struct config_block config_block;

/* Zeroed memory that config_memory_free gives back; NULL when there is none. */
void *config_alloc(config_block **memory, size_t size);
char *config_copy(config_block **memory, const char *text, size_t length);
void config_memory_free(config_block *memory);

/* A scalar (text) or a list. */
typedef struct config_node {
    bool is_list;
    bool quoted; /* a scalar that stood in quotes: it is a string, and no quotes are left in it to take off */
    const char *text;
    struct config_node *first, *next; /* items; the item after this one */
    int count;
    int weight; /* bytes of its text, what stands behind aliases counted each time */
} config_node;

/* A scalar node. NULL when memory is out. */
config_node *config_scalar(config_block **memory, const char *text, bool quoted);

/* Reads "(a, b)" or "[a, [b, 'c']]" as a list. NULL if it is not one (at most 8 levels deep) or memory is
 * out. */
config_node *config_parse_list(config_block **memory, const char *text);

/* A node as text, "[a, b]"; strings that are not plain words in double quotes. NULL when memory is out. */
const char *config_node_text(config_block **memory, const config_node *node);

/* Converts `node` to key's type, checks the key's rule and stores it in the config. `where` is "file:line: "
 * or "command line: " and starts the message; NULL stands for the table's own default. CONFIG, OS. */
status config_store(config *cfg, int key, const config_node *node, const char *where);

/* CONFIG where the resolved configuration would be too large to be read again. OS. */
status config_check_size(const config *cfg);

/* The member of a key. */
void *config_member(config *cfg, int key);
const void *config_member_const(const config *cfg, int key);

#endif
