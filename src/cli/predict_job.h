/* maskrcnn predict: a model on files, one after another. */
#ifndef CLI_PREDICT_JOB_H
#define CLI_PREDICT_JOB_H

#include "data/image_list.h"
#include "config/config.h"

typedef struct predict_options {
    const char *out; /* folder of everything that is written */
    bool raw_masks;  /* probabilities to a file of their own instead of masks in the results */
    bool pictures;
    double draw_threshold; /* lowest score in pictures */
} predict_options;

/* Writes coco_instances_results.json, for each image a picture, with raw_masks raw_masks.safetensors; prints the times of
 * the stages. Images that cannot be read are named and left out; DATA where that leaves none. USAGE: no weights, or a
 * picture would take the place of an image. Codes of setup_model, detector_run and of writing. */
status predict_run(const config *cfg, const image_list *images, const predict_options *options);

#endif
