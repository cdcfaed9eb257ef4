/* `eval --config`: weights from a file scored on DATASETS.TEST, by one rank or many. */
#ifndef EVALUATE_EVALUATION_JOB_H
#define EVALUATE_EVALUATION_JOB_H

#include "config/config.h"

/* Runs the job on MODEL.WEIGHTS. Forks the loaders' processes first and starts MPI after that, so call it before threads or
 * MPI exist. Writes to OUTPUT_DIR what evaluate_model does, a line of evaluations.json, TEST.PICTURES pictures and log.txt;
 * `json` (may be NULL) gets the numbers alone, see evaluation_write_json. SEED is set where it is negative.
 *
 * CONFIG: no test set, no weights, or fewer labels than categories. DATA: weights that do not fit the configuration, or of
 * other classes than a set. Every rank returns the same status; on one of them the error text says why. */
status evaluation_job_run(config *cfg, const char *json);

#endif
