/* Pictures of what a model finds, beside the ground truth. */
#ifndef EVALUATE_PREDICTION_PICTURES_H
#define EVALUATE_PREDICTION_PICTURES_H

#include "config/config.h"

/* The first `images` images of DATASETS.TEST, by the test rules of `cfg` with MODEL.WEIGHTS, as FOLDER/0001_<stem>.png and so
 * on; predictions from `least_score` on. The folder is made. An image that cannot be read is a warning. Run in one process,
 * before MPI, a device or a thread exists. NO_DEVICE: built without cairo; CONFIG: DATASETS.TEST is empty; DATA: none of the
 * images could be read; other codes as for test_data_open, setup_model, detector_new and picture_write. */
status prediction_pictures_write(const config *cfg, const char *folder, int64_t images, double least_score);

#endif
