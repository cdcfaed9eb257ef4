/* The configuration of a run: detectron2's key names, read from YAML files (`_BASE_` included) and from
 * overrides on the command line. config_keys.def is the only list of keys; every key is a typed member of
 * struct config, named as the key with '_' for '.', so a misspelt use does not compile:
 *
 *     config cfg;
 *     RETURN_IF_ERROR(config_load(&cfg, "configs/quickstart.yaml", overrides, override_count));
 *     for (int64_t i = 0; i < cfg.SOLVER_MAX_ITER; i++) ...
 *     config_release(&cfg);
 *
 * Limits of a file: 256 KB, 32 levels, aliases of values only, no key twice, chain of bases at most 16 files
 * long. Integers fit an int32 except SEED. Everything the members point to belongs to the config and lives
 * until config_release. */
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum {
    CONFIG_FILE_LIMIT = 256 * 1024,     /* bytes of one file */
    CONFIG_RESOLVED_LIMIT = 240 * 1024, /* bytes of the whole configuration written out */
    CONFIG_DEPTH_LIMIT = 32
};

typedef struct config_ints {
    int64_t *values;
    int count;
} config_ints;

typedef struct config_floats {
    double *values;
    int count;
} config_floats;

typedef struct config_strings {
    const char **values;
    int count;
} config_strings;

typedef struct config_float_lists {
    config_floats *values;
    int count;
} config_float_lists;

/* A float or None. */
typedef struct config_optional {
    bool is_set;
    double value; /* 0 where is_set is false */
} config_optional;

typedef enum config_type {
    CONFIG_BOOL,
    CONFIG_INT,
    CONFIG_FLOAT,
    CONFIG_OPTIONAL,
    CONFIG_STRING,
    CONFIG_INTS,
    CONFIG_FLOATS,
    CONFIG_STRINGS,
    CONFIG_FLOAT_LISTS,
    CONFIG_ANY, /* any value, kept as its text */
} config_type;

/* The C type of a member by the type in its row. */
#define CONFIG_FIELD_BOOL bool
#define CONFIG_FIELD_INT int64_t
#define CONFIG_FIELD_FLOAT double
#define CONFIG_FIELD_OPTIONAL config_optional
#define CONFIG_FIELD_STRING const char *
#define CONFIG_FIELD_INTS config_ints
#define CONFIG_FIELD_FLOATS config_floats
#define CONFIG_FIELD_STRINGS config_strings
#define CONFIG_FIELD_FLOAT_LISTS config_float_lists
#define CONFIG_FIELD_ANY const char *

enum {
#define KEY(type, field, name, default_text, help, ...) CONFIG_KEY_##field,
#define INERT(type, field, name, default_text) CONFIG_KEY_##field,
#include "config/config_keys.def"
#undef KEY
#undef INERT
    CONFIG_KEY_COUNT
};

/* Where a value comes from. */
enum { CONFIG_FROM_DEFAULT = -1, CONFIG_FROM_COMMAND_LINE = -2 };
typedef struct config_origin {
    int file; /* index into files, or one of the two above */
    int line; /* 1-based; 0 where there is no file */
} config_origin;

typedef struct config {
#define KEY(type, field, name, default_text, help, ...) CONFIG_FIELD_##type field;
#define INERT(type, field, name, default_text)
#include "config/config_keys.def"
#undef KEY
#undef INERT
    struct { /* known keys of detectron2 without effect here */
#define KEY(type, field, name, default_text, help, ...)
#define INERT(type, field, name, default_text) CONFIG_FIELD_##type field;
#include "config/config_keys.def"
#undef KEY
#undef INERT
    } inert;
    config_origin origins[CONFIG_KEY_COUNT];
    const char **files; /* every file read, as it was named */
    int file_count;
    struct config_block *memory;
} config;

/* Bounds a value must keep; see config_keys.def. */
typedef struct config_rule {
    bool bounded, exclusive; /* min <= x <= max, or min < x <= max */
    double min, max;
    const char *one_of; /* "a|b|c" */
    bool counted;
    int min_count, max_count;
    bool fixed;    /* only the default */
    bool infinite; /* .inf is allowed */
} config_rule;

/* A row of the table, by CONFIG_KEY_<field>. */
typedef struct config_key {
    const char *name;
    config_type type;
    size_t offset; /* of the member in struct config */
    const char *default_text;
    const char *help; /* NULL for keys without effect */
    config_rule rule;
} config_key;

extern const config_key config_keys[CONFIG_KEY_COUNT];

/* Every key at its default. OS. */
status config_default(config *out);

/* Defaults, then the file at `path` (NULL: none) on top of its `_BASE_`, then `n` command-line arguments:
 * pairs KEY VALUE or single KEY=VALUE, later ones win; then the checks that join several keys. On failure
 * *out holds nothing. NO_INPUT: a file is absent; NO_PERMISSION, IO: not readable; USAGE: key without a
 * value; CONFIG: everything else, with file:line, key, value and what is expected. */
status config_load(config *out, const char *path, char *const *overrides, int n);

/* The same from `size` bytes of YAML; `name` stands for the file in messages and as the place `_BASE_` is
 * relative to. */
status config_load_text(config *out, const char *name, const char *text, size_t size);

void config_release(config *cfg);

/* Sets one key from text as on the command line, with its checks, e.g. MODEL.WEIGHTS from --weights. CONFIG,
 * OS. */
status config_set(config *cfg, const char *name, const char *text);

/* Whether the model has RoI heads; else it is an RPN alone (MODEL.META_ARCHITECTURE ProposalNetwork). */
bool config_has_roi_heads(const config *cfg);

/* Whether the model has an FPN; else its maps end with res4 (MODEL.BACKBONE.NAME build_resnet_backbone). */
bool config_has_fpn(const config *cfg);

/* Index of a key, or -1. */
int config_find(const char *name);

/* Whether a command-line argument starts the overrides: a known key, KEY=VALUE, or a name within a known
 * section. */
bool config_is_override(const char *argument);

/* A key's value as text in the command line's form. Valid until config_release. NULL when memory is out. */
const char *config_format(config *cfg, int key);

/* Warns once of every key that is set but without effect here. Call it when logging is set up. */
void config_log_warnings(config *cfg);

/* Writes every key to `path` (beside, then renamed); reading it back gives an equal config. CANT_CREATE, IO,
 * OS. */
status config_write_yaml(const config *cfg, const char *path);

/* Prints "KEY: value  # origin" of every key, sorted by name (maskrcnn config). IO, OS. */
status config_print(const config *cfg, FILE *to);

#endif
