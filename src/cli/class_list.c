#include "cli/class_list.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file_util.h"
#include "base/text.h"

enum { MAX_BYTES = 1 << 20 };

static char *trim(char *name) {
    name += strspn(name, " \t\r");
    size_t end = strlen(name);
    while (end && strchr(" \t\r", name[end - 1])) end--;
    name[end] = 0;
    return name;
}

static status split(class_list *list, const char *given, const char *separator) {
    size_t most = 1;
    for (const char *c = list->text; *c; c++) most += *c == *separator;
    list->names = calloc(most, sizeof *list->names);
    if (!list->names) return error_set(STATUS_OS, "free some memory", "no memory for %zu class names", most);
    char *rest = list->text;
    for (char *name; (name = strsep(&rest, separator));) {
        name = trim(name);
        if (!*name && *separator == '\n') continue;
        if (!*name)
            return error_set(STATUS_USAGE, "write A,B,C, or the name of a text file with a name on each line",
                             "--class-names %.200s: an empty name", given);
        if (list->count == 0 && strcmp(name, "__background__") == 0) continue;
        list->names[list->count++] = name;
    }
    if (list->count == 0)
        return error_set(STATUS_USAGE, "put one class name on each line", "--class-names %.200s: no names",
                         given);
    return STATUS_OK;
}

status class_list_read(class_list *out, const char *given) {
    struct stat info;
    size_t size = strlen(given);
    *out = (class_list){0};
    bool is_file = stat(given, &info) == 0;
    if (is_file)
        RETURN_IF_ERROR(read_file(&out->text, &size, given, MAX_BYTES));
    else
        out->text = strdup(given);
    if (!out->text) return error_set(STATUS_OS, "free some memory", "no memory for the class names");
    if (strlen(out->text) != size || !text_is_utf8(out->text))
        return error_set(STATUS_USAGE, "give a text file in UTF-8", "--class-names %.200s: no UTF-8 text",
                         given);
    return split(out, given, is_file ? "\n" : ",");
}

void class_list_release(class_list *list) {
    free(list->names);
    free(list->text);
    *list = (class_list){0};
}
