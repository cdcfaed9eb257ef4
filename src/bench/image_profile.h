/* `profile --inference`: where the time of a detection goes, op by op. */
#ifndef BENCH_IMAGE_PROFILE_H
#define BENCH_IMAGE_PROFILE_H

#include "bench/step_profile.h"

/* The detector on the images of DATASETS.TEST, or on generated pictures (`synthetic`) as large as the configuration's; one image is one
 * step. Generated pictures: MODEL.WEIGHTS is not read with `random_start`, and the score threshold is then put below the last of
 * TEST.DETECTIONS_PER_IMAGE, so that masks are made. One process. Codes of test_data_open, setup_model, detector_run. */
status image_profile_run(config *cfg, const profile_options *options);

#endif
