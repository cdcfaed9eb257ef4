#include "train/train_job.h"

#include "base/check.h"
#include "base/log.h"
#include "base/thread_pool.h"
#include "setup/setup.h"

#include <inttypes.h>

status train_job_init(train_job *job, config *cfg) {
    *job = (train_job){.cfg = cfg};
    RETURN_IF_ERROR(rank_env_read(&job->env));
    check_set_rank(job->env.rank);
    log_set_rank(job->env.rank);
    config_log_warnings(cfg);
    return STATUS_OK;
}

status train_job_plan(train_job *job) {
    config *cfg = job->cfg;
    int ranks = job->env.size;
    RETURN_IF_ERROR(setup_seed(cfg, &job->env));
    RETURN_IF_ERROR(schedule_scale_to_ranks(cfg, ranks));
    RETURN_IF_ERROR(schedule_init(&job->rates, cfg));
    if (cfg->SOLVER_IMS_PER_BATCH % ranks)
        return error_set(STATUS_CONFIG,
                         "choose a SOLVER.IMS_PER_BATCH that is a multiple of the number of ranks",
                         "SOLVER.IMS_PER_BATCH: %" PRId64 " images cannot be divided among %d ranks",
                         cfg->SOLVER_IMS_PER_BATCH, ranks);
    return STATUS_OK;
}

int train_job_images(const train_job *job) {
    return (int)(job->cfg->SOLVER_IMS_PER_BATCH / job->env.size);
}

status train_job_connect(train_job *job) {
    RETURN_IF_ERROR(setup_device(&job->dev, job->cfg, job->env.local_rank));
    return comm_open(&job->c, &job->env, job->dev);
}

status train_job_start_model(train_job *job, const char *weights) {
    thread_pool_start(setup_thread_count(job->cfg, job->env.local_size));
    return setup_model(&job->model, job->cfg, job->dev, true, weights, &job->data.classes, WEIGHTS_START);
}

static void log_sizes(const train_job *job) {
    const param_store *store = &job->model.params;
    const step_memory *memory = step_queue_memory(job->steps);
    int buckets = step_queue_buckets(job->steps), threads = thread_pool_size();
    int64_t trainable = 0, all = 0;
    for (int i = 0; i < store->count; i++) {
        all += store->params[i].size;
        trainable += store->params[i].trainable ? store->params[i].size : 0;
    }
    log_info("train", "%s, %d thread%s per rank, gradients over %s in %d bucket%s", device_get_name(job->dev),
             threads, threads == 1 ? "" : "s", comm_backend_name(job->c), buckets, buckets == 1 ? "" : "s");
    log_info("train",
             "%" PRId64 " parameters, %" PRId64 " trained; largest canvas %" PRId64 "x%" PRId64
             ", up to %d objects per image; step memory %.0f MiB",
             all, trainable, memory->largest.height, memory->largest.width, memory->largest.gt_capacity,
             (double)memory->arena_bytes / 0x1p20);
}

status train_job_start_steps(train_job *job, const step_queue_spec *wishes, int64_t first_iteration) {
    step_queue_spec spec = {.cfg = job->cfg,
                            .dev = job->dev,
                            .c = job->c,
                            .model = &job->model,
                            .data = &job->data,
                            .rates = &job->rates,
                            .images = train_job_images(job),
                            .first_iteration = first_iteration,
                            .same_canvas = wishes->same_canvas,
                            .trace_shapes = wishes->trace_shapes,
                            .measure = wishes->measure};
    RETURN_IF_ERROR(step_queue_new(&job->steps, &spec));
    RETURN_IF_ERROR(loader_start_at(job->data.load, first_iteration));
    log_sizes(job);
    return STATUS_OK;
}

void train_job_close(train_job *job) {
    step_queue_free(job->steps);
    mask_rcnn_release(&job->model);
    train_data_close(&job->data);
    comm_close(job->c);
    device_close(job->dev);
    thread_pool_stop();
}
