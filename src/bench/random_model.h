/* What random weights need, so that a measurement does the work that trained ones do. */
#ifndef BENCH_RANDOM_MODEL_H
#define BENCH_RANDOM_MODEL_H

#include "config/config.h"
#include "infer/detector.h"

/* Random weights behind norms that are frozen at nothing double the variance in every block, until scores are 0 and 1, boxes cover
 * the image and suppression leaves a handful. All biases are 0, so that smaller pixels give smaller activations everywhere:
 * proposals are then as many as a trained model has. Before the first graph is recorded. */
void random_model_calm(mask_rcnn *model, const config *cfg);

/* Random weights find nothing they are sure of. Puts spec->score_threshold just below the score of the last detection that there is
 * room for in this image (RGB8, as for detector_run), so that masks are made of as many. An RPN alone has no threshold: nothing
 * changes. Codes of detector_run. */
status random_model_lower_threshold(detector_spec *spec, mask_rcnn *model, device *dev, const uint8_t *pixels,
                                    int height, int width);

#endif
