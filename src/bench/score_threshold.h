/* What random weights need before detections can be measured. */
#ifndef BENCH_SCORE_THRESHOLD_H
#define BENCH_SCORE_THRESHOLD_H

#include "infer/detector.h"

/* Random weights find nothing they are sure of. Puts spec->score_threshold just below the score of the last detection that there is
 * room for in this image (RGB8, as for detector_run), so that masks are made of as many. An RPN alone has no threshold: nothing
 * changes. Codes of detector_run. */
status score_threshold_lower(detector_spec *spec, mask_rcnn *model, device *dev, const uint8_t *pixels,
                             int height, int width);

#endif
