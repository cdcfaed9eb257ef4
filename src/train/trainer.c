#include "train/trainer.h"

#include "base/check.h"
#include "base/content_hash.h"
#include "base/file_util.h"
#include "base/log.h"
#include "report/run_report.h"
#include "train/checkpoint.h"
#include "evaluate/evaluation_report.h"
#include "record/metrics.h"
#include "train/run_evaluation.h"
#include "record/run_status.h"
#include "train/train_job.h"

#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct trainer {
    config *cfg;
    const trainer_options *options;
    train_job job;
    metrics *log;    /* rank 0 only */
    op_table *times; /* with options->times */
    run_evaluation tests;
    bool stopped_early;
    char stop_reason[256];
    char checkpoint[PATH_MAX];        /* --resume goes on from it; "" starts anew */
    int64_t iteration;                /* the next one to run */
    checkpoint_loss_scale loss_scale; /* that a resume goes on with */
    int64_t skipped_before;           /* images replaced before a resume */
    int64_t skipped_images;           /* by all ranks in all */
} trainer;

static bool is_first(const trainer *t) {
    return t->job.env.rank == 0;
}

/* run_status.json, with the checkpoint that OUTPUT_DIR/last_checkpoint names. */
static status note_state(const trainer *t, run_state state, const char *reason) {
    char path[PATH_MAX], *name = NULL;
    size_t size;
    RETURN_IF_ERROR(path_join(path, t->cfg->OUTPUT_DIR, "last_checkpoint"));
    if (read_file(&name, &size, path, PATH_MAX) == STATUS_OK)
        name[strcspn(name, "\n")] = '\0';
    else
        error_clear(); /* there is none so far */
    status s = run_status_write(t->cfg->OUTPUT_DIR, state, t->iteration, name, reason);
    free(name);
    return s;
}

/* OUTPUT_DIR/report.html, by the first rank. A run is as good without it. */
static void write_report(const trainer *t, bool warn) {
    if (!is_first(t)) return;
    const char *folder = t->cfg->OUTPUT_DIR;
    if (run_report_write(folder, NULL) == STATUS_OK)
        log_info("report", "wrote %s/report.html", folder);
    else if (warn)
        log_warn("report", "no report of this run: %s", error_cause());
    error_clear();
}

/* The run's end for scripts and readers; the error that is under way stays the one that is reported. */
static void note_failure(const trainer *t, status failure) {
    char cause[1024], remedy[1024];
    snprintf(cause, sizeof cause, "%s", error_cause());
    snprintf(remedy, sizeof remedy, "%s", error_remedy());
    note_state(t, RUN_FAILED, cause[0] ? cause : status_text(failure)); /* another rank has the cause */
    write_report(t, false);
    if (cause[0])
        error_set(STATUS_INTERNAL, remedy, "%s", cause);
    else
        error_clear();
}

/* For a failure between two collective calls: the other ranks do not know of it and would wait for ever. */
static status fail_alone(const trainer *t, status failure) {
    if (t->job.env.size == 1) return failure;
    note_failure(t, failure);
    rank_env_report_error(&t->job.env);
    comm_abort(t->job.c, (int)failure);
}

/* --- preparing ----------------------------------------------------------------------------------------------------- */

/* Finds what --resume goes on from. A run without a SEED of its own takes that of the checkpoint. */
static status find_checkpoint(trainer *t) {
    checkpoint_state state;
    char seed[32];
    RETURN_IF_ERROR(checkpoint_find_latest(t->checkpoint, t->cfg->OUTPUT_DIR));
    if (!t->checkpoint[0]) {
        log_info("checkpoint", "--resume: no checkpoint in %s yet, starting at iteration 0",
                 t->cfg->OUTPUT_DIR);
        return STATUS_OK;
    }
    if (t->cfg->SEED >= 0) return STATUS_OK;
    RETURN_IF_ERROR(checkpoint_read_state(&state, t->checkpoint));
    snprintf(seed, sizeof seed, "%" PRIu64, state.seed);
    return config_set(t->cfg, "SEED", seed);
}

