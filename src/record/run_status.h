/* OUTPUT_DIR/run_status.json: how the run stands, for scripts; mpirun's exit code cannot say it (it is 1 on
 * SIGTERM, whatever the ranks return). One object with the keys below, replaced in one go each time. */
#ifndef RECORD_RUN_STATUS_H
#define RECORD_RUN_STATUS_H

#include "base/status.h"

#include <stdint.h>

typedef enum run_state { RUN_STARTING, RUN_RUNNING, RUN_DONE, RUN_PREEMPTED, RUN_FAILED } run_state;

/* `iteration`: finished iterations (SOLVER.MAX_ITER when done); `checkpoint`: the last one published, from
 * OUTPUT_DIR on, NULL for none; `reason`: why it failed or was preempted, NULL else. Both become null. CANT_CREATE,
 * NO_PERMISSION, IO, OS. */
status run_status_write(const char *output_dir, run_state state, int64_t iteration, const char *checkpoint,
                        const char *reason);

#endif
