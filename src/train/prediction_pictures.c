#include "train/prediction_pictures.h"

#include "base/file_util.h"
#include "base/log.h"
#include "base/thread_pool.h"
#include "draw/truth.h"
#include "infer/detector.h"
#include "train/model_config.h"
#include "train/setup.h"
#include "train/test_data.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct job {
    const config *cfg;
    const char *folder;
    double least_score;
    int64_t wanted, drawn;
    test_data data;
    device *dev;
    mask_rcnn model;
    detector *detect;
    detection_list found;
    truth_list truth;
} job;

/* FOLDER/0001_<stem>.png, without the file's folders. */
static status place(char path[PATH_MAX], const job *j, const char *file_name) {
    char name[160];
    const char *slash = strrchr(file_name, '/'), *base = slash ? slash + 1 : file_name;
    const char *back = strrchr(base, '\\'), *dot = strrchr(base, '.');
    if (back) base = back + 1;
    int stem = dot && dot > base ? (int)(dot - base) : (int)strlen(base);
    snprintf(name, sizeof name, "%04" PRId64 "_%.*s.png", j->drawn + 1, stem < 100 ? stem : 100, base);
    return path_join(path, j->folder, name);
}

static status draw_sample(job *j, const test_set *set, const loader_sample *sample) {
    char path[PATH_MAX];
    if (!sample->pixels) {
        log_warn("draw", "left out: %s", sample->cause);
        return STATUS_OK;
    }
    status s = detector_run(j->detect, &j->found, sample->pixels, sample->height, sample->width);
    if (s != STATUS_OK) return error_prefix(s, "%s", sample->file_name);
    RETURN_IF_ERROR(place(path, j, sample->file_name));
    RETURN_IF_ERROR(truth_of_image(&j->truth, set->set, sample->image, j->cfg->MODEL_MASK_ON));
    picture_image image = {.rgb = sample->pixels,
                           .height = sample->height,
                           .width = sample->width,
                           .caption = sample->file_name};
    picture_classes classes = {
        .names = set->map.names, .count = set->map.labels, .colours = set->map.categories};
    RETURN_IF_ERROR(picture_ground_truth_beside(path, &image, j->truth.items, j->truth.count, &j->found,
                                                &classes, j->least_score));
    j->drawn++;
    return STATUS_OK;
}

static status draw_set(job *j, const test_set *set) {
    int64_t count = dataset_image_count(set->set);
    for (int64_t i = 0; i < count && j->drawn < j->wanted && set->load; i++) {
        loader_batch batch;
        RETURN_IF_ERROR(loader_next(set->load, &batch));
        status s = draw_sample(j, set, &batch.samples[0]);
        loader_release_batch(set->load);
        RETURN_IF_ERROR(s);
    }
    return STATUS_OK;
}

static status open_model(job *j) {
    const config *cfg = j->cfg;
    class_table classes = {0};
    detector_spec spec;
    thread_pool_start(setup_thread_count(cfg, 1));
    RETURN_IF_ERROR(setup_device(&j->dev, cfg, 0));
    RETURN_IF_ERROR(setup_model(&j->model, cfg, j->dev, false, cfg->MODEL_WEIGHTS, NULL, WEIGHTS_EXACT));
    status s = class_table_of_weights(&classes, cfg->MODEL_WEIGHTS);
    if (s == STATUS_OK)
        s = test_data_map_classes(&j->data, j->model.spec.roi.classes, &classes.classes, cfg->MODEL_WEIGHTS);
    class_table_release(&classes);
    RETURN_IF_ERROR(s);
    detector_spec_from_config(&spec, cfg);
    return detector_new(&j->detect, &j->model, j->dev, &spec);
}

static status run(job *j) {
    const rank_env alone = {.size = 1, .local_size = 1};
    if (j->cfg->DATASETS_TEST.count == 0)
        return error_set(STATUS_CONFIG, "add DATASETS.TEST ANNOTATIONS.json:IMAGE_DIR to the command",
                         "DATASETS.TEST names no dataset");
    RETURN_IF_ERROR(test_data_open(&j->data, j->cfg, &alone));
    RETURN_IF_ERROR(open_model(j));
    for (int i = 0; i < j->data.count; i++) RETURN_IF_ERROR(draw_set(j, &j->data.sets[i]));
    if (j->drawn == 0)
        return error_set(STATUS_DATA, "look at the warnings above, and at the annotation file",
                         "none of the images of DATASETS.TEST could be drawn");
    log_info("draw", "%" PRId64 " image%s in %s", j->drawn, j->drawn == 1 ? "" : "s", j->folder);
    return STATUS_OK;
}

status prediction_pictures_write(const config *cfg, const char *folder, int64_t images, double least_score) {
    RETURN_IF_ERROR(picture_check_built_in());
    RETURN_IF_ERROR(make_directories(folder));
    job *j = calloc(1, sizeof *j);
    if (!j) return error_set(STATUS_OS, "free some memory", "out of memory for pictures");
    *j = (job){.cfg = cfg, .folder = folder, .least_score = least_score, .wanted = images};
    status s = run(j);
    detector_free(j->detect);
    detection_list_release(&j->found);
    truth_release(&j->truth);
    mask_rcnn_release(&j->model);
    if (j->dev) device_close(j->dev);
    thread_pool_stop();
    test_data_close(&j->data);
    free(j);
    return s;
}