static status prepare_before_mpi(trainer *t) {
    config *cfg = t->cfg;
    train_job *job = &t->job;
    RETURN_IF_ERROR(train_job_init(job, cfg));
    if (t->options->resume) RETURN_IF_ERROR(find_checkpoint(t));
    RETURN_IF_ERROR(train_job_plan(job));
    if (is_first(t)) RETURN_IF_ERROR(make_directories(cfg->OUTPUT_DIR));
    log_info("train", "%d rank%s, %" PRId64 " images per iteration, seed %" PRId64, job->env.size,
             job->env.size == 1 ? "" : "s", cfg->SOLVER_IMS_PER_BATCH, cfg->SEED);
    RETURN_IF_ERROR(train_data_open(&job->data, cfg, &job->env));
    return run_evaluation_open(&t->tests, cfg, &job->env);
}

static status write_config(const trainer *t) {
    char path[PATH_MAX];
    if (!is_first(t)) return STATUS_OK;
    RETURN_IF_ERROR(path_join(path, t->cfg->OUTPUT_DIR, "config.yaml"));
    return config_write_yaml(t->cfg, path);
}

static status prepare_output(trainer *t) {
    char path[PATH_MAX];
    const char *folder = t->cfg->OUTPUT_DIR;
    RETURN_IF_ERROR(path_join(path, folder, "log.txt"));
    RETURN_IF_ERROR(log_open(path));
    if (!is_first(t)) return STATUS_OK;
    if (!t->checkpoint[0]) RETURN_IF_ERROR(write_config(t));
    if (!t->options->resume) RETURN_IF_ERROR(checkpoint_set_aside(folder));
    RETURN_IF_ERROR(checkpoint_prepare(folder));
    return note_state(t, RUN_STARTING, NULL);
}

/* Keys of evaluation, and others that change no weights. */
static bool is_free_key(int key) {
    static const int free_keys[] = {CONFIG_KEY_OUTPUT_DIR,
                                    CONFIG_KEY_DATALOADER_NUM_WORKERS,
                                    CONFIG_KEY_CPU_THREADS,
                                    CONFIG_KEY_MODEL_WEIGHTS,
                                    CONFIG_KEY_SOLVER_CHECKPOINT_PERIOD,
                                    CONFIG_KEY_SOLVER_LOG_PERIOD,
                                    CONFIG_KEY_SOLVER_CHECKPOINT_KEEP,
                                    CONFIG_KEY_CUDA_GRAPH};
    for (size_t i = 0; i < sizeof free_keys / sizeof free_keys[0]; i++)
        if (free_keys[i] == key) return true;
    const char *help = config_keys[key].help;
    return strncmp(config_keys[key].name, "TEST.", 5) == 0 || (help && strstr(help, "(evaluation)"));
}

/* A digest of every key that a bit-exact continuation depends on. */
static void digest_config(char digest[17], config *cfg) {
    content_hash hash;
    content_hash_init(&hash);
    for (int key = 0; key < CONFIG_KEY_COUNT; key++) {
        const char *value = is_free_key(key) ? NULL : config_format(cfg, key);
        if (!value) continue;
        content_hash_update(&hash, config_keys[key].name, strlen(config_keys[key].name) + 1);
        content_hash_update(&hash, value, strlen(value) + 1);
    }
    snprintf(digest, 17, "%016" PRIx64, content_hash_digest(&hash));
}

static status resume(trainer *t) {
    const char *path = t->checkpoint;
    char digest[17];
    checkpoint_state state;
    RETURN_IF_ERROR(checkpoint_load(&t->job.model.params, &state, path, t->cfg, &t->job.data.classes));
    digest_config(digest, t->cfg);
    if (strcmp(digest, state.config_digest) != 0)
        log_warn(
            "checkpoint",
            "%s was made with another configuration: the run goes on, but not as the first one would have",
            path);
    if (state.seed != (uint64_t)t->cfg->SEED)
        return error_set(STATUS_CONFIG, "set SEED to the checkpoint's",
                         "SEED is %" PRId64 ", but %s was made with seed %" PRIu64, t->cfg->SEED, path,
                         state.seed);
    t->iteration = state.iteration + 1;
    t->loss_scale = state.loss_scale;
    t->skipped_before = state.skipped_images;
    run_evaluation_resume(&t->tests, &state.best);
    log_info("checkpoint", "resumed from %s: next is iteration %" PRId64, path, t->iteration);
    if (t->iteration >= t->cfg->SOLVER_MAX_ITER)
        log_warn("checkpoint", "nothing left to do: SOLVER.MAX_ITER is %" PRId64, t->cfg->SOLVER_MAX_ITER);
    return STATUS_OK;
}

