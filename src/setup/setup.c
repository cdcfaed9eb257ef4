#include "setup/setup.h"

#include "base/content_hash.h"
#include "base/log.h"
#include "base/thread_pool.h"
#include "setup/model_config.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

status setup_device(device **dev, const config *cfg, int local_rank) {
    const char *name = cfg->MODEL_DEVICE;
    char cuda[32];
    snprintf(cuda, sizeof cuda, "cuda:%d", local_rank);
    if (strcmp(name, "cpu") == 0) return device_open(dev, "cpu");
    status s = device_open(dev, cuda);
    if (s == STATUS_NO_DEVICE && strcmp(name, "auto") == 0) {
        error_clear();
        return device_open(dev, "cpu");
    }
    return s;
}

status setup_precision(precision *out, const config *cfg, const device *dev) {
    const char *name = cfg->PRECISION;
    bool is_cpu = device_get_kind(dev) == DEVICE_CPU;
    *out = (precision){.storage = DTYPE_F32};
    if (strcmp(name, "auto") == 0) {
        if (is_cpu && cfg->SOLVER_AMP_ENABLED)
            log_warn("train", "SOLVER.AMP.ENABLED has no effect on the CPU, which computes in fp32");
        name = is_cpu ? "fp32" : cfg->SOLVER_AMP_ENABLED ? "bf16" : "tf32";
    }
    if (strcmp(name, "fp32") == 0) return STATUS_OK;
    if (is_cpu)
        return error_set(STATUS_CONFIG, "set PRECISION auto or fp32, or use --device cuda",
                         "PRECISION %s: the CPU computes in fp32 only", name);
    out->tf32 = strcmp(name, "tf32") == 0;
    if (!out->tf32) out->storage = strcmp(name, "bf16") == 0 ? DTYPE_BF16 : DTYPE_F16;
    return STATUS_OK;
}

const char *setup_precision_name(const precision *p) {
    if (p->storage == DTYPE_BF16) return "bf16";
    if (p->storage == DTYPE_F16) return "fp16";
    return p->tf32 ? "tf32" : "fp32";
}

int setup_thread_count(const config *cfg, int local_ranks) {
    if (cfg->CPU_THREADS > 0) return (int)cfg->CPU_THREADS;
    int share = thread_pool_usable_cores() / (local_ranks > 0 ? local_ranks : 1);
    return share > 0 ? share : 1;
}

status setup_seed(config *cfg, const rank_env *env) {
    if (cfg->SEED >= 0) return STATUS_OK;
    uint64_t hash = content_hash_of(env->job, strlen(env->job));
    if (env->size == 1) {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        hash ^= (uint64_t)now.tv_sec * 1000000007u + (uint64_t)now.tv_nsec + (uint64_t)getpid();
    }
    char text[32];
    snprintf(text, sizeof text, "%" PRIu64, (hash * 0x9E3779B97F4A7C15u) >> 33);
    return config_set(cfg, "SEED", text);
}

status setup_model(mask_rcnn *model, const config *cfg, device *dev, bool training, const char *weights,
                   const weights_classes *classes, weights_use use) {
    mask_rcnn_spec spec;
    precision computes;
    memset(model, 0, sizeof *model);
    RETURN_IF_ERROR(setup_precision(&computes, cfg, dev));
    RETURN_IF_ERROR(model_spec_from_config(&spec, cfg));
    RETURN_IF_ERROR(mask_rcnn_init(model, &spec));
    RETURN_IF_ERROR(param_store_allocate(&model->params, dev, &computes, training));
    RETURN_IF_ERROR(param_store_initialise(&model->params, spec.seed));
    if (!weights) return STATUS_OK;
    if (!weights[0]) {
        log_info("weights", "random start values, seed %" PRIu64, spec.seed);
        if (training && (spec.backbone.norm.kind == NORM_FROZEN || spec.backbone.freeze_at > 0))
            log_warn("weights",
                     "the backbone starts at random, but MODEL.RESNETS.NORM %s and MODEL.BACKBONE.FREEZE_AT "
                     "%d keep parts of it "
                     "from learning: give --weights, or set MODEL.RESNETS.NORM GN, MODEL.FPN.NORM GN and "
                     "MODEL.BACKBONE.FREEZE_AT 0",
                     cfg->MODEL_RESNETS_NORM, spec.backbone.freeze_at);
        return STATUS_OK;
    }
    weights_report report;
    return weights_load(&report, &model->params, weights, cfg, classes, use);
}
