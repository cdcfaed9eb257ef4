/* The training data of one rank: dataset, loader, classes. Opened before MPI, a device or a thread exists, because the
 * loader forks. */
#ifndef SETUP_TRAIN_DATA_H
#define SETUP_TRAIN_DATA_H

#include "comm/rank_env.h"
#include "data/loader.h"
#include "weights/class_table.h"
#include "config/config.h"

typedef struct train_data {
    dataset *set;
    loader *load;
    class_table table;       /* owns the texts */
    weights_classes classes; /* names and original ids, by label */
} train_data;

/* Opens DATASETS.TRAIN, logs what is in it, and starts the loader's processes. CONFIG: no dataset named, or more
 * categories than MODEL.ROI_HEADS.NUM_CLASSES. Other codes as for dataset_open and loader_new. train_data_close in any
 * case. */
status train_data_open(train_data *d, const config *cfg, const rank_env *env);

/* The same in file order, unflipped, in one process: what `trace` looks at. */
status train_data_open_in_order(train_data *d, const config *cfg, int images);

/* All images of DATASETS.TRAIN as training reads them, with any categories and also without annotations, by one rank: what
 * `bench loader` looks at. No classes. */
status train_data_open_images(train_data *d, const config *cfg);

void train_data_close(train_data *d);

#endif
