#include "setup/train_data.h"

#include "base/check.h"
#include "setup/dataset_config.h"

#include <inttypes.h>
#include <string.h>

static status open_dataset(train_data *d, const config *cfg) {
    const config_strings *specs = &cfg->DATASETS_TRAIN;
    if (specs->count == 0)
        return error_set(STATUS_CONFIG, "add DATASETS.TRAIN ANNOTATIONS.json:IMAGE_DIR to the command",
                         "DATASETS.TRAIN names no dataset");
    coco_options options = dataset_training_options(cfg);
    return dataset_open_named(&d->set, specs->values, specs->count, cfg, &options);
}

static status list_classes(train_data *d, const config *cfg) {
    int count = (int)dataset_category_count(d->set);
    if (config_has_roi_heads(cfg) && count > cfg->MODEL_ROI_HEADS_NUM_CLASSES)
        return error_set(STATUS_CONFIG,
                         "set MODEL.ROI_HEADS.NUM_CLASSES to at least the number of categories",
                         "MODEL.ROI_HEADS.NUM_CLASSES is %" PRId64 ", but DATASETS.TRAIN has %d categories",
                         cfg->MODEL_ROI_HEADS_NUM_CLASSES, count);
    RETURN_IF_ERROR(class_table_of_dataset(&d->table, d->set));
    d->classes = d->table.classes;
    return STATUS_OK;
}

/* As a rank of training reads: shuffled, grouped and flipped. */
static loader_options training_options(const config *cfg, int rank, int ranks) {
    return (loader_options){
        .sampler = {.global_batch = (int32_t)cfg->SOLVER_IMS_PER_BATCH,
                    .shuffle = true,
                    .aspect_grouping = cfg->DATALOADER_ASPECT_RATIO_GROUPING,
                    .filter_empty = cfg->DATALOADER_FILTER_EMPTY_ANNOTATIONS,
                    .flip_probability = strcmp(cfg->INPUT_RANDOM_FLIP, "none") == 0 ? 0.0f : 0.5f},
        .rank = rank,
        .world = ranks,
        .workers = (int32_t)cfg->DATALOADER_NUM_WORKERS};
}

static status open_loader(train_data *d, const config *cfg, loader_options options) {
    const config_ints *sizes = &cfg->INPUT_MIN_SIZE_TRAIN;
    int32_t short_edges[SAMPLER_MAX_SHORT_EDGES];
    int count = sizes->count;
    CHECK(count <= SAMPLER_MAX_SHORT_EDGES, "%d values of INPUT.MIN_SIZE_TRAIN", count);
    for (int i = 0; i < count; i++) short_edges[i] = (int32_t)sizes->values[i];
    sampler_options *s = &options.sampler;
    s->seed = (uint64_t)cfg->SEED;
    s->short_edges = short_edges;
    s->short_edge_count = count;
    s->short_edge_range = strcmp(cfg->INPUT_MIN_SIZE_TRAIN_SAMPLING, "range") == 0;
    s->max_size = (int32_t)cfg->INPUT_MAX_SIZE_TRAIN;
    s->rule =
        strcmp(cfg->INPUT_RESIZE_ROUNDING, "floor") == 0 ? RESIZE_RULE_TORCHVISION : RESIZE_RULE_DETECTRON2;
    options.masks = cfg->MODEL_MASK_ON;
    options.bitmap_masks = strcmp(cfg->MODEL_ROI_MASK_HEAD_TARGET, "soft") == 0;
    options.bad_share = cfg->DATALOADER_MAX_BAD_IMAGE_SHARE;
    return loader_new(&d->load, d->set, &options);
}

status train_data_open(train_data *d, const config *cfg, const rank_env *env) {
    *d = (train_data){0};
    RETURN_IF_ERROR(open_dataset(d, cfg));
    dataset_report(d->set);
    RETURN_IF_ERROR(dataset_check_usable(d->set));
    RETURN_IF_ERROR(list_classes(d, cfg));
    return open_loader(d, cfg, training_options(cfg, env->rank, env->size));
}

status train_data_open_images(train_data *d, const config *cfg) {
    *d = (train_data){0};
    RETURN_IF_ERROR(open_dataset(d, cfg));
    loader_options options = training_options(cfg, 0, 1);
    options.sampler.filter_empty = false;
    return open_loader(d, cfg, options);
}

status train_data_open_in_order(train_data *d, const config *cfg, int images) {
    *d = (train_data){0};
    RETURN_IF_ERROR(open_dataset(d, cfg));
    RETURN_IF_ERROR(dataset_check_usable(d->set));
    RETURN_IF_ERROR(list_classes(d, cfg));
    loader_options options = {
        .sampler = {.global_batch = images, .filter_empty = cfg->DATALOADER_FILTER_EMPTY_ANNOTATIONS},
        .rank = 0,
        .world = 1};
    return open_loader(d, cfg, options);
}

void train_data_close(train_data *d) {
    if (d->load) loader_free(d->load);
    if (d->set) dataset_free(d->set);
    class_table_release(&d->table);
    *d = (train_data){0};
}
