/* Classes as lists of names and original ids, by label: a data set's, or those that a weights file says of itself. */
#ifndef WEIGHTS_CLASS_TABLE_H
#define WEIGHTS_CLASS_TABLE_H

#include "data/dataset.h"
#include "data/safetensors.h"
#include "weights/weights.h"

/* Owns its texts. `classes` points into it; names are NULL in a list without classes, ids where they are unknown. */
typedef struct class_table {
    weights_classes classes;
    char **names;
    int64_t *ids;
} class_table;

/* The categories by ascending id. OS. */
status class_table_of_dataset(class_table *out, const dataset *set);

/* class_names and class_ids of a weights file's `__metadata__`; no classes where it says nothing of them. DATA: they are no
 * lists, or not equally long; OS. class_table_of_weights opens the file: codes of safetensors_open, too. */
status class_table_of_file(class_table *out, const safetensors *file);
status class_table_of_weights(class_table *out, const char *path);

void class_table_release(class_table *list);

/* Whether a name stands for a class: "" and "N/A" fill the unused numbers of COCO's ids. */
bool class_table_is_name(const char *name);

/* "disk (1), ring (7), ... (80 classes)", cut off where it would not fit. */
void class_table_text(char *out, size_t size, const weights_classes *classes);

#endif