static status prepare_steps(trainer *t) {
    step_queue_spec wishes = {.same_canvas = t->options->deterministic,
                              .trace_shapes = t->options->trace_shapes,
                              .measure = t->options->times};
    RETURN_IF_ERROR(train_job_start_steps(&t->job, &wishes, t->iteration));
    if (t->loss_scale.scale <= 0) return STATUS_OK;
    float state[GRADIENT_STATE_SIZE] = {[GRADIENT_STATE_SCALE] = (float)t->loss_scale.scale,
                                        [GRADIENT_STATE_GOOD] = (float)t->loss_scale.good_steps,
                                        [GRADIENT_STATE_SKIPPED] = (float)t->loss_scale.skipped_steps};
    optimizer_write_state(step_queue_optimizer(t->job.steps), state);
    return STATUS_OK;
}

static status prepare_model(trainer *t) {
    config *cfg = t->cfg;
    RETURN_IF_ERROR(prepare_output(t));
    /* What a checkpoint replaces need not be there any more. */
    RETURN_IF_ERROR(train_job_start_model(&t->job, t->checkpoint[0] ? NULL : cfg->MODEL_WEIGHTS));
    if (t->checkpoint[0]) {
        RETURN_IF_ERROR(resume(t));
        RETURN_IF_ERROR(write_config(t)); /* not before: a refused one would replace the run's own */
    }
    RETURN_IF_ERROR(
        run_evaluation_prepare(&t->tests, &t->job.model, t->job.dev, t->job.c, &t->job.data.classes));
    RETURN_IF_ERROR(prepare_steps(t));
    if (!is_first(t)) return STATUS_OK;
    metrics_options log = {.output_dir = cfg->OUTPUT_DIR,
                           .loss_names = loss_names + mask_rcnn_first_loss(&t->job.model.spec),
                           .loss_count = LOSS_COUNT - mask_rcnn_first_loss(&t->job.model.spec),
                           .start_iteration = t->iteration,
                           .max_iterations = cfg->SOLVER_MAX_ITER,
                           .log_period = cfg->SOLVER_LOG_PERIOD,
                           .images_per_batch = cfg->SOLVER_IMS_PER_BATCH,
                           .ranks = t->job.env.size};
    RETURN_IF_ERROR(metrics_open(&t->log, &log));
    RETURN_IF_ERROR(evaluation_cut(cfg->OUTPUT_DIR, t->iteration));
    return note_state(t, RUN_RUNNING, NULL);
}

/* --- one iteration ------------------------------------------------------------------------------------------------- */

/* What a rank knows of a step that went wrong. */
enum { CULPRIT_SIZE = 256, MAX_NAMED_IMAGES = 64 };
typedef struct culprit {
    char tensor[CULPRIT_SIZE]; /* first bad output of the forward pass; "" if all were finite */
    int64_t images[MAX_NAMED_IMAGES];
    int32_t count;
} culprit;

/* All ranks come here in the same iteration: the losses and gradients they looked at are the same everywhere. */
static status stop_non_finite(trainer *t, const step_report *r) {
    culprit mine = {.count = (int32_t)(t->cfg->SOLVER_IMS_PER_BATCH / t->job.env.size)};
    if (mine.count > MAX_NAMED_IMAGES) mine.count = MAX_NAMED_IMAGES;
    memcpy(mine.images, r->image_ids, (size_t)mine.count * sizeof *mine.images);
    if (r->graph && device_is_host_accessible(t->job.dev))
        tape_find_non_finite(r->graph->t, mine.tensor, sizeof mine.tensor);
    culprit *all = calloc((size_t)t->job.env.size, sizeof *all);
    CHECK(all, "out of memory for a report");
    comm_gather(t->job.c, all, &mine, sizeof mine);
    char images[512] = "", where[CULPRIT_SIZE + 64] = "";
    for (int rank = 0; is_first(t) && rank < t->job.env.size; rank++) {
        for (int i = 0; i < all[rank].count; i++) {
            size_t at = strlen(images);
            snprintf(images + at, sizeof images - at, "%s%" PRId64, at ? ", " : "", all[rank].images[i]);
        }
        if (!where[0] && all[rank].tensor[0])
            snprintf(where, sizeof where, "%s on rank %d", all[rank].tensor, rank);
    }
    free(all);
    if (!where[0])
        snprintf(where, sizeof where, "gradient of %s",
                 r->gradients.non_finite ? r->gradients.non_finite : "no parameter");
    char losses[512] = "";
    for (int i = mask_rcnn_first_loss(&t->job.model.spec); i < LOSS_COUNT; i++) {
        size_t at = strlen(losses); /* losses are not negative, and a NaN's sign says nothing */
        snprintf(losses + at, sizeof losses - at, "%s%s %g", at ? ", " : "", loss_names[i],
                 fabs(r->losses[i]));
    }
    error_set(STATUS_NON_FINITE, NULL,
              "iteration %" PRId64
              ": not finite: total_loss %g (%s), lr %g; first bad tensor: %s; images: %s",
              r->iteration, fabs(r->total), losses, r->lr, where, images);
    error_set_remedy("lower SOLVER.BASE_LR (0.02 is for 16 images, this batch has %" PRId64
                     "), lengthen SOLVER.WARMUP_ITERS or set SOLVER.CLIP_GRADIENTS.ENABLED True; nothing "
                     "was updated, the last checkpoint is good",
                     t->cfg->SOLVER_IMS_PER_BATCH);
    return comm_agree(t->job.c, STATUS_NON_FINITE);
}

