#include "cli/predict_job.h"

#include "base/clock.h"
#include "base/file_util.h"
#include "base/log.h"
#include "base/stage_times.h"
#include "base/thread_pool.h"
#include "cli/raw_masks.h"
#include "data/image_read.h"
#include "draw/picture.h"
#include "eval/coco_results.h"
#include "infer/detector.h"
#include "weights/class_table.h"
#include "setup/model_config.h"
#include "setup/setup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { STAGES = DETECTOR_STAGES + 2 }; /* read, those of the detector, write */

typedef struct predict_job {
    const config *cfg;
    const image_list *images;
    const predict_options *options;
    bool pictures, stems_differ;
    int64_t *ids;
    device *dev;
    mask_rcnn model;
    class_table classes;   /* as the weights name them */
    int64_t *category_ids; /* by label; NULL: label + 1 */
    detector *d;
    results_writer *results;
    raw_masks raw;
    image_buffer image;
    detection_list found;
    stage_times times;
    int done, drawn, failed;
    int64_t detections;
} predict_job;

static const char *file_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Pictures are called after the images: 7.jpg gives 7.png, which must not be one of the images. */
static status check_places(const predict_job *job) {
    char out[PATH_MAX], folder[PATH_MAX];
    for (int i = 0; i < job->images->count && job->pictures; i++) {
        const char *path = job->images->paths[i], *name = file_name(path), *dot = strrchr(name, '.');
        if (!dot || strcasecmp(dot, ".png") != 0) continue;
        snprintf(folder, sizeof folder, "%.*s", (int)(name - path), path);
        char *there = realpath(folder[0] ? folder : ".", NULL);
        bool same = there && realpath(job->options->out, out) && strcmp(there, out) == 0;
        free(there);
        if (same)
            return error_set(STATUS_USAGE, "choose another folder for --out, or give --no-pictures",
                             "predict: %s lies in the folder %s, where the pictures go", path,
                             job->options->out);
    }
    return STATUS_OK;
}

static status open_outputs(predict_job *job) {
    char path[PATH_MAX];
    RETURN_IF_ERROR(make_directories(job->options->out));
    RETURN_IF_ERROR(check_places(job));
    RETURN_IF_ERROR(image_list_stems_differ(&job->stems_differ, job->images));
    job->ids = calloc((size_t)job->images->count + 1, sizeof *job->ids);
    if (!job->ids) return error_set(STATUS_OS, "free some memory", "out of memory for image ids");
    RETURN_IF_ERROR(image_list_ids(job->ids, job->images));
    RETURN_IF_ERROR(path_join(path, job->options->out, "coco_instances_results.json"));
    return results_writer_open(&job->results, path);
}

/* A model may have more labels than its data set had categories: those were never trained. */
static status list_category_ids(predict_job *job, int labels) {
    const weights_classes *known = &job->classes.classes;
    if (!known->ids) return STATUS_OK;
    job->category_ids = calloc((size_t)labels + 1, sizeof *job->category_ids);
    if (!job->category_ids) return error_set(STATUS_OS, "free some memory", "out of memory for category ids");
    for (int i = 0; i < labels; i++) job->category_ids[i] = i < known->count ? known->ids[i] : i + 1;
    return STATUS_OK;
}

static status open_model(predict_job *job) {
    const config *cfg = job->cfg;
    if (!cfg->MODEL_WEIGHTS[0])
        return error_set(STATUS_USAGE, "give --weights FILE or set MODEL.WEIGHTS", "predict: no weights");
    thread_pool_start(setup_thread_count(cfg, 1));
    RETURN_IF_ERROR(setup_device(&job->dev, cfg, 0));
    RETURN_IF_ERROR(setup_model(&job->model, cfg, job->dev, false, cfg->MODEL_WEIGHTS, NULL, WEIGHTS_EXACT));
    RETURN_IF_ERROR(class_table_of_weights(&job->classes, cfg->MODEL_WEIGHTS));
    RETURN_IF_ERROR(list_category_ids(job, (int)cfg->MODEL_ROI_HEADS_NUM_CLASSES));
    detector_spec spec;
    detector_spec_from_config(&spec, cfg);
    spec.raw_masks = job->options->raw_masks;
    RETURN_IF_ERROR(detector_new(&job->d, &job->model, job->dev, &spec));
    if (!spec.raw_masks || !spec.masks) return STATUS_OK;
    return raw_masks_open(&job->raw, job->options->out, mask_rcnn_mask_side(&job->model.spec));
}

