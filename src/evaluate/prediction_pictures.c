#include "evaluate/prediction_pictures.h"

#include "base/file_util.h"
#include "base/log.h"
#include "base/thread_pool.h"
#include "draw/picture.h"
#include "infer/detector.h"
#include "setup/model_config.h"
#include "setup/setup.h"
#include "evaluate/test_pictures.h"

#include <stdlib.h>
#include <string.h>

typedef struct job {
    const config *cfg;
    int64_t wanted;
    test_data data;
    device *dev;
    mask_rcnn model;
    detector *detect;
    detection_list found;
    test_pictures pictures;
} job;

static status draw_sample(job *j, const loader_sample *sample) {
    if (!sample->pixels) {
        log_warn("draw", "left out: %s", sample->cause);
        return STATUS_OK;
    }
    status s = detector_run(j->detect, &j->found, sample->pixels, sample->height, sample->width);
    if (s != STATUS_OK) return error_prefix(s, "%s", sample->file_name);
    s = test_pictures_draw(&j->pictures, sample, &j->found);
    if (s != STATUS_DATA) return s;
    log_warn("draw", "%s: left out: %s", sample->file_name, error_cause()); /* too large for a picture */
    error_clear();
    return STATUS_OK;
}

static status draw_set(job *j, const test_set *set) {
    int64_t count = dataset_image_count(set->set);
    j->pictures.set = set;
    for (int64_t i = 0; i < count && j->pictures.drawn < j->wanted && set->load; i++) {
        loader_batch batch;
        RETURN_IF_ERROR(loader_next(set->load, &batch));
        status s = draw_sample(j, &batch.samples[0]);
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
        s = test_data_map_classes(&j->data, mask_rcnn_labels(&j->model.spec), &classes.classes,
                                  cfg->MODEL_WEIGHTS);
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
    if (j->pictures.drawn == 0)
        return error_set(STATUS_DATA, "look at the warnings above, and at the annotation file",
                         "none of the images of DATASETS.TEST could be drawn");
    log_info("draw", "%d image%s in %s", j->pictures.drawn, j->pictures.drawn == 1 ? "" : "s",
             j->pictures.folder);
    return STATUS_OK;
}

status prediction_pictures_write(const config *cfg, const char *folder, int64_t images, double least_score) {
    RETURN_IF_ERROR(picture_check_built_in());
    RETURN_IF_ERROR(make_directories(folder));
    job *j = calloc(1, sizeof *j);
    if (!j) return error_set(STATUS_OS, "free some memory", "out of memory for pictures");
    *j = (job){.cfg = cfg,
               .wanted = images,
               .pictures = {.folder = folder, .masks = cfg->MODEL_MASK_ON, .least_score = least_score}};
    status s = run(j);
    detector_free(j->detect);
    detection_list_release(&j->found);
    test_pictures_release(&j->pictures);
    mask_rcnn_release(&j->model);
    if (j->dev) device_close(j->dev);
    thread_pool_stop();
    test_data_close(&j->data);
    free(j);
    return s;
}
