/* The training job of one rank: from configuration to model_final.safetensors. */
#ifndef TRAIN_TRAINER_H
#define TRAIN_TRAINER_H

#include "config/config.h"

typedef struct trainer_options {
    bool resume;        /* go on from OUTPUT_DIR's newest whole checkpoint, if there is one */
    bool deterministic; /* the canvas is chosen from the global batch, so ranks do not change the padding */
    bool trace_shapes;  /* print the first step's tensors in order */
    bool times;         /* measure each op and print its time at the end */
} trainer_options;

/* Runs the job. Forks the loader's processes first and starts MPI after that, so call it before threads or MPI exist.
 * `cfg` is changed where the job decides a value (SEED, SOLVER.REFERENCE_WORLD_SIZE); OUTPUT_DIR/config.yaml holds the
 * result. Every rank returns the same status; on one of them the error text says why. */
status trainer_run(config *cfg, const trainer_options *options);

#endif