static status draw(predict_job *job, int index) {
    char stem[NAME_MAX + 1], name[NAME_MAX + 32], path[PATH_MAX];
    image_list_stem(stem, sizeof stem, job->images, index);
    if (job->stems_differ)
        snprintf(name, sizeof name, "%s.png", stem);
    else
        snprintf(name, sizeof name, "%d_%s.png", index + 1, stem);
    RETURN_IF_ERROR(path_join(path, job->options->out, name));
    picture_image image = {.rgb = job->image.pixels,
                           .height = job->image.height,
                           .width = job->image.width,
                           .caption = file_name(job->images->paths[index])};
    static const char *const proposal[] = {"proposal"};
    picture_classes classes = {.names = job->classes.classes.names, .count = job->classes.classes.count};
    if (job->model.spec.rpn_only) classes = (picture_classes){.names = proposal, .count = 1};
    return picture_draw_detections(path, &image, &job->found, classes.names ? &classes : NULL,
                                   job->options->draw_threshold);
}

/* An image may be too large for a picture, and its detections are as good. */
static status write_results(predict_job *job, int index) {
    RETURN_IF_ERROR(results_writer_add(job->results, job->ids[index], file_name(job->images->paths[index]),
                                       &job->found, job->category_ids));
    if (job->raw.fd >= 0) RETURN_IF_ERROR(raw_masks_add(&job->raw, &job->found));
    if (!job->pictures) return STATUS_OK;
    status s = draw(job, index);
    job->drawn += s == STATUS_OK;
    if (s != STATUS_DATA) return s;
    log_warn("predict", "%s: no picture: %s", job->images->paths[index], error_cause());
    error_clear();
    return STATUS_OK;
}

/* An image that cannot be read or is too large for this machine is the image's affair; all else ends the run. */
static status run_image(predict_job *job, int index) {
    const char *path = job->images->paths[index];
    double ms[STAGES], start = clock_seconds();
    status s = image_read(&job->image, path, NULL);
    ms[0] = 1e3 * (clock_seconds() - start);
    if (s == STATUS_OK) {
        s = detector_run(job->d, &job->found, job->image.pixels, job->image.height, job->image.width);
        if (s != STATUS_OK) error_prefix(s, "%s", path);
    }
    if (s != STATUS_OK) {
        log_warn("predict", "left out: %s", error_cause());
        error_clear();
        job->failed++;
        return STATUS_OK;
    }
    memcpy(ms + 1, detector_stage_ms(job->d), DETECTOR_STAGES * sizeof *ms);
    start = clock_seconds();
    RETURN_IF_ERROR(write_results(job, index));
    ms[STAGES - 1] = 1e3 * (clock_seconds() - start);
    job->done++;
    job->detections += job->found.count;
    return stage_times_add(&job->times, ms);
}

static status finish(predict_job *job, double seconds) {
    char path[PATH_MAX];
    if (job->done == 0)
        return error_set(STATUS_DATA, "the lines above say what is wrong with each",
                         "predict: none of %d images could be used", job->failed);
    RETURN_IF_ERROR(results_writer_finish(&job->results));
    bool raw = job->raw.fd >= 0;
    if (raw) {
        RETURN_IF_ERROR(path_join(path, job->options->out, "raw_masks.safetensors"));
        RETURN_IF_ERROR(raw_masks_finish(&job->raw, path));
    }
    stage_times_print(&job->times, stdout);
    printf("%d images, %lld detections, %.2f img/s; %.0f MiB for inference\n", job->done,
           (long long)job->detections, job->done / seconds, (double)detector_memory(job->d) / 0x1p20);
    printf("results in %s/coco_instances_results.json", job->options->out);
    if (raw) printf(", masks in %s/raw_masks.safetensors", job->options->out);
    if (job->drawn) printf(", %d picture%s in %s", job->drawn, job->drawn == 1 ? "" : "s", job->options->out);
    putchar('\n');
    if (job->failed)
        log_warn("predict", "%d of %d images could not be used", job->failed, job->images->count);
    return STATUS_OK;
}

static void close_job(predict_job *job) {
    results_writer_cancel(&job->results);
    raw_masks_close(&job->raw);
    detector_free(job->d);
    detection_list_release(&job->found);
    image_buffer_release(&job->image);
    class_table_release(&job->classes);
    free(job->category_ids);
    mask_rcnn_release(&job->model);
    if (job->dev) device_close(job->dev);
    stage_times_release(&job->times);
    thread_pool_stop();
    free(job->ids);
}

status predict_run(const config *cfg, const image_list *images, const predict_options *options) {
    const char *names[STAGES] = {"read", [STAGES - 1] = "write"};
    memcpy(names + 1, detector_stage_names, sizeof detector_stage_names);
    predict_job job = {.cfg = cfg, .images = images, .options = options, .raw = {.fd = -1}};
    job.pictures = options->pictures && picture_built_in();
    if (options->pictures && !job.pictures)
        log_warn("predict", "this program was built without cairo: no pictures");
    stage_times_init(&job.times, names, STAGES);
    status s = open_outputs(&job);
    if (s == STATUS_OK) s = open_model(&job);
    double start = clock_seconds();
    for (int i = 0; i < images->count && s == STATUS_OK; i++) s = run_image(&job, i);
    if (s == STATUS_OK) s = finish(&job, clock_seconds() - start);
    close_job(&job);
    return s;
}
