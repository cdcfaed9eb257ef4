/* Pictures of the training data as a step gets it: the pixels image_pack made, normalised back; boxes, labels and masks from
 * the step's own input memory; the padding. So a mistake anywhere between the annotation file and the network is seen. */
#ifndef TRAIN_TRAIN_PICTURES_H
#define TRAIN_TRAIN_PICTURES_H

#include "config/config.h"

/* The first `images` samples (0: of two batches) that training of `cfg` in one process would see, a grid for each batch of
 * SOLVER.IMS_PER_BATCH: FOLDER/train_batch_0000.png and so on. The folder is made. NO_DEVICE: built without cairo; other
 * codes as for train_data_open and picture_write. */
status train_pictures_write(const config *cfg, const char *folder, int64_t images);

#endif
