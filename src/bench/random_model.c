#include "bench/random_model.h"

#include <string.h>

enum { SCALE = 4096 };

void random_model_calm(mask_rcnn *model, const config *cfg) {
    if (strcmp(cfg->MODEL_RESNETS_NORM, "FrozenBN") != 0) return;
    for (int c = 0; c < 3; c++) model->spec.pixels.std[c] *= SCALE;
}

status random_model_lower_threshold(detector_spec *spec, mask_rcnn *model, device *dev, const uint8_t *pixels,
                                    int height, int width) {
    detector *d;
    detection_list found = {0};
    detector_spec all = *spec;
    all.score_threshold = 0;
    all.masks = false;
    if (model->spec.rpn_only) return STATUS_OK;
    RETURN_IF_ERROR(detector_new(&d, model, dev, &all));
    status s = detector_run(d, &found, pixels, height, width);
    if (s == STATUS_OK && found.count > 0)
        spec->score_threshold = 0.999 * (double)found.items[found.count - 1].score;
    detection_list_release(&found);
    detector_free(d);
    return s;
}
