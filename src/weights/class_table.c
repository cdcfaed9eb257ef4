#include "weights/class_table.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/json_pairs.h"

static status allocate_list(class_table *out, int count) {
    *out = (class_table){.names = calloc((size_t)count + 1, sizeof *out->names),
                         .ids = calloc((size_t)count + 1, sizeof *out->ids)};
    if (!out->names || !out->ids)
        return error_set(STATUS_OS, "free some memory", "out of memory for %d class names", count);
    out->classes = (weights_classes){.names = (const char *const *)out->names, .ids = out->ids};
    return STATUS_OK;
}

static status add_class(class_table *list, const char *name, int64_t id) {
    int at = list->classes.count;
    list->names[at] = strdup(name);
    list->ids[at] = id;
    if (!list->names[at])
        return error_set(STATUS_OS, "free some memory", "out of memory for the class name %.80s", name);
    list->classes.count++;
    return STATUS_OK;
}

void class_table_release(class_table *list) {
    for (int i = 0; i < list->classes.count; i++) free(list->names[i]);
    free(list->names);
    free(list->ids);
    *list = (class_table){0};
}

static status keep_or_release(class_table *list, status s) {
    if (s != STATUS_OK) class_table_release(list);
    return s;
}

status class_table_of_dataset(class_table *out, const dataset *set) {
    int count = (int)dataset_category_count(set);
    status s = allocate_list(out, count);
    for (int i = 0; i < count && s == STATUS_OK; i++)
        s = add_class(out, dataset_category_name(set, (uint32_t)i), dataset_category_id(set, (uint32_t)i));
    return keep_or_release(out, s);
}

/* A list of texts in the metadata; none where the file does not have it. */
static status parse_claim(json_pairs *out, const safetensors *file, const char *claim) {
    const char *text = safetensors_metadata(file, claim);
    *out = (json_pairs){0};
    if (!text) return STATUS_OK;
    status s = json_pairs_parse(out, claim, text, strlen(text));
    return s == STATUS_OK ? s : error_prefix(s, "%s: __metadata__", safetensors_path(file));
}

static bool is_element(const json_pairs *list, int index) {
    char place[24];
    snprintf(place, sizeof place, "%d", index);
    return strcmp(list->items[index].path, place) == 0;
}

static status read_claims(class_table *out, const safetensors *file, const json_pairs *names,
                          const json_pairs *ids) {
    if (names->count == 0) return STATUS_OK;
    RETURN_IF_ERROR(allocate_list(out, names->count));
    bool good = ids->count == 0 || ids->count == names->count;
    for (int i = 0; i < names->count; i++) {
        int64_t id = 0;
        good = good && is_element(names, i);
        if (good && ids->count > 0) good = is_element(ids, i) && json_pair_i64(&id, &ids->items[i]);
        if (!good)
            return error_set(STATUS_DATA, "write both as JSON lists, one entry for each class",
                             "%s: __metadata__: class_names and class_ids are no lists of one length",
                             safetensors_path(file));
        RETURN_IF_ERROR(add_class(out, names->items[i].value, id));
    }
    if (ids->count == 0) out->classes.ids = NULL;
    return STATUS_OK;
}

status class_table_of_file(class_table *out, const safetensors *file) {
    json_pairs names, ids = {0};
    *out = (class_table){0};
    status s = parse_claim(&names, file, "class_names");
    if (s == STATUS_OK) s = parse_claim(&ids, file, "class_ids");
    if (s == STATUS_OK) s = read_claims(out, file, &names, &ids);
    json_pairs_release(&names);
    json_pairs_release(&ids);
    return keep_or_release(out, s);
}

status class_table_of_weights(class_table *out, const char *path) {
    safetensors *file;
    *out = (class_table){0};
    RETURN_IF_ERROR(safetensors_open(&file, path));
    status s = class_table_of_file(out, file);
    safetensors_close(file);
    return s;
}

bool class_table_is_name(const char *name) {
    return *name && strcmp(name, "N/A") != 0;
}

void class_table_text(char *out, size_t size, const weights_classes *classes) {
    char tail[48];
    size_t at = 0;
    int tail_size = snprintf(tail, sizeof tail, ", ... (%d classes)", classes->count);
    out[0] = '\0';
    for (int i = 0; i < classes->count; i++) {
        char id[32] = "", item[160];
        if (classes->ids) snprintf(id, sizeof id, " (%" PRId64 ")", classes->ids[i]);
        int length = snprintf(item, sizeof item, "%s%.100s%s", i ? ", " : "", classes->names[i], id);
        if (at + (size_t)length + (size_t)tail_size >= size) {
            snprintf(out + at, size - at, "%s", tail);
            return;
        }
        memcpy(out + at, item, (size_t)length + 1);
        at += (size_t)length;
    }
}
