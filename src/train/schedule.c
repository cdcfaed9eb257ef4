#include "train/schedule.h"

#include "base/log.h"

#include <math.h>
#include <string.h>

/* fvcore compares positions in training with this slack (WHERE_EPSILON). */
static const double where_epsilon = 1e-6;

status schedule_init(schedule *s, const config *cfg) {
    *s = (schedule){
        .base_lr = cfg->SOLVER_BASE_LR,
        .gamma = cfg->SOLVER_GAMMA,
        .end_factor = cfg->SOLVER_BASE_LR > 0 ? cfg->SOLVER_BASE_LR_END / cfg->SOLVER_BASE_LR : 0,
        .warmup_factor = cfg->SOLVER_WARMUP_FACTOR,
        .steps = cfg->SOLVER_STEPS.values,
        .max_iterations = cfg->SOLVER_MAX_ITER,
        .warmup_iterations = cfg->SOLVER_WARMUP_ITERS,
        .cosine = strcmp(cfg->SOLVER_LR_SCHEDULER_NAME, "WarmupCosineLR") == 0,
        .constant_warmup = strcmp(cfg->SOLVER_WARMUP_METHOD, "constant") == 0,
    };
    if (s->cosine && s->end_factor > 1)
        return error_set(STATUS_CONFIG, "set it to at most SOLVER.BASE_LR",
                         "SOLVER.BASE_LR_END: %g is above SOLVER.BASE_LR %g", cfg->SOLVER_BASE_LR_END,
                         cfg->SOLVER_BASE_LR);
    while (s->step_count < cfg->SOLVER_STEPS.count && s->steps[s->step_count] <= s->max_iterations)
        s->step_count++;
    if (!s->cosine && s->step_count < cfg->SOLVER_STEPS.count)
        log_warn("train", "SOLVER.STEPS holds values larger than SOLVER.MAX_ITER %lld; they are ignored",
                 (long long)s->max_iterations);
    return STATUS_OK;
}

static double main_factor(const schedule *s, double where) {
    if (s->cosine) return s->end_factor + 0.5 * (1 - s->end_factor) * (1 + cos(M_PI * where));
    int64_t iteration = (int64_t)((where + where_epsilon) * (double)s->max_iterations);
    int passed = 0;
    while (passed < s->step_count && s->steps[passed] <= iteration) passed++;
    return pow(s->gamma, passed);
}

double schedule_lr(const schedule *s, int64_t iteration) {
    double where = (double)iteration / (double)s->max_iterations;
    double warmup = fmin((double)s->warmup_iterations / (double)s->max_iterations, 1);
    if (where + where_epsilon > warmup) return s->base_lr * main_factor(s, where);
    double start = s->warmup_factor * main_factor(s, 0);
    if (s->constant_warmup) return s->base_lr * start;
    double share = where / warmup;
    return s->base_lr * (main_factor(s, warmup) * share + start * (1 - share));
}

static int64_t divided(int64_t value, double scale) {
    return (int64_t)nearbyint((double)value / scale);
}

static int64_t divided_period(int64_t value, double scale) {
    int64_t period = divided(value, scale);
    return value > 0 && period < 1 ? 1 : period;
}

/* What was scaled must still be a value that the key may have, or the saved configuration could not be read back. */
static status check_scaled(const config *cfg) {
    int64_t last_step = 0;
    for (int i = 0; i < cfg->SOLVER_STEPS.count; i++)
        last_step = cfg->SOLVER_STEPS.values[i] > last_step ? cfg->SOLVER_STEPS.values[i] : last_step;
    const struct {
        int key;
        int64_t value;
    } scaled[] = {{CONFIG_KEY_SOLVER_IMS_PER_BATCH, cfg->SOLVER_IMS_PER_BATCH},
                  {CONFIG_KEY_SOLVER_MAX_ITER, cfg->SOLVER_MAX_ITER},
                  {CONFIG_KEY_SOLVER_STEPS, last_step},
                  {CONFIG_KEY_SOLVER_WARMUP_ITERS, cfg->SOLVER_WARMUP_ITERS},
                  {CONFIG_KEY_SOLVER_CHECKPOINT_PERIOD, cfg->SOLVER_CHECKPOINT_PERIOD},
                  {CONFIG_KEY_TEST_EVAL_PERIOD, cfg->TEST_EVAL_PERIOD}};
    for (size_t i = 0; i < sizeof scaled / sizeof *scaled; i++) {
        const config_key *key = &config_keys[scaled[i].key];
        if ((double)scaled[i].value > key->rule.max)
            return error_set(STATUS_CONFIG,
                             "set SOLVER.REFERENCE_WORLD_SIZE 0 and write the schedule for these ranks",
                             "SOLVER.REFERENCE_WORLD_SIZE: %s would become %lld, above %.15g", key->name,
                             (long long)scaled[i].value, key->rule.max);
    }
    return STATUS_OK;
}

