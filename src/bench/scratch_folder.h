/* A folder for files that a measurement makes for itself. It goes when the measurement is over: also when the process is
 * killed, since a child waits for its end. */
#ifndef BENCH_SCRATCH_FOLDER_H
#define BENCH_SCRATCH_FOLDER_H

#include "base/status.h"

#include <limits.h>
#include <sys/types.h>

typedef struct scratch_folder {
    char path[PATH_MAX]; /* "": there is none */
    int alive;           /* closed: this process has ended; only with a remover */
    pid_t remover;
} scratch_folder;

/* Below TMPDIR or /tmp. Forks, so call it before threads exist. scratch_folder_remove in any case; of a zeroed one it does
 * nothing. Codes of error_from_output; OS: no process. */
status scratch_folder_make(scratch_folder *f);

/* With all files in it, and waits until they are gone. */
void scratch_folder_remove(scratch_folder *f);

#endif
