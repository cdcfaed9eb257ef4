#include "bench/synthetic_data.h"

#include "data/synth.h"

#include <stdio.h>

static int within(int side) {
    return side < SYNTH_MIN_SIDE ? SYNTH_MIN_SIDE : side > SYNTH_MAX_SIDE ? SYNTH_MAX_SIDE : side;
}

status synthetic_data_make(synthetic_data *data, int images, int height, int width, uint64_t seed) {
    RETURN_IF_ERROR(scratch_folder_make(&data->folder));
    synth_options size = {.height = within(height), .width = within(width)};
    return synth_dataset(data->folder.path, images, seed, &size);
}

void synthetic_data_remove(synthetic_data *data) {
    scratch_folder_remove(&data->folder);
}

void synthetic_data_spec(char spec[SYNTHETIC_SPEC], const synthetic_data *data) {
    snprintf(spec, SYNTHETIC_SPEC, "%s/annotations.json:%s/images", data->folder.path, data->folder.path);
}
