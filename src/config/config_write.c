#include "config/config_value.h"
#include "base/file_util.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Shortest decimal number that reads back as `v`; with a point or exponent, so that YAML takes it as a float. */
static void write_float(FILE *to, double v) {
    if (isinf(v)) {
        fputs(v < 0 ? "-.inf" : ".inf", to);
        return;
    }
    char text[40];
    bool whole = fabs(v) < 1e15 && v == floor(v);
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", whole ? 15 : digits, v);
        if (strtod(text, NULL) == v) break;
    }
    /* YAML 1.1 readers take 1e-05 as a string: it needs the point. */
    char *exponent = strchr(text, 'e');
    if (strchr(text, '.'))
        fputs(text, to);
    else if (exponent)
        fprintf(to, "%.*s.0%s", (int)(exponent - text), text, exponent);
    else
        fprintf(to, "%s.0", text);
}

/* In double quotes; what YAML does not allow as it is becomes an escape. */
static void write_string(FILE *to, const char *text) {
    fputc('"', to);
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (*p == '"' || *p == '\\')
            fprintf(to, "\\%c", *p);
        else if (*p < 0x20 || *p == 0x7F)
            fprintf(to, "\\x%02X", *p);
        else if (p[0] == 0xC2 && p[1] < 0xA0)
            fprintf(to, "\\x%02X", *++p);
        else if (p[0] == 0xE2 && p[1] == 0x80 && (p[2] == 0xA8 || p[2] == 0xA9)) /* line breaks, too */
            fputs(p[2] == 0xA8 ? "\\L" : "\\P", to), p += 2;
        else if (p[0] == 0xEF && p[1] == 0xBB && p[2] == 0xBF)
            fputs("\\uFEFF", to), p += 2;
        else if (p[0] == 0xEF && p[1] == 0xBF && p[2] >= 0xBE)
            fprintf(to, "\\uFF%02X", p[2] == 0xBE ? 0xFE : 0xFF), p += 2;
        else
            fputc(*p, to);
    }
    fputc('"', to);
}

static void write_ints(FILE *to, const config_ints *list) {
    fputc('[', to);
    for (int i = 0; i < list->count; i++) fprintf(to, "%s%lld", i ? ", " : "", (long long)list->values[i]);
    fputc(']', to);
}

static void write_floats(FILE *to, const config_floats *list) {
    fputc('[', to);
    for (int i = 0; i < list->count; i++) {
        if (i) fputs(", ", to);
        write_float(to, list->values[i]);
    }
    fputc(']', to);
}

static void write_strings(FILE *to, const config_strings *list) {
    fputc('[', to);
    for (int i = 0; i < list->count; i++) {
        if (i) fputs(", ", to);
        write_string(to, list->values[i]);
    }
    fputc(']', to);
}

static void write_float_lists(FILE *to, const config_float_lists *list) {
    fputc('[', to);
    for (int i = 0; i < list->count; i++) {
        if (i) fputs(", ", to);
        write_floats(to, &list->values[i]);
    }
    fputc(']', to);
}

static void write_value(FILE *to, const config *cfg, int key) {
    const void *member = config_member_const(cfg, key);
    switch (config_keys[key].type) {
    case CONFIG_BOOL:
        fputs(*(const bool *)member ? "True" : "False", to);
        break;
    case CONFIG_INT:
        fprintf(to, "%lld", (long long)*(const int64_t *)member);
        break;
    case CONFIG_FLOAT:
        write_float(to, *(const double *)member);
        break;
    case CONFIG_OPTIONAL: {
        const config_optional *v = member;
        if (v->is_set)
            write_float(to, v->value);
        else
            fputs("null", to);
        break;
    }
    case CONFIG_STRING:
    case CONFIG_ANY:
        write_string(to, *(const char *const *)member);
        break;
    case CONFIG_INTS:
        write_ints(to, member);
        break;
    case CONFIG_FLOATS:
        write_floats(to, member);
        break;
    case CONFIG_STRINGS:
        write_strings(to, member);
        break;
    case CONFIG_FLOAT_LISTS:
        write_float_lists(to, member);
        break;
    }
}

