#include "evaluate/evaluate.h"

#include "base/clock.h"
#include "base/file_util.h"
#include "base/log.h"
#include "infer/detector.h"
#include "evaluate/evaluate_pictures.h"
#include "record/metrics.h"
#include "setup/model_config.h"
#include "evaluate/test_results.h"
#include "evaluate/validation_loss.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double seconds_between_progress = 5.0;

/* One evaluation under way. */
typedef struct job {
    mask_rcnn *model;
    const config *cfg;
    comm *c;
    device *dev;
    detector *detect;
    detection_list found;
} job;

/* One set of it. */
typedef struct set_job {
    job *job;
    const test_set *set;
    evaluation_set *out;
    test_results results;
    validation_loss losses;
    evaluate_pictures pictures;
    double start, last_progress;
} set_job;

static bool is_first(const job *j) {
    return comm_rank(j->c) == 0;
}

/* Letters, digits, '.', '-' and '_' of a data set's name. */
static void folder_name(char out[128], const char *name, int number) {
    size_t length = strlen(name), first = length > 100 ? length - 100 : 0;
    int at = snprintf(out, 128, "%d_", number);
    for (size_t i = first; i < length; i++) {
        unsigned char c = (unsigned char)name[i];
        out[at++] = isalnum(c) || strchr("._-", c) ? (char)c : '_';
    }
    out[at] = '\0';
}

/* Where the results of a set go; makes the folder. Sets that share a name keep apart by their number. */
static status place_results(char path[PATH_MAX], const config *cfg, const test_data *data, int number) {
    char folder[PATH_MAX], name[128];
    const char *set = data->sets[number].name;
    if (data->count == 1) {
        RETURN_IF_ERROR(make_directories(cfg->OUTPUT_DIR));
        return path_join(path, cfg->OUTPUT_DIR, "coco_instances_results.json");
    }
    bool is_plain = strlen(set) <= 100 && strpbrk(set, "/\\:") == NULL && set[0] != '.';
    for (int i = 0; i < number; i++) is_plain = is_plain && strcmp(set, data->sets[i].name) != 0;
    folder_name(name, set, number + 1);
    RETURN_IF_ERROR(path_join(folder, cfg->OUTPUT_DIR, "inference"));
    RETURN_IF_ERROR(path_join(path, folder, is_plain ? set : name));
    RETURN_IF_ERROR(make_directories(path));
    memcpy(folder, path, sizeof folder);
    return path_join(path, folder, "coco_instances_results.json");
}

/* --- detecting ----------------------------------------------------------------------------------------------------- */

static void log_progress(set_job *s, int64_t done) {
    double now = clock_seconds();
    if (!is_first(s->job) || now - s->last_progress < seconds_between_progress) return;
    s->last_progress = now;
    int64_t of_all = done * comm_size(s->job->c); /* the others are about as far */
    if (of_all >= s->out->images) return;
    double speed = (double)of_all / (now - s->start);
    char eta[48];
    metrics_format_duration(eta, (double)(s->out->images - of_all) / speed);
    log_info("evaluation", "%s: %" PRId64 " of %" PRId64 " images, %.3f img/s, eta: %s", s->out->name, of_all,
             s->out->images, speed, eta);
}

static status validate(set_job *s, const loader_batch *batch) {
    const loader_sample *sample = &batch->samples[0];
    if (!s->job->cfg->TEST_VALIDATION_LOSS || !sample->pixels) return STATUS_OK;
    if (s->job->cfg->DATALOADER_FILTER_EMPTY_ANNOTATIONS && sample->objects == 0) return STATUS_OK;
    return validation_loss_add(&s->losses, batch, s->set->set);
}

static status detect_in(set_job *s, const loader_batch *batch) {
    const loader_sample *sample = &batch->samples[0];
    job *j = s->job;
    if (!sample->pixels) return test_results_add_bad(&s->results, sample->cause);
    status result = detector_run(j->detect, &j->found, sample->pixels, sample->height, sample->width);
    if (result != STATUS_OK) return error_prefix(result, "%s", sample->file_name);
    evaluate_pictures_draw(&s->pictures, sample, &j->found);
    RETURN_IF_ERROR(test_results_add(&s->results, sample->image_id, &j->found, &s->set->map));
    return validate(s, batch);
}

/* This rank's share: images rank, rank + ranks, ... */
static status detect_all(set_job *s) {
    loader *l = s->set->load;
    if (!l) return STATUS_OK;
    int ranks = comm_size(s->job->c);
    RETURN_IF_ERROR(loader_start_at(l, 0));
    int64_t done = 0;
    for (int64_t image = comm_rank(s->job->c); image < s->out->images; image += ranks) {
        loader_batch batch;
        RETURN_IF_ERROR(loader_next(l, &batch));
        status result = detect_in(s, &batch);
        loader_release_batch(l);
        RETURN_IF_ERROR(result);
        log_progress(s, ++done);
    }
    return STATUS_OK;
}

/* --- what comes after ---------------------------------------------------------------------------------------------- */

/* Means over the images of all ranks. */
static void share_losses(set_job *s) {
    double sums[LOSS_COUNT + 1];
    memcpy(sums, s->losses.sums, sizeof sums);
    comm_host_sum_f64(s->job->c, sums, LOSS_COUNT + 1);
    evaluation_set *out = s->out;
    out->validated_images = (int64_t)sums[LOSS_COUNT];
    for (int i = 0; i < LOSS_COUNT && out->validated_images > 0; i++) {
        out->losses[i] = sums[i] / sums[LOSS_COUNT];
        out->validation_loss += out->losses[i];
    }
}

