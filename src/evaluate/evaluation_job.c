#include "evaluate/evaluation_job.h"

#include "base/check.h"
#include "base/file_util.h"
#include "base/log.h"
#include "base/thread_pool.h"
#include "evaluate/evaluation_report.h"
#include "setup/setup.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct evaluation_job {
    config *cfg;
    const char *json;
    rank_env env;
    test_data data;
    device *dev;
    comm *c;
    mask_rcnn model;
    int64_t iteration; /* that the weights file gives; -1: none */
} evaluation_job;

/* A wrong path should not show after hours. */
static status check_json_place(const char *json) {
    char folder[PATH_MAX];
    const char *slash = strrchr(json, '/');
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - json) + 1 : 1, slash ? json : ".");
    return access(folder, W_OK) == 0 ? STATUS_OK : error_from_output(errno, "create", json);
}

static status prepare_before_mpi(evaluation_job *j) {
    config *cfg = j->cfg;
    RETURN_IF_ERROR(rank_env_read(&j->env));
    check_set_rank(j->env.rank);
    log_set_rank(j->env.rank);
    config_log_warnings(cfg);
    if (cfg->DATASETS_TEST.count == 0)
        return error_set(STATUS_CONFIG, "add DATASETS.TEST ANNOTATIONS.json:IMAGE_DIR to the command",
                         "DATASETS.TEST names no data set to evaluate on");
    if (!cfg->MODEL_WEIGHTS[0])
        return error_set(STATUS_CONFIG, "add --weights FILE to the command",
                         "MODEL.WEIGHTS names no weights to evaluate");
    RETURN_IF_ERROR(setup_seed(cfg, &j->env));
    if (j->env.rank == 0) RETURN_IF_ERROR(make_directories(cfg->OUTPUT_DIR));
    if (j->json && j->env.rank == 0) RETURN_IF_ERROR(check_json_place(j->json)); /* it may lie in there */
    log_info("evaluation", "%d rank%s, weights %s", j->env.size, j->env.size == 1 ? "" : "s",
             cfg->MODEL_WEIGHTS);
    return test_data_open(&j->data, cfg, &j->env);
}

static status read_iteration(int64_t *iteration, const char *path) {
    safetensors *file;
    *iteration = -1;
    RETURN_IF_ERROR(safetensors_open(&file, path));
    const char *text = safetensors_metadata(file, "iteration");
    char *end = NULL;
    errno = 0;
    long long value = text ? strtoll(text, &end, 10) : -1;
    if (text && end != text && !*end && !errno && value >= 0) *iteration = value;
    safetensors_close(file);
    return STATUS_OK;
}

static status map_classes(evaluation_job *j) {
    class_table said;
    const char *path = j->cfg->MODEL_WEIGHTS;
    RETURN_IF_ERROR(class_table_of_weights(&said, path));
    status s = test_data_map_classes(&j->data, mask_rcnn_labels(&j->model.spec), &said.classes, path);
    class_table_release(&said);
    return s;
}

static status prepare_model(evaluation_job *j) {
    const config *cfg = j->cfg;
    char path[PATH_MAX];
    thread_pool_start(setup_thread_count(cfg, j->env.local_size));
    RETURN_IF_ERROR(path_join(path, cfg->OUTPUT_DIR, "log.txt"));
    RETURN_IF_ERROR(log_open(path));
    RETURN_IF_ERROR(setup_model(&j->model, cfg, j->dev, cfg->TEST_VALIDATION_LOSS, cfg->MODEL_WEIGHTS, NULL,
                                WEIGHTS_EXACT));
    RETURN_IF_ERROR(read_iteration(&j->iteration, cfg->MODEL_WEIGHTS));
    RETURN_IF_ERROR(map_classes(j));
    return j->env.rank == 0 ? evaluate_check(&j->data, cfg) : STATUS_OK;
}

static status report(const evaluation_job *j, const evaluation *found) {
    evaluation_print(found);
    RETURN_IF_ERROR(evaluation_append(found, j->cfg->OUTPUT_DIR));
    return j->json ? evaluation_write_json(found, j->json) : STATUS_OK;
}

static status evaluate(evaluation_job *j) {
    evaluation found;
    evaluate_options options = {.iteration = j->iteration, .pictures = (int)j->cfg->TEST_PICTURES};
    status s = evaluate_model(&found, &j->model, &j->data, j->cfg, j->c, j->dev, &options);
    if (s == STATUS_OK) s = comm_agree(j->c, j->env.rank == 0 ? report(j, &found) : STATUS_OK);
    evaluation_release(&found);
    return s;
}

status evaluation_job_run(config *cfg, const char *json) {
    evaluation_job *j = calloc(1, sizeof *j);
    if (!j) return error_set(STATUS_OS, "free some memory", "out of memory for the evaluation");
    j->cfg = cfg;
    j->json = json;
    status s = prepare_before_mpi(j);
    if (s == STATUS_OK) s = setup_device(&j->dev, cfg, j->env.local_rank);
    if (s == STATUS_OK) s = comm_open(&j->c, &j->env, j->dev);
    if (s == STATUS_OK) {
        s = comm_agree(j->c, prepare_model(j));
        if (s == STATUS_OK) s = evaluate(j);
    }
    mask_rcnn_release(&j->model);
    test_data_close(&j->data);
    comm_close(j->c);
    device_close(j->dev);
    thread_pool_stop();
    log_close();
    free(j);
    return s;
}
