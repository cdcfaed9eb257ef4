/* Which category of a data set each label of a model stands for. */
#ifndef EVALUATE_CLASS_MAP_H
#define EVALUATE_CLASS_MAP_H

#include "weights/class_table.h"

/* Where each of a model's labels goes. */
typedef struct class_map {
    int labels;
    int32_t *
        categories; /* [labels] index into the data set's categories; -1: none, its detections do not count */
    int64_t *ids;   /* [labels] original category id; 0 where there is none */
    const char **names; /* [labels] borrowed from the data set's list; NULL where there is none */
} class_map;

/* `model`: the classes that the weights were trained for, as `model_name` says; they have to be those of `set`, in names and
 * (where both know them) in ids; labels named N/A stand for nothing. Without classes, numbers decide and a log line says how: as many labels as categories, in the
 * order of the ids; torchvision's 90 labels of COCO, where label + 1 is the category id; more labels than categories: the first
 * ones in order, with a warning.
 *
 * DATA, with both lists: other classes. CONFIG: fewer labels than categories. OS. class_map_release in any case. */
status class_map_make(class_map *out, int labels, const weights_classes *model, const char *model_name,
                      const weights_classes *set, const char *set_name);
/* Of an RPN alone: one label, called proposal, with the id 1 in results files. OS. */
status class_map_make_proposals(class_map *out);
void class_map_release(class_map *map);

#endif
