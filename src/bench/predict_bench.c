#include "bench/predict_bench.h"

#include "base/clock.h"
#include "base/host_memory.h"
#include "base/stage_times.h"
#include "base/thread_pool.h"
#include "bench/json_output.h"
#include "bench/machine.h"
#include "bench/random_model.h"
#include "data/image_read.h"
#include "data/synth_scene.h"
#include "infer/detector.h"
#include "setup/model_config.h"
#include "setup/setup.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_HEIGHT = 480, DEFAULT_WIDTH = 800 };

/* What was measured at one size. */
typedef struct result {
    int height, width, resized_height, resized_width;
    double stage_ms[DETECTOR_STAGES], step_ms, step_ms_p90, detections, score_threshold;
    size_t memory;
} result;

typedef struct bench {
    const predict_bench_job *job;
    device *dev;
    precision precision;
    mask_rcnn model;
    detector_spec spec;
    image_buffer *images; /* [image_count]: of the size that is measured */
    int image_count;
    result results[PREDICT_BENCH_SIZES];
    int result_count;
} bench;

static void release_images(bench *b) {
    for (int i = 0; i < b->image_count; i++) image_buffer_release(&b->images[i]);
    free(b->images);
    b->images = NULL;
    b->image_count = 0;
}

static status room_for_images(bench *b, int count) {
    b->images = calloc((size_t)count, sizeof *b->images);
    if (!b->images) return error_set(STATUS_OS, "free some memory", "no memory for %d images", count);
    b->image_count = count;
    return STATUS_OK;
}

static status read_images(bench *b) {
    const image_list *list = b->job->images;
    RETURN_IF_ERROR(room_for_images(b, list->count));
    for (int i = 0; i < list->count; i++) RETURN_IF_ERROR(image_read(&b->images[i], list->paths[i], NULL));
    return STATUS_OK;
}

static status draw_image(bench *b, int height, int width) {
    synth_scene scene;
    RETURN_IF_ERROR(room_for_images(b, 1));
    RETURN_IF_ERROR(synth_scene_draw(&scene, 1, 1, height, width));
    b->images[0] = (image_buffer){.pixels = scene.pixels,
                                  .capacity = (size_t)height * (size_t)width * 3,
                                  .height = height,
                                  .width = width};
    scene.pixels = NULL;
    synth_scene_release(&scene);
    return STATUS_OK;
}

/* One prediction: milliseconds of its stages, and those of all of it. */
static status predict(bench *b, detector *d, detection_list *found, int i, double ms[DETECTOR_STAGES + 1]) {
    const image_buffer *image = &b->images[i % b->image_count];
    double start = clock_seconds();
    RETURN_IF_ERROR(detector_run(d, found, image->pixels, image->height, image->width));
    ms[DETECTOR_STAGES] = 1e3 * (clock_seconds() - start);
    memcpy(ms, detector_stage_ms(d), DETECTOR_STAGES * sizeof *ms);
    return STATUS_OK;
}

static status iterate(result *r, bench *b, detector *d, detection_list *found, stage_times *times) {
    const predict_bench_job *job = b->job;
    double ms[DETECTOR_STAGES + 1];
    for (int i = 0; i < job->warmup + job->iterations; i++) {
        RETURN_IF_ERROR(predict(b, d, found, i, ms));
        if (i < job->warmup) continue;
        RETURN_IF_ERROR(stage_times_add(times, ms));
        r->detections += (double)found->count / job->iterations;
    }
    for (int i = 0; i < DETECTOR_STAGES; i++) r->stage_ms[i] = stage_times_mean(times, i);
    r->step_ms = stage_times_mean(times, DETECTOR_STAGES);
    r->step_ms_p90 = stage_times_percentile(times, DETECTOR_STAGES, 90);
    r->memory = detector_memory(d);
    return STATUS_OK;
}

static void describe_sizes(result *r, const bench *b) {
    r->height = r->resized_height = b->images[0].height;
    r->width = r->resized_width = b->images[0].width;
    if (b->spec.short_edge > 0)
        resize_rule_apply(&r->resized_height, &r->resized_width, b->spec.rule, r->height, r->width,
                          b->spec.short_edge, b->spec.max_size);
}

/* All predictions of the images there are. */
static status measure(bench *b) {
    result *r = &b->results[b->result_count];
    const char *names[DETECTOR_STAGES + 1] = {[DETECTOR_STAGES] = "step"};
    memcpy(names, detector_stage_names, sizeof detector_stage_names);
    describe_sizes(r, b);
    const image_buffer *first = &b->images[0];
    if (!b->job->cfg->MODEL_WEIGHTS[0])
        RETURN_IF_ERROR(random_model_lower_threshold(&b->spec, &b->model, b->dev, first->pixels,
                                                     first->height, first->width));
    r->score_threshold = b->spec.score_threshold;
    detector *d;
    detection_list found = {0};
    stage_times times;
    RETURN_IF_ERROR(detector_new(&d, &b->model, b->dev, &b->spec));
    stage_times_init(&times, names, DETECTOR_STAGES + 1);
    status s = iterate(r, b, d, &found, &times);
    stage_times_release(&times);
    detection_list_release(&found);
    detector_free(d);
    b->result_count += s == STATUS_OK;
    return s;
}

static status measure_all(bench *b) {
    const predict_bench_job *job = b->job;
    if (job->images && job->images->count > 0) {
        RETURN_IF_ERROR(read_images(b));
        return measure(b);
    }
    if (job->size_count == 0) {
        RETURN_IF_ERROR(draw_image(b, DEFAULT_HEIGHT, DEFAULT_WIDTH));
        return measure(b);
    }
    b->spec.short_edge = 0;
    for (int i = 0; i < job->size_count; i++) {
        release_images(b);
        RETURN_IF_ERROR(draw_image(b, job->sizes[i].height, job->sizes[i].width));
        RETURN_IF_ERROR(measure(b));
    }
    return STATUS_OK;
}