static coco_eval_options scoring_options(const config *cfg) {
    coco_eval_options options = coco_eval_defaults;
    options.types[COCO_IOU_BBOX] = true;
    options.types[COCO_IOU_SEGM] = cfg->MODEL_MASK_ON;
    for (int i = 0; i < COCO_LIMITS; i++) options.max_detections[i] = (uint32_t)cfg->TEST_MAX_DETS.values[i];
    options.detections_per_image = (uint32_t)cfg->TEST_DETECTIONS_PER_IMAGE;
    options.skip_unusable = true; /* an object without a mask is no reason to lose all numbers */
    return options;
}

/* Where only masks are wrong, boxes can be evaluated. */
static status check_truth(const coco_truth *truth, const config *cfg) {
    coco_eval_options options = scoring_options(cfg);
    status s = coco_eval_check(truth, &options);
    if (s != STATUS_DATA || !cfg->MODEL_MASK_ON) return s;
    char cause[1024], remedy[512]; /* the second check may put others in their place */
    snprintf(cause, sizeof cause, "%s", error_cause());
    snprintf(remedy, sizeof remedy, "%s", error_remedy());
    options.types[COCO_IOU_SEGM] = false;
    bool boxes = coco_eval_check(truth, &options) == STATUS_OK;
    return error_set(s,
                     boxes ? "give segmentations, or evaluate boxes only with MODEL.MASK_ON False" : remedy,
                     "%s", cause);
}

status evaluate_check(const test_data *data, const config *cfg) {
    for (int i = 0; i < data->count; i++) {
        coco_truth *truth;
        RETURN_IF_ERROR(coco_truth_open(&truth, test_set_annotations(&data->sets[i])));
        status s = check_truth(truth, cfg);
        coco_truth_free(truth);
        RETURN_IF_ERROR(s);
    }
    return STATUS_OK;
}

static status score(set_job *s) {
    coco_eval_options options = scoring_options(s->job->cfg);
    coco_truth *truth;
    RETURN_IF_ERROR(coco_truth_open(&truth, test_set_annotations(s->set)));
    if (s->out->is_proposals) {
        status found = proposal_recall_results(&s->out->recall, truth, s->out->results, &options);
        coco_truth_free(truth);
        return found;
    }
    status result = coco_eval_results(s->out->scores, truth, s->out->results, &options);
    s->out->has_masks = result == STATUS_OK && options.types[COCO_IOU_SEGM];
    coco_truth_free(truth);
    return result;
}

static status prepare_set(set_job *s, const test_data *data, int number, const evaluate_options *options) {
    job *j = s->job;
    RETURN_IF_ERROR(place_results(s->out->results, j->cfg, data, number));
    if (j->cfg->TEST_VALIDATION_LOSS && s->set->load)
        RETURN_IF_ERROR(validation_loss_init(&s->losses, j->model, j->dev, s->set->load));
    int pictures = number == 0 && is_first(j) ? options->pictures : 0;
    evaluate_pictures_begin(&s->pictures, j->cfg, s->set, pictures, comm_size(j->c));
    return STATUS_OK;
}

static status run_set(set_job *s, const test_data *data, int number, const evaluate_options *options) {
    job *j = s->job;
    evaluation_set *out = s->out;
    RETURN_IF_ERROR(comm_agree(j->c, prepare_set(s, data, number, options)));
    s->start = s->last_progress = clock_seconds();
    RETURN_IF_ERROR(comm_agree(j->c, detect_all(s)));
    out->seconds = clock_seconds() - s->start;
    share_losses(s);
    status result = test_results_write(&out->bad_images, &s->results, j->c, out->images, out->results);
    if (result == STATUS_OK && is_first(j)) {
        log_info("evaluation", "%s: %" PRId64 " images in %.1f s on %d rank%s, %.3f img/s; results in %s",
                 out->name, out->images, out->seconds, comm_size(j->c), comm_size(j->c) == 1 ? "" : "s",
                 out->seconds > 0 ? (double)out->images / out->seconds : 0.0, out->results);
        result = score(s);
    }
    return comm_agree(j->c, result);
}

static status evaluate_set(job *j, evaluation_set *out, const test_data *data, int number,
                           const evaluate_options *options) {
    set_job s = {.job = j, .set = &data->sets[number], .out = out};
    out->name = s.set->name;
    out->is_proposals = j->model->spec.rpn_only;
    out->images = dataset_image_count(s.set->set);
    test_results_init(&s.results);
    status result = run_set(&s, data, number, options);
    evaluate_pictures_end(&s.pictures);
    validation_loss_release(&s.losses);
    test_results_release(&s.results);
    return result;
}

static status open_detector(job *j) {
    detector_spec spec;
    detector_spec_from_config(&spec, j->cfg);
    return detector_new(&j->detect, j->model, j->dev, &spec);
}

status evaluate_model(evaluation *out, mask_rcnn *model, test_data *data, const config *cfg, comm *c,
                      device *dev, const evaluate_options *options) {
    job j = {.model = model, .cfg = cfg, .c = c, .dev = dev};
    *out = (evaluation){.iteration = options->iteration};
    out->sets = calloc((size_t)data->count + 1, sizeof *out->sets);
    status s = out->sets ? open_detector(&j)
                         : error_set(STATUS_OS, "free some memory", "out of memory for the scores");
    s = comm_agree(c, s);
    for (int i = 0; i < data->count && s == STATUS_OK; i++) {
        out->count++;
        s = evaluate_set(&j, &out->sets[i], data, i, options);
    }
    detector_free(j.detect);
    detection_list_release(&j.found);
    return s;
}

void evaluation_release(evaluation *e) {
    for (int i = 0; i < e->count; i++)
        for (int type = 0; type < COCO_IOU_TYPES; type++) coco_scores_release(&e->sets[i].scores[type]);
    free(e->sets);
    *e = (evaluation){0};
}
