/* The class names and category ids that a weights file records (class_names, class_ids in its `__metadata__`). */
#ifndef TRAIN_WEIGHTS_LABELS_H
#define TRAIN_WEIGHTS_LABELS_H

#include "base/status.h"
#include "data/json_pairs.h"

typedef struct weights_labels {
    int count;          /* classes of the model */
    const char **names; /* [count]; NULL where the file has no list of that length */
    int64_t *ids;       /* [count] category ids of the data set; NULL likewise */
    json_pairs text;    /* holds the names */
} weights_labels;

/* Reads the lists of a model with `classes` foreground classes; lists of another length count as absent. Codes of
 * safetensors_open; DATA: a list that is no JSON. Release it in any case. */
status weights_labels_read(weights_labels *out, const char *path, int classes);
void weights_labels_release(weights_labels *labels);

#endif
