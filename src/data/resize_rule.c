#include "data/resize_rule.h"

#include <math.h>
#include "base/check.h"

static int32_t at_least_1(double side) {
    return side < 1 ? 1 : (int32_t)side;
}

void resize_rule_apply(int32_t *resized_height, int32_t *resized_width, resize_rule rule, int32_t height,
                       int32_t width, int32_t short_edge, int32_t max_size) {
    CHECK(height >= 1 && width >= 1 && short_edge >= 1, "%d x %d to %d", height, width, short_edge);
    double h = height, w = width, low = fmin(h, w), high = fmax(h, w), scale = short_edge / low;
    if (rule == RESIZE_RULE_TORCHVISION) {
        if (max_size > 0) scale = fmin(scale, max_size / high);
        *resized_height = at_least_1(floor(h * scale));
        *resized_width = at_least_1(floor(w * scale));
        return;
    }
    double new_h = h < w ? short_edge : scale * h, new_w = h < w ? scale * w : short_edge;
    if (max_size > 0 && fmax(new_h, new_w) > max_size) {
        scale = max_size / fmax(new_h, new_w);
        new_h *= scale;
        new_w *= scale;
    }
    *resized_height = at_least_1(floor(new_h + 0.5));
    *resized_width = at_least_1(floor(new_w + 0.5));
}
