/* A ground truth file and a results file like those of COCO val2017, for `bench eval`: 80 categories, about 7 objects and 25
 * detections an image, polygons in the one and compressed masks in the other. */
#ifndef BENCH_EVAL_PAIR_H
#define BENCH_EVAL_PAIR_H

#include "base/status.h"

/* Writes both; the same `images` give the same files. Codes of writing files, OS. */
status eval_pair_write(const char *annotations, const char *results, int images);

#endif