status schedule_scale_to_ranks(config *cfg, int ranks) {
    int64_t reference = cfg->SOLVER_REFERENCE_WORLD_SIZE;
    if (reference == 0 || reference == ranks) return STATUS_OK;
    if (cfg->SOLVER_IMS_PER_BATCH % reference != 0)
        return error_set(
            STATUS_CONFIG, "make SOLVER.IMS_PER_BATCH a multiple of SOLVER.REFERENCE_WORLD_SIZE",
            "SOLVER.IMS_PER_BATCH: %lld images cannot be shared by SOLVER.REFERENCE_WORLD_SIZE %lld",
            (long long)cfg->SOLVER_IMS_PER_BATCH, (long long)reference);
    const config before = *cfg;
    double scale = (double)ranks / (double)reference;
    cfg->SOLVER_IMS_PER_BATCH = (int64_t)nearbyint((double)cfg->SOLVER_IMS_PER_BATCH * scale);
    cfg->SOLVER_BASE_LR *= scale;
    cfg->SOLVER_MAX_ITER = divided_period(cfg->SOLVER_MAX_ITER, scale);
    cfg->SOLVER_WARMUP_ITERS = divided(cfg->SOLVER_WARMUP_ITERS, scale);
    for (int i = 0; i < cfg->SOLVER_STEPS.count; i++) {
        int64_t step = divided(cfg->SOLVER_STEPS.values[i], scale);
        log_info("train", "SOLVER.STEPS[%d]: %lld -> %lld", i, (long long)cfg->SOLVER_STEPS.values[i],
                 (long long)step);
        cfg->SOLVER_STEPS.values[i] = step;
    }
    cfg->TEST_EVAL_PERIOD = divided_period(cfg->TEST_EVAL_PERIOD, scale);
    cfg->SOLVER_CHECKPOINT_PERIOD = divided_period(cfg->SOLVER_CHECKPOINT_PERIOD, scale);
    RETURN_IF_ERROR(check_scaled(cfg));
    cfg->SOLVER_REFERENCE_WORLD_SIZE = ranks;
    log_info(
        "train",
        "scaled the schedule from %lld to %d ranks (SOLVER.REFERENCE_WORLD_SIZE): IMS_PER_BATCH %lld -> "
        "%lld, "
        "BASE_LR %g -> %g, MAX_ITER %lld -> %lld, WARMUP_ITERS %lld -> %lld, CHECKPOINT_PERIOD %lld -> %lld, "
        "TEST.EVAL_PERIOD %lld -> %lld",
        (long long)reference, ranks, (long long)before.SOLVER_IMS_PER_BATCH,
        (long long)cfg->SOLVER_IMS_PER_BATCH, before.SOLVER_BASE_LR, cfg->SOLVER_BASE_LR,
        (long long)before.SOLVER_MAX_ITER, (long long)cfg->SOLVER_MAX_ITER,
        (long long)before.SOLVER_WARMUP_ITERS, (long long)cfg->SOLVER_WARMUP_ITERS,
        (long long)before.SOLVER_CHECKPOINT_PERIOD, (long long)cfg->SOLVER_CHECKPOINT_PERIOD,
        (long long)before.TEST_EVAL_PERIOD, (long long)cfg->TEST_EVAL_PERIOD);
    return STATUS_OK;
}
