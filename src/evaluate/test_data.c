#include "evaluate/test_data.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "setup/dataset_config.h"

static bool is_batch_norm(const char *norm) {
    return strcmp(norm, "BN") == 0 || strcmp(norm, "SyncBN") == 0;
}

static status check_validation_loss(const config *cfg) {
    if (!cfg->TEST_VALIDATION_LOSS) return STATUS_OK;
    if (cfg->INPUT_MIN_SIZE_TEST == 0)
        return error_set(STATUS_CONFIG, "set INPUT.MIN_SIZE_TEST to a size, or TEST.VALIDATION_LOSS False",
                         "TEST.VALIDATION_LOSS is True, but INPUT.MIN_SIZE_TEST is 0");
    if (is_batch_norm(cfg->MODEL_RESNETS_NORM) || is_batch_norm(cfg->MODEL_FPN_NORM) ||
        is_batch_norm(cfg->MODEL_ROI_MASK_HEAD_NORM))
        return error_set(STATUS_CONFIG, "set TEST.VALIDATION_LOSS False, or use GN or FrozenBN",
                         "TEST.VALIDATION_LOSS is True, but a forward pass in training mode changes the "
                         "statistics of BN and SyncBN");
    return STATUS_OK;
}

static status open_loader(test_set *t, const config *cfg, const rank_env *env) {
    int32_t short_edge = cfg->INPUT_MIN_SIZE_TEST > 0 ? (int32_t)cfg->INPUT_MIN_SIZE_TEST : 1;
    int32_t workers = (int32_t)cfg->DATALOADER_NUM_WORKERS;
    bool floor_sides = strcmp(cfg->INPUT_RESIZE_ROUNDING, "floor") == 0;
    loader_options options = {
        .sampler = {.global_batch = env->size,
                    .short_edges = &short_edge,
                    .short_edge_count = 1,
                    .max_size = (int32_t)cfg->INPUT_MAX_SIZE_TEST,
                    .rule = floor_sides ? RESIZE_RULE_TORCHVISION : RESIZE_RULE_DETECTRON2},
        .rank = env->rank,
        .world = env->size,
        .workers = workers,
        .prefetch_batches = workers > 2 ? workers : 2, /* of one image each */
        .masks = cfg->TEST_VALIDATION_LOSS && cfg->MODEL_MASK_ON,
        .bitmap_masks = strcmp(cfg->MODEL_ROI_MASK_HEAD_TARGET, "soft") == 0,
        .keep_bad = true};
    return loader_new(&t->load, t->set, &options);
}

static void report(const test_set *t) {
    const coco_index *index = dataset_part_index(t->set, 0);
    coco_summary sum = coco_index_summarize(index);
    log_info("evaluation",
             "test set %s: %" PRIu64 " images, %" PRIu64 " annotations, %" PRIu32 " categories (%s)", t->name,
             sum.images, sum.annotations, dataset_category_count(t->set), coco_index_path(index));
    uint32_t first = 0, missing = dataset_missing_count(t->set, &first);
    if (missing)
        log_warn("evaluation",
                 "%s: %" PRIu32 " of %" PRIu32
                 " image files are missing, the first is \"%s\" (not in %s); nothing is detected in them",
                 t->name, missing, dataset_image_count(t->set), dataset_file_name(t->set, first),
                 dataset_part_image_dir(t->set, 0));
}

/* An image that is not taken would make the scores those of other images, without a word. */
static status check_images(const test_set *t) {
    static const coco_issue issues[] = {COCO_BAD_IMAGE, COCO_DUPLICATE_IMAGE};
    const coco_index *index = dataset_part_index(t->set, 0);
    for (size_t i = 0; i < sizeof issues / sizeof *issues; i++) {
        const coco_finding *finding = coco_index_finding(index, issues[i]);
        if (finding->count == 0) continue;
        if (dataset_image_count(t->set) == 0)
            return error_set(STATUS_DATA, "correct the images in the annotation file",
                             "%s: no image can be used: %" PRIu64 " %s: %s", coco_index_path(index),
                             finding->count, coco_issue_text(issues[i]), finding->examples[0]);
        log_warn("evaluation", "%s: left out: %" PRIu64 " %s: %s%s", t->name, finding->count,
                 coco_issue_text(issues[i]), finding->examples[0], finding->count > 1 ? ", ..." : "");
    }
    return STATUS_OK;
}

static status open_set(test_set *t, const config *cfg, const rank_env *env) {
    coco_options options = dataset_training_options(cfg);
    RETURN_IF_ERROR(dataset_open_named(&t->set, &t->name, 1, cfg, &options));
    report(t);
    RETURN_IF_ERROR(check_images(t));
    RETURN_IF_ERROR(class_table_of_dataset(&t->classes, t->set));
    return dataset_image_count(t->set) > 0 ? open_loader(t, cfg, env) : STATUS_OK;
}

/* The presets name COCO's validation images, which are not everywhere where somebody trains. */
static status name_the_key(status s) {
    char remedy[512];
    snprintf(remedy, sizeof remedy, "%s", error_remedy());
    error_prefix(s, "DATASETS.TEST");
    error_set_remedy("%s%sset DATASETS.TEST to a data set of your own, or to \"()\" for no evaluation",
                     remedy, remedy[0] ? "; or " : "");
    return s;
}

status test_data_open(test_data *d, const config *cfg, const rank_env *env) {
    const config_strings *names = &cfg->DATASETS_TEST;
    *d = (test_data){0};
    if (names->count == 0) return STATUS_OK;
    RETURN_IF_ERROR(check_validation_loss(cfg));
    d->sets = calloc((size_t)names->count, sizeof *d->sets);
    if (!d->sets)
        return error_set(STATUS_OS, "free some memory", "out of memory for %d data sets", names->count);
    for (int i = 0; i < names->count; i++) {
        test_set *t = &d->sets[d->count++];
        t->name = names->values[i];
        status s = open_set(t, cfg, env);
        if (s != STATUS_OK) return name_the_key(s);
    }
    return STATUS_OK;
}

status test_data_map_classes(test_data *d, int labels, const weights_classes *model, const char *model_name) {
    for (int i = 0; i < d->count; i++) {
        test_set *t = &d->sets[i];
        class_map_release(&t->map);
        RETURN_IF_ERROR(labels
                            ? class_map_make(&t->map, labels, model, model_name, &t->classes.classes, t->name)
                            : class_map_make_proposals(&t->map));
    }
    return STATUS_OK;
}

void test_data_close(test_data *d) {
    for (int i = 0; i < d->count; i++) {
        loader_free(d->sets[i].load);
        class_map_release(&d->sets[i].map);
        class_table_release(&d->sets[i].classes);
        if (d->sets[i].set) dataset_free(d->sets[i].set);
    }
    free(d->sets);
    *d = (test_data){0};
}

const char *test_set_annotations(const test_set *set) {
    return coco_index_path(dataset_part_index(set->set, 0));
}
