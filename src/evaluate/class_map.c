#include "evaluate/class_map.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

enum {
    TORCHVISION_LABELS = 90, /* of its COCO models: category ids 1..90, of which 80 are used */
    LIST_TEXT = 700
};

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

/* False where the lists differ; `skip_unnamed` leaves out labels of the model that stand for nothing. */
static bool place_by_name(class_map *map, const weights_classes *model, const weights_classes *set,
                          bool skip_unnamed) {
    int category = 0;
    for (int i = 0; i < model->count; i++) {
        if (skip_unnamed && !class_table_is_name(model->names[i])) continue;
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

/* Labels that stand for nothing. */
static status reserve(class_map *out, int labels) {
    size_t room = (size_t)labels + 1;
    *out = (class_map){.labels = labels,
                       .categories = malloc(room * sizeof *out->categories),
                       .ids = calloc(room, sizeof *out->ids),
                       .names = calloc(room, sizeof *out->names)};
    if (!out->categories || !out->ids || !out->names)
        return error_set(STATUS_OS, "free some memory", "out of memory for %d classes", labels);
    for (int i = 0; i < labels; i++) out->categories[i] = -1;
    return STATUS_OK;
}

status class_map_make_proposals(class_map *out) {
    RETURN_IF_ERROR(reserve(out, 1));
    out->categories[0] = 0;
    out->ids[0] = 1;
    out->names[0] = "proposal";
    return STATUS_OK;
}

status class_map_make(class_map *out, int labels, const weights_classes *model, const char *model_name,
                      const weights_classes *set, const char *set_name) {
    RETURN_IF_ERROR(reserve(out, labels));
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
