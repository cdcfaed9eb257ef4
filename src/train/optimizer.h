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
 * Sums are taken over fixed tiles in double and joined in order: no bit depends on the number of threads. */
#ifndef TRAIN_OPTIMIZER_H
#define TRAIN_OPTIMIZER_H

#include "layers/param_store.h"
#include "config/config.h"

typedef struct optimizer optimizer;

typedef struct gradient_report {
    double norm;            /* 2-norm over all parameters, before clipping; may be NaN or infinite */
    const char *non_finite; /* first parameter with a NaN or an infinity; NULL: all finite */
} gradient_report;

/* `store` is borrowed; it has its gradients and momentum. OS. */
status optimizer_new(optimizer **out, param_store *store, const config *cfg);
void optimizer_free(optimizer *o);

/* Reads the gradients once: their norms and whether they are finite. Every rank gets the same answer, since
 * the gradients are summed already. Call it before each optimizer_step. */
gradient_report optimizer_check_gradients(optimizer *o);

/* Updates momentum and values with rate `lr`; `previous_lr` is the rate of the iteration before (of this one
 * for the first). Gradients stay as they are. After a report that is not finite this is a CHECK. */
void optimizer_step(optimizer *o, double lr, double previous_lr);

/* What applies to parameter `index` of the store. */
double optimizer_weight_decay(const optimizer *o, int index);
double optimizer_lr_scale(const optimizer *o, int index);

#endif
