/* What every command that runs the model does first: device, threads, seed, model with its weights. */
#ifndef SETUP_SETUP_H
#define SETUP_SETUP_H

#include "comm/rank_env.h"
#include "device/device.h"
#include "model/mask_rcnn.h"
#include "config/config.h"
#include "weights/weights.h"

/* Opens MODEL.DEVICE ("auto": the GPU of this local rank where the CUDA plug-in and a card are there, else the CPU). */
status setup_device(device **dev, const config *cfg, int local_rank);

/* PRECISION on this device. CONFIG: 16 bits or TF32 on the CPU. */
status setup_precision(precision *out, const config *cfg, const device *dev);

/* As PRECISION names it: "fp32", "tf32", "bf16", "fp16". */
const char *setup_precision_name(const precision *p);

/* CPU.THREADS, or the usable cores shared by the ranks of this host. */
int setup_thread_count(const config *cfg, int local_ranks);

/* Replaces a negative SEED by one made for this job, the same on all its ranks without talking: from the launcher's job
 * name, or from the clock where there is one rank. */
status setup_seed(config *cfg, const rank_env *env);

/* Builds the model, gives it its start values, then those of the file `weights`: "" is a random start, NULL leaves the rest
 * to the caller. `training` false: no memory for gradients and momentum. `classes` may be NULL. mask_rcnn_release in any
 * case. */
status setup_model(mask_rcnn *model, const config *cfg, device *dev, bool training, const char *weights,
                   const weights_classes *classes, weights_use use);

#endif
