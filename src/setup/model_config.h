/* From configuration keys to the model's spec: the only place that knows both. */
#ifndef SETUP_MODEL_CONFIG_H
#define SETUP_MODEL_CONFIG_H

#include "infer/detector.h"
#include "model/mask_rcnn.h"
#include "config/config.h"

/* CONFIG: keys that do not fit each other, named with their values. */
status model_spec_from_config(mask_rcnn_spec *spec, const config *cfg);

/* The test rules: keys of INPUT, MODEL.ROI_HEADS, MODEL.ROI_MASK_HEAD and TEST. */
void detector_spec_from_config(detector_spec *spec, const config *cfg);

#endif
