#include "train/class_map.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "data/json_pairs.h"

enum {
    TORCHVISION_LABELS = 90, /* of its COCO models: category ids 1..90, of which 80 are used */
    LIST_TEXT = 700
};

/* --- lists --------------------------------------------------------------------------------------------------------- */

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

static status parse_claim(json_pairs *out, const safetensors *file, const char *claim) {
    const char *text = safetensors_metadata(file, claim);
    *out = (json_pairs){0};
    if (!text) return STATUS_OK;
    status s = json_pairs_parse(out, claim, text, strlen(text));
    return s == STATUS_OK ? s : error_prefix(s, "%s: __metadata__", safetensors_path(file));
}

static status read_claims(class_table *out, const safetensors *file, const json_pairs *names,
                          const json_pairs *ids) {
    if (names->count == 0) return STATUS_OK;
    RETURN_IF_ERROR(allocate_list(out, names->count));
    for (int i = 0; i < names->count; i++) {
        char place[24];
        int64_t id = 0;
        snprintf(place, sizeof place, "%d", i);
        const char *name = json_pairs_get(names, place);
        if (!name || (ids->count > 0 && (ids->count != names->count || !json_pairs_i64(&id, ids, place))))
            return error_set(STATUS_DATA, "write both as JSON lists, one entry for each class",
                             "%s: __metadata__: class_names and class_ids are no lists of one length",
                             safetensors_path(file));
        RETURN_IF_ERROR(add_class(out, name, id));
    }
    if (ids->count == 0) out->classes.ids = NULL;
    return STATUS_OK;
}

status class_table_of_weights(class_table *out, const char *path) {
    safetensors *file;
    json_pairs names = {0}, ids = {0};
    *out = (class_table){0};
    RETURN_IF_ERROR(safetensors_open(&file, path));
    status s = parse_claim(&names, file, "class_names");
    if (s == STATUS_OK) s = parse_claim(&ids, file, "class_ids");
    if (s == STATUS_OK) s = read_claims(out, file, &names, &ids);
    json_pairs_release(&names);
    json_pairs_release(&ids);
    safetensors_close(file);
    return keep_or_release(out, s);
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

/* --- the map ------------------------------------------------------------------------------------------------------- */

static bool ids_fit_torchvision(const weights_classes *set) {
    for (int i = 0; i < set->count; i++)
        if (set->ids[i] < 1 || set->ids[i] > TORCHVISION_LABELS) return false;
    return true;
}

static void place(class_map *map, int label, int category, const weights_classes *set) {
    map->categories[label] = category;
    map->ids[label] = set->ids[category];
    map->names[label] = set->names[category];
}

/* Numbers of COCO's ids that no object has are called N/A where torchvision's 90 labels have names. */
static bool is_unnamed(const char *name) {
    return name[0] == '\0' || strcmp(name, "N/A") == 0;
}

/* False where the lists differ; `skip_unnamed` leaves out labels of the model that stand for nothing. */
static bool place_by_name(class_map *map, const weights_classes *model, const weights_classes *set,
                          bool skip_unnamed) {
    int category = 0;
    for (int i = 0; i < model->count; i++) {
        if (skip_unnamed && is_unnamed(model->names[i])) continue;
        if (i >= map->labels || category == set->count ||
            strcmp(model->names[i], set->names[category]) != 0 ||
            (model->ids && model->ids[i] != set->ids[category]))
            return false;
        place(map, i, category++, set);
    }
    return category == set->count;
}

static status refuse_classes(const weights_classes *model, const char *model_name, const weights_classes *set,
                             const char *set_name) {
    char said[LIST_TEXT], wanted[LIST_TEXT];
    class_table_text(said, sizeof said, model);
    class_table_text(wanted, sizeof wanted, set);
    return error_set(STATUS_DATA, "use the annotations or the weights that belong together",
                     "the classes of %.200s are not those of %.200s: %s: %s; %s: %s", model_name, set_name,
                     "the model has", said, "the data set has", wanted);
}

static void place_by_number(class_map *map, const char *model_name, const weights_classes *set,
                            const char *set_name) {
    bool torchvision =
        map->labels == TORCHVISION_LABELS && set->count != map->labels && ids_fit_torchvision(set);
    for (int i = 0; i < set->count; i++) place(map, torchvision ? (int)set->ids[i] - 1 : i, i, set);
    if (torchvision)
        log_info(
            "evaluation",
            "%s names no classes and has %d: torchvision's numbering of COCO is assumed, label + 1 is the "
            "category id of %s",
            model_name, map->labels, set_name);
    else if (set->count == map->labels)
        log_info(
            "evaluation",
            "%s names no classes: its %d labels are taken as the categories of %s in the order of their ids",
            model_name, map->labels, set_name);
    else
        log_warn("evaluation",
                 "%s names no classes and has %d, %s has %d categories: the first labels are taken as the "
                 "categories in the order of their ids, detections of the others do not count",
                 model_name, map->labels, set_name, set->count);
}

status class_map_make(class_map *out, int labels, const weights_classes *model, const char *model_name,
                      const weights_classes *set, const char *set_name) {
    size_t room = (size_t)labels + 1;
    *out = (class_map){.labels = labels,
                       .categories = malloc(room * sizeof *out->categories),
                       .ids = calloc(room, sizeof *out->ids),
                       .names = calloc(room, sizeof *out->names)};
    if (!out->categories || !out->ids || !out->names)
        return error_set(STATUS_OS, "free some memory", "out of memory for %d classes", labels);
    for (int i = 0; i < labels; i++) out->categories[i] = -1;
    if (set->count > labels)
        return error_set(
            STATUS_CONFIG,
            "set MODEL.ROI_HEADS.NUM_CLASSES to what the weights were trained with, or evaluate on a "
            "data set of that many categories",
            "MODEL.ROI_HEADS.NUM_CLASSES is %d, but %.200s has %d categories", labels, set_name, set->count);
    if (model->count == 0) {
        place_by_number(out, model_name, set, set_name);
        return STATUS_OK;
    }
    if (place_by_name(out, model, set, false)) return STATUS_OK;
    for (int i = 0; i < labels; i++) out->categories[i] = -1;
    return place_by_name(out, model, set, true) ? STATUS_OK
                                                : refuse_classes(model, model_name, set, set_name);
}

void class_map_release(class_map *map) {
    free(map->categories);
    free(map->ids);
    free(map->names);
    *map = (class_map){0};
}
