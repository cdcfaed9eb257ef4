/* SGD with momentum over the flat buffers of a param_store, in detectron2's (PyTorch's) form:
 *   g' = clip(g) + weight_decay w;   v = momentum v + g';   w -= lr lr_scale v
 *
 * Weight decay and lr_scale are per parameter, as detectron2's get_default_optimizer_params sets them:
 * WEIGHT_DECAY; for scale and shift of a norm WEIGHT_DECAY_NORM, if set; for whatever is called "bias"
 * WEIGHT_DECAY_BIAS, if set, and BIAS_LR_FACTOR.
 *
 * SCALE_MOMENTUM: Detectron keeps V = momentum V + lr g' and, when the rate changes by a ratio above 1.1,
 * multiplies V by new / old. Our v is V / lr; so for such a change v stays, and for any smaller one (a step
 * of the warm-up) it is multiplied by old / new. Without SCALE_MOMENTUM v is left alone (detectron2).
 *
 * Clipping, SOLVER.CLIP_GRADIENTS: "value" each element to [-CLIP_VALUE, CLIP_VALUE]; "norm" as detectron2,
 * each parameter by itself: g *= min(1, CLIP_VALUE / (|g| + 1e-6)) with the NORM_TYPE-norm of that parameter;
 * "full_model" the same with one 2-norm over all parameters.
 *
 * Both are ops on a tape (gradient_norm, sgd_step), so the host waits for nothing: where gradients or losses are not
 * finite the step changes nothing, and no later step does, until the host has seen it in the record. With fp16 the losses are
 * scaled; then such a step is skipped, and the scale falls. No bit depends on the number of threads. */
#ifndef TRAIN_OPTIMIZER_H
#define TRAIN_OPTIMIZER_H

#include "config/config.h"
#include "gradient_norm/gradient_norm.h"
#include "layers/param_store.h"
#include "sgd_step/sgd_step.h"

typedef struct optimizer optimizer;

enum { OPTIMIZER_LOSSES = 8 };

/* What a step leaves in device memory, to be copied to the host in one piece. */
typedef struct optimizer_record {
    double norm;
    float verdict[GRADIENT_VERDICT_SIZE];
    float losses
        [OPTIMIZER_LOSSES]; /* written by the caller before optimizer_queue: finite, or the step is not taken */
} optimizer_record;

typedef struct gradient_report {
    double norm; /* 2-norm over all parameters, before clipping, without loss scale; may be infinite */
    const char *non_finite; /* first parameter with a NaN or an infinity; NULL: all finite */
    bool is_skipped;        /* the loss scale was too high: it is lower now */
    bool is_stopped;        /* this step was not taken, and no later one will be */
    double loss_scale;      /* of this step; 0 where losses are not scaled */
    int64_t skipped_steps;  /* so far */
} gradient_report;

/* `store` is borrowed; it has its gradients and momentum. `rates`: device memory that optimizer_rates' numbers are brought to
 * before each step. CONFIG: too many parameters to count. OS. */
status optimizer_new(optimizer **out, param_store *store, const config *cfg, float *rates);
void optimizer_free(optimizer *o);

/* What the step needs: rate `lr`; `previous_lr` is the rate of the iteration before (of this one for the first). */
void optimizer_rates(float rates[SGD_STEP_RATE_FLOATS], const optimizer *o, double lr, double previous_lr);

/* Queues the step: checks gradients (which every rank has the same) and losses, and updates momentum, values and their copies.
 * Gradients stay as they are. */
void optimizer_queue(optimizer *o);

/* In device memory; what is there after a step as the host reads it. */
optimizer_record *optimizer_record_place(const optimizer *o);
gradient_report optimizer_report(const optimizer *o, const optimizer_record *record);

/* What tape_set_loss_scale takes; NULL: losses are not scaled. */
float *optimizer_loss_scale(const optimizer *o);

struct tape *optimizer_tape(const optimizer *o);

/* The loss scale and its history, for checkpoints; the host waits. */
void optimizer_read_state(const optimizer *o, float state[GRADIENT_STATE_SIZE]);
void optimizer_write_state(optimizer *o, const float state[GRADIENT_STATE_SIZE]);

/* What applies to parameter `index` of the store. */
double optimizer_weight_decay(const optimizer *o, int index);
double optimizer_lr_scale(const optimizer *o, int index);

#endif
