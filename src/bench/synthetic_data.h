/* A generated dataset for a measurement, in a folder of its own that goes when it is over: also when the process is killed,
 * since a child waits for its end. */
#ifndef BENCH_SYNTHETIC_DATA_H
#define BENCH_SYNTHETIC_DATA_H

#include "base/status.h"

#include <limits.h>
#include <stdint.h>
#include <sys/types.h>

enum { SYNTHETIC_CLASSES = 4, SYNTHETIC_SPEC = 2 * PATH_MAX + 64 };

typedef struct synthetic_data {
    char folder[PATH_MAX]; /* "": there is none */
    int alive;             /* closed: this process has ended */
    pid_t remover;
} synthetic_data;

/* Pictures of this size (limited to what synth makes) with one to four objects each, some with none, below TMPDIR or /tmp.
 * Forks, so call it before threads exist. synthetic_data_remove in any case. Codes of synth_dataset. */
status synthetic_data_make(synthetic_data *data, int images, int height, int width, uint64_t seed);
void synthetic_data_remove(synthetic_data *data);

/* "ANNOTATIONS.json:IMAGE_DIR" */
void synthetic_data_spec(char spec[SYNTHETIC_SPEC], const synthetic_data *data);

#endif
