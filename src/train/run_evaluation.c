#include "train/run_evaluation.h"

#include "base/log.h"
#include "evaluate/evaluation_report.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* An RPN alone has no AP. */
static const char *number_to_keep(const config *cfg) {
    const char *name = cfg->TEST_KEEP_BEST;
    if (cfg->DATASETS_TEST.count == 0) return "";
    bool is_ap = strncmp(name, "bbox/", 5) == 0 || strncmp(name, "segm/", 5) == 0;
    return is_ap && !config_has_roi_heads(cfg) ? "box_proposals/AR@1000" : name;
}

status run_evaluation_open(run_evaluation *r, const config *cfg, const rank_env *env) {
    *r = (run_evaluation){.cfg = cfg, .best = {.iteration = -1}};
    snprintf(r->best.number, sizeof r->best.number, "%s", number_to_keep(cfg));
    return test_data_open(&r->data, cfg, env);
}

void run_evaluation_close(run_evaluation *r) {
    test_data_close(&r->data);
}

status run_evaluation_prepare(run_evaluation *r, mask_rcnn *model, device *dev, comm *c,
                              const weights_classes *classes) {
    r->model = model;
    r->dev = dev;
    r->c = c;
    RETURN_IF_ERROR(
        test_data_map_classes(&r->data, mask_rcnn_labels(&model->spec), classes, "DATASETS.TRAIN"));
    return comm_rank(c) == 0 ? evaluate_check(&r->data, r->cfg) : STATUS_OK;
}

void run_evaluation_resume(run_evaluation *r, const checkpoint_best *best) {
    if (!r->best.number[0] || !best->number[0]) return;
    if (strcmp(best->number, r->best.number) == 0)
        r->best = *best;
    else
        log_info("evaluation", "the best checkpoint so far was chosen by %s; from here on it is by %s",
                 best->number, r->best.number);
}

bool run_evaluation_is_due(const run_evaluation *r, int64_t done, bool last) {
    int64_t period = r->cfg->TEST_EVAL_PERIOD;
    return r->data.count > 0 && (last || (period > 0 && done % period == 0));
}

bool run_evaluation_is_exhausted(const run_evaluation *r, char reason[256]) {
    int64_t patience = r->cfg->TEST_PATIENCE;
    if (patience == 0 || r->data.count == 0 || r->best.since < patience) return false;
    int at = snprintf(reason, 256, "stopped early: %" PRId64 " evaluations in a row without a better %s",
                      r->best.since, r->best.number);
    if (r->best.iteration >= 0)
        snprintf(reason + at, 256 - (size_t)at, " than %.6g after iteration %" PRId64, r->best.value,
                 r->best.iteration);
    return true;
}

/* A loss is better when it is smaller. */
static bool is_better(const checkpoint_best *best, double value) {
    if (best->iteration < 0) return true;
    return strcmp(best->number, "validation_loss") == 0 ? value < best->value : value > best->value;
}

/* Rank 0 decides. */
static bool note_best(checkpoint_best *best, const evaluation *e) {
    double value;
    if (!best->number[0]) return false;
    if (!evaluation_number(&value, e, best->number) || !isfinite(value) || !is_better(best, value)) {
        best->since++;
        return false;
    }
    best->value = value;
    best->iteration = e->iteration;
    best->since = 0;
    log_info("evaluation", "best %s so far: %.6g after iteration %" PRId64, best->number, value,
             e->iteration);
    return true;
}

static void report(const run_evaluation *r, const evaluation *e, metrics *log) {
    evaluation_print(e);
    evaluation_add_scalars(e, log);
    if (evaluation_append(e, r->cfg->OUTPUT_DIR) == STATUS_OK) return;
    log_warn("evaluation", "%s; training goes on", error_cause());
    error_clear();
}

/* The ranks agree on a failure, but one of them knows the cause: it tells the others. */
static void keep_failure(run_evaluation *r, status failure) {
    struct {
        char cause[1024], remedy[512];
    } said;
    memset(&said, 0, sizeof said);
    snprintf(said.cause, sizeof said.cause, "%s", error_cause());
    snprintf(said.remedy, sizeof said.remedy, "%s", error_remedy());
    error_clear();
    int ranks = comm_size(r->c);
    int32_t speaker = said.cause[0] ? ranks - comm_rank(r->c) : 0; /* the lowest rank that knows */
    comm_allreduce_max_i32(r->c, &speaker, 1);
    comm_broadcast(r->c, &said, sizeof said, speaker > 0 ? ranks - speaker : 0);
    r->failure = failure;
    snprintf(r->cause, sizeof r->cause, "evaluation: %.1000s",
             said.cause[0] ? said.cause : status_text(failure));
    snprintf(r->remedy, sizeof r->remedy, "%s", said.remedy);
    log_warn("evaluation", "no scores: %s; training goes on", r->cause);
}

void run_evaluation_run(run_evaluation *r, bool *improved, int64_t iteration, bool last, metrics *log) {
    evaluation found;
    evaluate_options options = {.iteration = iteration, .pictures = last ? (int)r->cfg->TEST_PICTURES : 0};
    struct {
        checkpoint_best best;
        bool improved;
    } news;
    memset(&news, 0, sizeof news);
    status s = evaluate_model(&found, r->model, &r->data, r->cfg, r->c, r->dev, &options);
    r->failure = STATUS_OK;
    *improved = false;
    if (s != STATUS_OK) {
        keep_failure(r, s);
    } else {
        if (comm_rank(r->c) == 0) {
            report(r, &found, log);
            news.improved = note_best(&r->best, &found);
            news.best = r->best;
        }
        comm_broadcast(r->c, &news, sizeof news, 0);
        r->best = news.best;
        *improved = news.improved;
    }
    evaluation_release(&found);
}

status run_evaluation_report_failure(const run_evaluation *r) {
    return r->failure == STATUS_OK ? STATUS_OK : error_set(r->failure, r->remedy, "%s", r->cause);
}
