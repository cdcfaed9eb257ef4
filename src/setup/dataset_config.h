/* Data sets as the configuration names them: registered names or ANNOTATIONS.json:IMAGE_DIR. */
#ifndef SETUP_DATASET_CONFIG_H
#define SETUP_DATASET_CONFIG_H

#include "data/dataset.h"
#include "config/config.h"

/* Opens `count` >= 1 data sets as one, with the names of DATASETS.REGISTER. Codes of dataset_open. */
status dataset_open_named(dataset **out, const char *const *specs, int count, const config *cfg,
                          const coco_options *options);

/* Objects as training uses them: DATASETS.CROWD_AS_INSTANCES, MODEL.MASK_ON. */
coco_options dataset_training_options(const config *cfg);

#endif