/* ---- results ---------------------------------------------------------------------------------------------- */

static void write_size(json_writer *w, const char *key, int height, int width) {
    json_write_key(w, key);
    json_write_begin_array(w);
    json_write_i64(w, height);
    json_write_i64(w, width);
    json_write_end_array(w);
}

static void write_stages(json_writer *w, const result *r) {
    const double *ms = r->stage_ms;
    json_write_key(w, "stages_ms");
    json_write_begin_object(w);
    json_output_f64(w, "preprocess", ms[DETECTOR_PREPROCESS]);
    json_output_f64(w, "backbone", ms[DETECTOR_BACKBONE]);
    json_output_f64(w, "rpn", ms[DETECTOR_RPN]);
    json_output_f64(w, "roi", ms[DETECTOR_BOX] + ms[DETECTOR_MASK_FORWARD]);
    json_output_f64(w, "mask_post", ms[DETECTOR_MASK_POST]);
    json_write_end_object(w);
    json_write_key(w, "stages_detail_ms");
    json_write_begin_object(w);
    for (int i = 0; i < DETECTOR_STAGES; i++) {
        char key[32];
        snprintf(key, sizeof key, "%s", detector_stage_names[i]);
        if (strchr(key, ' ')) *strchr(key, ' ') = '_';
        json_output_f64(w, key, ms[i]);
    }
    json_write_end_object(w);
}

/* Into an open object. */
static void write_result(json_writer *w, const bench *b, const result *r) {
    json_output_f64(w, "img_per_s", 1e3 / r->step_ms);
    json_output_f64(w, "step_ms", r->step_ms);
    json_output_f64(w, "step_ms_p90", r->step_ms_p90);
    write_stages(w, r);
    write_size(w, "image", r->height, r->width);
    write_size(w, "resized", r->resized_height, r->resized_width);
    json_output_f64(w, "detections", r->detections);
    json_output_f64(w, "score_threshold", r->score_threshold);
    json_write_key(w, "raw_masks"), json_write_bool(w, b->spec.raw_masks);
    json_output_f64(w, "memory_mib", (double)r->memory / 0x1p20);
}

static void print_result(const result *r) {
    printf(
        "\nimage of %dx%d, resized to %dx%d: %.2f img/s, %.1f detections above a score of %.4f, %.0f MiB\n",
        r->height, r->width, r->resized_height, r->resized_width, 1e3 / r->step_ms, r->detections,
        r->score_threshold, (double)r->memory / 0x1p20);
    printf("%-14s %10s %7s\n", "stage", "mean ms", "%");
    for (int i = 0; i < DETECTOR_STAGES; i++)
        printf("%-14s %10.2f %7.1f\n", detector_stage_names[i], r->stage_ms[i],
               100 * r->stage_ms[i] / r->step_ms);
    printf("%-14s %10.2f   (90 %% within %.2f)\n", "step", r->step_ms, r->step_ms_p90);
}

static status tell(const bench *b) {
    const predict_bench_job *job = b->job;
    machine m;
    json_writer w;
    machine_describe(&m, b->dev);
    machine_print(&m, stdout);
    json_write_init(&w);
    json_write_begin_object(&w);
    write_result(&w, b, &b->results[0]);
    json_write_key(&w, "warmup"), json_write_i64(&w, job->warmup);
    write_size(&w, "iterations", job->warmup, job->warmup + job->iterations - 1);
    json_write_key(&w, "device"),
        json_write_string(&w, device_get_kind(b->dev) == DEVICE_CPU ? "cpu" : "cuda");
    json_output_text(&w, "precision", setup_precision_name(&b->precision));
    json_write_key(&w, "sizes");
    json_write_begin_array(&w);
    for (int i = 0; i < b->result_count; i++) {
        print_result(&b->results[i]);
        json_write_begin_object(&w);
        write_result(&w, b, &b->results[i]);
        json_write_end_object(&w);
    }
    json_write_end_array(&w);
    machine_write_json(&w, &m);
    json_output_f64(&w, "peak_rss_mib", (double)host_memory_peak() / 0x1p20);
    json_write_end_object(&w);
    status s = json_output_write(job->json, &w);
    json_write_release(&w);
    return s;
}

/* ---- running ---------------------------------------------------------------------------------------------- */

static status run_on_device(bench *b) {
    const config *cfg = b->job->cfg;
    RETURN_IF_ERROR(setup_precision(&b->precision, cfg, b->dev));
    RETURN_IF_ERROR(setup_model(&b->model, cfg, b->dev, false, cfg->MODEL_WEIGHTS, NULL, WEIGHTS_EXACT));
    if (!cfg->MODEL_WEIGHTS[0]) random_model_calm(&b->model, cfg);
    detector_spec_from_config(&b->spec, cfg);
    b->spec.raw_masks = b->job->raw_masks;
    RETURN_IF_ERROR(measure_all(b));
    return tell(b);
}

status predict_bench_run(const predict_bench_job *job) {
    bench b = {.job = job};
    RETURN_IF_ERROR(json_output_check(job->json));
    thread_pool_start(setup_thread_count(job->cfg, 1));
    status s = setup_device(&b.dev, job->cfg, 0);
    if (s == STATUS_OK) s = run_on_device(&b);
    release_images(&b);
    mask_rcnn_release(&b.model);
    if (b.dev) device_close(b.dev);
    thread_pool_stop();
    return s;
}