/* --- the loop ------------------------------------------------------------------------------------------------------ */

/* The best model so far under a name of its own; a failure is as bad as that of a checkpoint. */
static status save_best(const trainer *t, bool is_final) {
    char path[PATH_MAX];
    RETURN_IF_ERROR(path_join(path, t->cfg->OUTPUT_DIR, CHECKPOINT_BEST));
    status s = weights_save(path, &t->job.model.params, t->cfg, &t->job.data.classes, t->iteration);
    if (s == STATUS_OK || is_final) return s;
    log_warn("checkpoint", "%s; training goes on without it (%s)", error_cause(), error_remedy());
    error_clear();
    return STATUS_OK;
}

static status save(trainer *t, bool is_best, bool is_final) {
    if (!is_first(t)) return STATUS_OK;
    checkpoint_source source = {.store = &t->job.model.params,
                                .cfg = t->cfg,
                                .classes = &t->job.data.classes,
                                .keep = (int)t->cfg->SOLVER_CHECKPOINT_KEEP};
    checkpoint_state state = {.iteration = t->iteration,
                              .images = (t->iteration + 1) * t->cfg->SOLVER_IMS_PER_BATCH,
                              .skipped_images = t->skipped_images,
                              .seed = (uint64_t)t->cfg->SEED,
                              .best = t->tests.best};
    digest_config(state.config_digest, t->cfg);
    if (optimizer_loss_scale(step_queue_optimizer(t->job.steps))) {
        float scale[GRADIENT_STATE_SIZE];
        optimizer_read_state(step_queue_optimizer(t->job.steps), scale);
        state.loss_scale = (checkpoint_loss_scale){.scale = (double)scale[GRADIENT_STATE_SCALE],
                                                   .good_steps = (int64_t)scale[GRADIENT_STATE_GOOD],
                                                   .skipped_steps = (int64_t)scale[GRADIENT_STATE_SKIPPED]};
    }
    RETURN_IF_ERROR(checkpoint_save(&source, &state, is_final));
    return is_best ? save_best(t, is_final) : STATUS_OK;
}

static void log_step(trainer *t, const step_report *r) {
    if (!t->log) return;
    metrics_step step = {.iteration = r->iteration,
                         .lr = r->lr,
                         .grad_norm = r->gradients.norm,
                         .time = r->seconds,
                         .data_time = r->slowest_wait,
                         .rank_data_time = r->wait,
                         .skipped_images = t->skipped_images,
                         .loss_scale = r->gradients.loss_scale,
                         .skipped_steps = r->gradients.skipped_steps};
    int first = mask_rcnn_first_loss(&t->job.model.spec);
    memcpy(step.losses, r->losses + first, (size_t)(LOSS_COUNT - first) * sizeof *r->losses);
    metrics_add(t->log, &step);
}

