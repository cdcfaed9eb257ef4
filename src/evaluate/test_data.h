/* The data sets that a run evaluates on, DATASETS.TEST, with a loader each. Opened beside the training data, before MPI, a
 * device or a thread exists, because the loaders fork. */
#ifndef EVALUATE_TEST_DATA_H
#define EVALUATE_TEST_DATA_H

#include "comm/rank_env.h"
#include "data/loader.h"
#include "evaluate/class_map.h"
#include "config/config.h"

typedef struct test_set {
    const char *name; /* as in DATASETS.TEST; borrowed from the configuration */
    dataset *set;
    class_table classes;
    /* Iteration i delivers image i * ranks + rank of the file as itself (keep_bad), unflipped, resized for testing, with its
     * objects as training uses them; after the last image it goes round. NULL where the file lists no image. */
    loader *load;
    class_map map; /* see test_data_map_classes */
} test_set;

typedef struct test_data {
    test_set *sets;
    int count;
} test_data;

/* Opens them all; none is fine. Masks of the objects are loaded for TEST.VALIDATION_LOSS only. CONFIG: that key with
 * INPUT.MIN_SIZE_TEST 0 or norms whose statistics a forward pass changes. Other codes of dataset_open and loader_new.
 * test_data_close in any case. */
status test_data_open(test_data *d, const config *cfg, const rank_env *env);
void test_data_close(test_data *d);

/* Fills the maps of all sets, for a model of so many labels; 0: of an RPN alone. `model` and codes as for class_map_make. */
status test_data_map_classes(test_data *d, int labels, const weights_classes *model, const char *model_name);

/* The annotation file of a set. */
const char *test_set_annotations(const test_set *set);

#endif
