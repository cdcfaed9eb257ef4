/* How long the ops of a tape took, call by call. */
#ifndef AUTOGRAD_TAPE_TIMES_H
#define AUTOGRAD_TAPE_TIMES_H

#include "autograd/op_cost.h"
#include "autograd/tape.h"
#include "device/device.h"

/* One run of an op. */
typedef struct tape_run {
    const op_def *op;
    const char *layer; /* as tape_scope named it; the tape's */
    int index;         /* of the call on the tape */
    bool backward;
    double start, seconds; /* start: as clock_seconds has it */
    op_cost cost;          /* of the rows that were valid */
    const double
        *part_weight; /* [OP_MAX_PARTS]: what each of op->parts took, in threads' seconds; all 0: not known */
} tape_run;

/* From now on the ops of this planned tape are timed: by the host's clock where the host computes, elsewhere by events, for which
 * nobody waits. `origin` is borrowed and set anew before each run; where the host computes it may be NULL. A second call changes
 * nothing. */
void tape_measure(tape *t, const device_instant *origin);

/* The runs since this was last called, at most one of each call and direction (the last): those of forward, then those of
 * backward, in the order they ran. Where the device works behind the host, this waits for it. Needs tape_measure. */
typedef void (*tape_run_hook)(void *context, const tape_run *run);
void tape_take_runs(tape *t, tape_run_hook hook, void *context);

#endif
