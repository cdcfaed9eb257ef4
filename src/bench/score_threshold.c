#include "bench/score_threshold.h"

status score_threshold_lower(detector_spec *spec, mask_rcnn *model, device *dev, const uint8_t *pixels,
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
