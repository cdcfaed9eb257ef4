#include "setup/dataset_config.h"

#include "base/check.h"

#include <stdlib.h>
#include <string.h>

/* DATASETS.REGISTER: "NAME=ANNOTATIONS.json:IMAGE_DIR" each. The strings of `known` are malloc'ed. */
static status read_registrations(dataset_registration **known, const config *cfg) {
    const config_strings *list = &cfg->DATASETS_REGISTER;
    *known = calloc((size_t)list->count + 1, sizeof **known);
    if (!*known)
        return error_set(STATUS_OS, "free some memory", "out of memory for %d dataset names", list->count);
    for (int i = 0; i < list->count; i++) {
        const char *equals = strchr(list->values[i], '=');
        CHECK(equals, "DATASETS.REGISTER: %s passed the configuration's check", list->values[i]);
        char *annotations, *folder, *name = strndup(list->values[i], (size_t)(equals - list->values[i]));
        if (!name)
            return error_set(STATUS_OS, "free some memory", "out of memory for %d dataset names",
                             list->count);
        status s = dataset_split_spec(&annotations, &folder, equals + 1);
        if (s != STATUS_OK) {
            free(name);
            return error_prefix(s, "DATASETS.REGISTER");
        }
        (*known)[i] = (dataset_registration){.name = name, .annotations = annotations, .image_dir = folder};
    }
    return STATUS_OK;
}

static void free_registrations(dataset_registration *known, int count) {
    for (int i = 0; known && i < count; i++) {
        free((char *)known[i].name);
        free((char *)known[i].annotations);
        free((char *)known[i].image_dir);
    }
    free(known);
}

status dataset_open_named(dataset **out, const char *const *specs, int count, const config *cfg,
                          const coco_options *options) {
    dataset_registration *known = NULL;
    status s = read_registrations(&known, cfg);
    if (s == STATUS_OK) s = dataset_open(out, specs, count, known, cfg->DATASETS_REGISTER.count, options);
    free_registrations(known, cfg->DATASETS_REGISTER.count);
    return s;
}

coco_options dataset_training_options(const config *cfg) {
    coco_options options = coco_options_default();
    options.crowd_as_instances = cfg->DATASETS_CROWD_AS_INSTANCES;
    options.need_masks = cfg->MODEL_MASK_ON;
    return options;
}