/* What follows an iteration: evaluation first, so that the checkpoint knows whether it is the best. */
static status evaluate_and_save(trainer *t) {
    const config *cfg = t->cfg;
    int64_t done = t->iteration + 1;
    bool last = done == cfg->SOLVER_MAX_ITER, is_best = false;
    if (run_evaluation_is_due(&t->tests, done, last)) {
        run_evaluation_run(&t->tests, &is_best, t->iteration, last, t->log);
        t->stopped_early = !last && run_evaluation_is_exhausted(&t->tests, t->stop_reason);
    }
    last = last || t->stopped_early;
    if (!last && !is_best && done % cfg->SOLVER_CHECKPOINT_PERIOD != 0) return STATUS_OK;
    return comm_agree(t->job.c, save(t, is_best, last));
}

/* Whether what follows this iteration looks at the model, so that all reports must be good before. */
static bool is_boundary(const trainer *t) {
    int64_t done = t->iteration + 1;
    bool last = done == t->cfg->SOLVER_MAX_ITER;
    return last || done % t->cfg->SOLVER_CHECKPOINT_PERIOD == 0 ||
           run_evaluation_is_due(&t->tests, done, last);
}

static status take_reports(trainer *t, bool all) {
    step_report r;
    while (step_queue_take(t->job.steps, &r, all)) {
        t->skipped_images = t->skipped_before + r.skipped_images;
        if (r.gradients.is_stopped) return stop_non_finite(t, &r);
        if (r.gradients.is_skipped)
            log_info("train",
                     "iteration %" PRId64
                     ": gradients overflow at loss scale %g: not updated, the scale is halved",
                     r.iteration, r.gradients.loss_scale);
        log_step(t, &r);
        if (t->times) step_queue_tabulate(t->job.steps, &r, t->times, NULL, NULL);
    }
    return STATUS_OK;
}

static status train_loop(trainer *t) {
    if (t->iteration > 0) t->stopped_early = run_evaluation_is_exhausted(&t->tests, t->stop_reason);
    for (; t->iteration < t->cfg->SOLVER_MAX_ITER && !t->stopped_early; t->iteration++) {
        bool is_mine_alone;
        status s = step_queue_run(t->job.steps, t->iteration, &is_mine_alone);
        if (is_mine_alone) return fail_alone(t, s);
        RETURN_IF_ERROR(s);
        RETURN_IF_ERROR(take_reports(t, is_boundary(t)));
        RETURN_IF_ERROR(evaluate_and_save(t));
    }
    if (t->stopped_early) log_info("train", "%s", t->stop_reason);
    return STATUS_OK;
}

static status finish(trainer *t) {
    if (!is_first(t)) return STATUS_OK;
    char path[PATH_MAX];
    metrics_log_summary(t->log);
    RETURN_IF_ERROR(path_join(path, t->cfg->OUTPUT_DIR, "model_final.safetensors"));
    RETURN_IF_ERROR(weights_save(path, &t->job.model.params, t->cfg, &t->job.data.classes, t->iteration - 1));
    log_info("checkpoint", "saved %s", path);
    if (t->tests.failure != STATUS_OK) return STATUS_OK; /* the model is there; its scores are not */
    RETURN_IF_ERROR(note_state(t, RUN_DONE, t->stopped_early ? t->stop_reason : NULL));
    write_report(t, true);
    return STATUS_OK;
}

static void print_times(const trainer *t) {
    if (!t->times || !is_first(t)) return;
    printf("%ld steps\n", op_table_steps(t->times));
    op_table_print(t->times, stdout, NULL, 0);
}

static void trainer_release(trainer *t) {
    metrics_close(t->log);
    op_table_free(t->times);
    run_evaluation_close(&t->tests);
    train_job_close(&t->job);
    log_close();
}

status trainer_run(config *cfg, const trainer_options *options) {
    trainer *t = calloc(1, sizeof *t);
    if (!t) return error_set(STATUS_OS, "free some memory", "out of memory for the trainer");
    t->cfg = cfg;
    t->options = options;
    if (options->times) t->times = op_table_new(OP_TABLE_BY_CALL);
    status s = prepare_before_mpi(t);
    if (s == STATUS_OK) s = train_job_connect(&t->job);
    if (s == STATUS_OK) {
        s = comm_agree(t->job.c, prepare_model(t));
        if (s == STATUS_OK) s = train_loop(t);
        if (s == STATUS_OK) print_times(t);
        if (s == STATUS_OK) s = comm_agree(t->job.c, finish(t));
        if (s == STATUS_OK) s = run_evaluation_report_failure(&t->tests);
        if (s != STATUS_OK && is_first(t)) note_failure(t, s);
    }
    trainer_release(t);
    free(t);
    return s;
}
