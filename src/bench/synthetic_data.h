/* A generated dataset for a measurement, in a scratch folder. */
#ifndef BENCH_SYNTHETIC_DATA_H
#define BENCH_SYNTHETIC_DATA_H

#include "bench/scratch_folder.h"

#include <stdint.h>

enum { SYNTHETIC_CLASSES = 4, SYNTHETIC_SPEC = 2 * PATH_MAX + 64 };

typedef struct synthetic_data {
    scratch_folder folder;
} synthetic_data;

/* Pictures of this size (limited to what synth makes) with one to four objects each, some with none.
 * As scratch_folder_make and _remove. Codes of those and of synth_dataset. */
status synthetic_data_make(synthetic_data *data, int images, int height, int width, uint64_t seed);
void synthetic_data_remove(synthetic_data *data);

/* "ANNOTATIONS.json:IMAGE_DIR" */
void synthetic_data_spec(char spec[SYNTHETIC_SPEC], const synthetic_data *data);

#endif
