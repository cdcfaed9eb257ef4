#include "bench/image_profile.h"

#include "base/clock.h"
#include "base/thread_pool.h"
#include "bench/json_output.h"
#include "bench/random_model.h"
#include "bench/synthetic_data.h"
#include "evaluate/test_data.h"
#include "setup/model_config.h"
#include "setup/setup.h"

#include <math.h>

enum { PICTURES = 4 };

typedef struct image_profile {
    const profile_options *options;
    config *cfg;
    rank_env env;
    synthetic_data synthetic;
    test_data data;
    device *dev;
    mask_rcnn model;
    detector_spec spec;
    detector *detect;
    detection_list found;
    profile_report report;
    double op_seconds; /* of this image */
    int64_t detections;
    bool measuring;
} image_profile;

static status make_pictures(image_profile *p) {
    char spec[SYNTHETIC_SPEC];
    config *cfg = p->cfg;
    int64_t height = cfg->INPUT_MIN_SIZE_TEST > 0 ? cfg->INPUT_MIN_SIZE_TEST : 800,
            width = cfg->INPUT_MAX_SIZE_TEST;
    if (width < 1) width = height * 4 / 3;
    if (height > width) height = width;
    RETURN_IF_ERROR(
        synthetic_data_make(&p->synthetic, PICTURES, (int)height, (int)width, (uint64_t)cfg->SEED));
    synthetic_data_spec(spec, &p->synthetic);
    return config_set(cfg, "DATASETS.TEST", spec);
}

/* The loader forks, so the data come first. */
static status open_data(image_profile *p) {
    RETURN_IF_ERROR(rank_env_read(&p->env));
    config_log_warnings(p->cfg);
    RETURN_IF_ERROR(setup_seed(p->cfg, &p->env));
    if (p->options->synthetic) RETURN_IF_ERROR(make_pictures(p));
    if (p->cfg->DATASETS_TEST.count == 0)
        return error_set(STATUS_CONFIG, "add DATASETS.TEST ANNOTATIONS.json:IMAGE_DIR, or --synthetic",
                         "DATASETS.TEST names no images to detect in");
    RETURN_IF_ERROR(test_data_open(&p->data, p->cfg, &p->env));
    if (p->data.sets[0].load) return STATUS_OK;
    return error_set(STATUS_DATA, "name a data set with images", "%s lists no image", p->data.sets[0].name);
}

static status open_model(image_profile *p) {
    const char *weights = p->options->random_start ? "" : p->cfg->MODEL_WEIGHTS;
    RETURN_IF_ERROR(setup_device(&p->dev, p->cfg, p->env.local_rank));
    thread_pool_start(setup_thread_count(p->cfg, 1));
    RETURN_IF_ERROR(setup_model(&p->model, p->cfg, p->dev, false, weights, NULL, WEIGHTS_EXACT));
    if (!weights[0]) random_model_calm(&p->model, p->cfg);
    detector_spec_from_config(&p->spec, p->cfg);
    return STATUS_OK;
}

/* --- one image ------------------------------------------------------------------------------------------------------- */

static void note_run(void *context, const tape_run *run) {
    image_profile *p = context;
    if (!p->measuring) return;
    p->op_seconds += run->seconds;
    op_table_add_run(p->report.table, run);
    profile_report_trace_run(&p->report, run);
}

static status detect(image_profile *p) {
    loader_batch batch;
    double start = clock_seconds();
    RETURN_IF_ERROR(loader_next(p->data.sets[0].load, &batch));
    const loader_sample *sample = &batch.samples[0];
    double there = clock_seconds();
    p->op_seconds = 0;
    status s = sample->pixels
                   ? detector_run(p->detect, &p->found, sample->pixels, sample->height, sample->width)
                   : error_set(STATUS_DATA, "remove it from the data set", "%s: %s", sample->file_name,
                               sample->cause);
    loader_release_batch(p->data.sets[0].load);
    if (s != STATUS_OK || !p->measuring) return s;
    double seconds = clock_seconds() - start, wait = there - start;
    op_table_add(p->report.table, "data wait", wait);
    op_table_add(p->report.table, "copies, run lengths, between ops",
                 fmax(seconds - wait - p->op_seconds, 0));
    op_table_end_step(p->report.table);
    profile_report_trace(&p->report, TRACE_HOST, "data", start, wait);
    profile_report_trace(&p->report, TRACE_HOST, "image", there, seconds - wait);
    profile_report_end_step(&p->report, seconds);
    p->detections += p->found.count;
    return STATUS_OK;
}

static status lower_threshold(image_profile *p) {
    loader_batch batch;
    RETURN_IF_ERROR(loader_next(p->data.sets[0].load, &batch));
    const loader_sample *sample = &batch.samples[0];
    status s = sample->pixels ? random_model_lower_threshold(&p->spec, &p->model, p->dev, sample->pixels,
                                                             sample->height, sample->width)
                              : STATUS_OK;
    loader_release_batch(p->data.sets[0].load);
    return s;
}

static void write_about(void *context, json_writer *w) {
    const image_profile *p = context;
    json_output_bool(w, "synthetic", p->options->synthetic);
    json_output_f64(w, "detections", (double)p->detections / (double)p->report.steps);
    json_output_f64(w, "score_threshold", p->spec.score_threshold);
}

static status run(image_profile *p) {
    RETURN_IF_ERROR(loader_start_at(p->data.sets[0].load, 0));
    if (p->options->random_start) RETURN_IF_ERROR(lower_threshold(p));
    RETURN_IF_ERROR(detector_new(&p->detect, &p->model, p->dev, &p->spec));
    detector_observe(p->detect, note_run, p);
    for (int64_t i = 0; i < p->options->warmup; i++) RETURN_IF_ERROR(detect(p));
    p->measuring = true;
    profile_report_begin(&p->report, 0);
    for (int64_t i = 0; i < p->options->iterations; i++) RETURN_IF_ERROR(detect(p));
    return profile_report_tell(&p->report, p->dev, &p->model.params.precision, write_about, p);
}

static void close_all(image_profile *p) {
    detector_free(p->detect);
    detection_list_release(&p->found);
    mask_rcnn_release(&p->model);
    test_data_close(&p->data);
    synthetic_data_remove(&p->synthetic);
    device_close(p->dev);
    thread_pool_stop();
    profile_report_close(&p->report);
}

status image_profile_run(config *cfg, const profile_options *options) {
    image_profile p = {.options = options, .cfg = cfg};
    status s = profile_report_open(&p.report, options->group, options->json, options->trace);
    p.report.what = "image";
    if (s == STATUS_OK) s = open_data(&p);
    if (s == STATUS_OK) s = open_model(&p);
    if (s == STATUS_OK) s = run(&p);
    close_all(&p);
    return s;
}