const char *config_format(config *cfg, int key) {
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);
    if (!to) return NULL;
    write_value(to, cfg, key);
    const char *copy = fclose(to) == 0 ? config_copy(&cfg->memory, text, size) : NULL;
    free(text);
    return copy;
}

/* Names with '.' before every other character, so that a section's keys stand together. */
static int compare_keys(const void *a, const void *b) {
    const char *x = config_keys[*(const int *)a].name, *y = config_keys[*(const int *)b].name;
    while (*x && *x == *y) x++, y++;
    int p = *x == '.' ? 1 : (unsigned char)*x, q = *y == '.' ? 1 : (unsigned char)*y;
    return p - q;
}

static void sort_keys(int order[CONFIG_KEY_COUNT]) {
    for (int k = 0; k < CONFIG_KEY_COUNT; k++) order[k] = k;
    qsort(order, CONFIG_KEY_COUNT, sizeof *order, compare_keys);
}

/* The section lines that `name` needs after `before`, and its own name, indented. */
static void write_name(FILE *to, const char *before, const char *name) {
    size_t shared = 0; /* length of the common sections, dot included */
    for (size_t i = 0; before[i] && before[i] == name[i]; i++)
        if (name[i] == '.') shared = i + 1;
    int depth = 0;
    const char *part = name;
    for (const char *dot; (dot = strchr(part, '.')) != NULL; part = dot + 1, depth++)
        if ((size_t)(part - name) >= shared)
            fprintf(to, "%*s%.*s:\n", depth * 2, "", (int)(dot - part), part);
    fprintf(to, "%*s%s: ", depth * 2, "", part);
}

static void write_config(FILE *to, const config *cfg) {
    int order[CONFIG_KEY_COUNT];
    sort_keys(order);
    const char *before = "";
    for (int i = 0; i < CONFIG_KEY_COUNT; i++) {
        write_name(to, before, config_keys[order[i]].name);
        write_value(to, cfg, order[i]);
        fputc('\n', to);
        before = config_keys[order[i]].name;
    }
}

/* The YAML text of a configuration; free() it. */
static status yaml_text(char **text, size_t *size, const config *cfg) {
    *text = NULL;
    FILE *to = open_memstream(text, size);
    if (to) write_config(to, cfg);
    if (to && fclose(to) == 0) return STATUS_OK;
    free(*text);
    return error_set(STATUS_OS, "free some memory and start again",
                     "out of memory while writing the configuration");
}

status config_check_size(const config *cfg) {
    char *text;
    size_t size = 0;
    RETURN_IF_ERROR(yaml_text(&text, &size, cfg));
    free(text);
    if (size <= CONFIG_RESOLVED_LIMIT) return STATUS_OK;
    return error_set(STATUS_CONFIG, "shorten its longest values",
                     "the resolved configuration is larger than %d KB", CONFIG_RESOLVED_LIMIT / 1024);
}

status config_write_yaml(const config *cfg, const char *path) {
    char *text;
    size_t size = 0;
    RETURN_IF_ERROR(yaml_text(&text, &size, cfg));
    status s = write_file_atomic(path, text, size);
    free(text);
    return s;
}

static void write_origin(FILE *to, const config *cfg, config_origin origin) {
    if (origin.file == CONFIG_FROM_DEFAULT)
        fputs("default", to);
    else if (origin.file == CONFIG_FROM_COMMAND_LINE)
        fputs("command line", to);
    else
        fprintf(to, "%s:%d", cfg->files[origin.file], origin.line);
}

status config_print(const config *cfg, FILE *to) {
    int order[CONFIG_KEY_COUNT];
    sort_keys(order);
    for (int i = 0; i < CONFIG_KEY_COUNT; i++) {
        int key = order[i];
        fprintf(to, "%s: ", config_keys[key].name);
        write_value(to, cfg, key);
        fputs("  # ", to);
        write_origin(to, cfg, cfg->origins[key]);
        fputs(config_keys[key].help ? "\n" : " (no effect)\n", to);
    }
    return fflush(to) == 0 ? STATUS_OK : error_set(STATUS_IO, NULL, "standard output: %s", strerror(errno));
}
