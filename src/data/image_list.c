#include "data/image_list.h"

#include <dirent.h>
#include <errno.h>
#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

static status no_memory(void) {
    return error_set(STATUS_OS, "free some memory", "out of memory for a list of images");
}

static status append(image_list *list, const char *path) {
    if (list->count == list->capacity) {
        if (list->count >= IMAGE_LIST_LIMIT)
            return error_set(STATUS_DATA, "give fewer at a time", "more than %d images", IMAGE_LIST_LIMIT);
        int capacity = list->capacity ? 2 * list->capacity : 64;
        char **paths = realloc(list->paths, (size_t)capacity * sizeof *paths);
        if (!paths) return no_memory();
        list->paths = paths;
        list->capacity = capacity;
    }
    char *copy = strdup(path);
    if (!copy) return no_memory();
    list->paths[list->count++] = copy;
    return STATUS_OK;
}

void image_list_release(image_list *list) {
    for (int i = 0; i < list->count; i++) free(list->paths[i]);
    free(list->paths);
    *list = (image_list){0};
}

static int is_image_name(const struct dirent *entry) {
    const char *dot = strrchr(entry->d_name, '.');
    return dot && dot != entry->d_name &&
           (strcasecmp(dot, ".jpg") == 0 || strcasecmp(dot, ".jpeg") == 0 || strcasecmp(dot, ".png") == 0);
}

static int by_bytes(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name);
}

static bool is_folder(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

static status add_folder(image_list *list, const char *folder) {
    struct dirent **entries;
    int n = scandir(folder, &entries, is_image_name, by_bytes), before = list->count;
    if (n < 0)
        return error_set(errno == EACCES ? STATUS_NO_PERMISSION : STATUS_NO_INPUT,
                         "check the folder's name and rights", "%s: %s", folder, strerror(errno));
    status s = STATUS_OK;
    for (int i = 0; i < n; i++) {
        char path[PATH_MAX];
        const char *slash = folder[strlen(folder) - 1] == '/' ? "" : "/";
        int length = snprintf(path, sizeof path, "%s%s%s", folder, slash, entries[i]->d_name);
        if (s == STATUS_OK && length < (int)sizeof path && !is_folder(path)) s = append(list, path);
        free(entries[i]);
    }
    free(entries);
    if (s != STATUS_OK || list->count > before) return s;
    return error_set(STATUS_NO_INPUT, "name a folder with files that end in .jpg, .jpeg or .png",
                     "%s: no image in this folder", folder);
}

static status add_pattern(image_list *list, const char *pattern) {
    glob_t found;
    int code = glob(pattern, 0, NULL, &found), before = list->count;
    if (code == GLOB_NOSPACE) {
        globfree(&found);
        return no_memory();
    }
    status s = STATUS_OK;
    for (size_t i = 0; code == 0 && i < found.gl_pathc && s == STATUS_OK; i++)
        if (!is_folder(found.gl_pathv[i])) s = append(list, found.gl_pathv[i]);
    globfree(&found);
    if (s != STATUS_OK || list->count > before) return s;
    return error_set(STATUS_NO_INPUT, "check the pattern", "%s: no file matches", pattern);
}

status image_list_add(image_list *list, const char *argument) {
    struct stat info;
    if (stat(argument, &info) == 0)
        return S_ISDIR(info.st_mode) ? add_folder(list, argument) : append(list, argument);
    if (errno == EACCES)
        return error_set(STATUS_NO_PERMISSION, "check the rights of the file and its folder", "%s: %s",
                         argument, strerror(EACCES));
    if (strpbrk(argument, "*?[")) return add_pattern(list, argument);
    return error_set(STATUS_NO_INPUT, "check the file's name", "%s: %s", argument, strerror(ENOENT));
}

const char *image_list_stem(char *stem, size_t size, const image_list *list, int index) {
    const char *slash = strrchr(list->paths[index], '/');
    snprintf(stem, size, "%s", slash ? slash + 1 : list->paths[index]);
    char *dot = strrchr(stem, '.');
    if (dot && dot != stem) *dot = '\0';
    return stem;
}

static int compare_texts(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

status image_list_stems_differ(bool *differ, const image_list *list) {
    *differ = true;
    char **stems = calloc((size_t)list->count + 1, sizeof *stems);
    if (!stems) return no_memory();
    status s = STATUS_OK;
    for (int i = 0; i < list->count && s == STATUS_OK; i++) {
        char stem[NAME_MAX + 1];
        stems[i] = strdup(image_list_stem(stem, sizeof stem, list, i));
        if (!stems[i]) s = no_memory();
    }
    if (s == STATUS_OK) qsort(stems, (size_t)list->count, sizeof *stems, compare_texts);
    for (int i = 1; i < list->count && s == STATUS_OK; i++)
        if (strcmp(stems[i - 1], stems[i]) == 0) *differ = false;
    for (int i = 0; i < list->count; i++) free(stems[i]);
    free(stems);
    return s;
}

static int compare_ids(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

static bool all_are_numbers(int64_t *ids, const image_list *list) {
    for (int i = 0; i < list->count; i++) {
        char stem[NAME_MAX + 1];
        image_list_stem(stem, sizeof stem, list, i);
        size_t digits = strspn(stem, "0123456789");
        errno = 0;
        ids[i] = strtoll(stem, NULL, 10);
        if (digits == 0 || stem[digits] != '\0' || errno == ERANGE) return false;
    }
    return true;
}

status image_list_ids(int64_t *ids, const image_list *list) {
    bool good = all_are_numbers(ids, list);
    if (good) {
        int64_t *sorted = malloc((size_t)(list->count + 1) * sizeof *sorted);
        if (!sorted) return no_memory();
        memcpy(sorted, ids, (size_t)list->count * sizeof *ids);
        qsort(sorted, (size_t)list->count, sizeof *sorted, compare_ids);
        for (int i = 1; i < list->count; i++) good = good && sorted[i] != sorted[i - 1];
        free(sorted);
    }
    for (int i = 0; i < list->count && !good; i++) ids[i] = i + 1;
    return STATUS_OK;
}
