#include "case_boxes.h"

#include <math.h>

void case_boxes_spread(tensor *boxes, int first, double width, double height) {
    int64_t columns = boxes->shape[boxes->rank - 1], rows = tensor_count(boxes) / columns;
    const double side[2] = {width, height};
    for (int64_t r = 0; r < rows; r++) {
        for (int k = 0; k < 2; k++) {
            int64_t low = r * columns + first + k, high = low + 2;
            double centre = tensor_get(boxes, low) * side[k], half = exp(2 + 4 * tensor_get(boxes, high)) / 2;
            tensor_set(boxes, low, fmax(centre - half, 0));
            tensor_set(boxes, high, fmin(centre + half, side[k]));
        }
    }
}

static void set_images(tensor *rois, int64_t images) {
    for (int64_t r = 0; r < rois->shape[0]; r++)
        tensor_set(rois, 5 * r, floor(tensor_get(rois, 5 * r) * (double)images));
}

void case_boxes_regions(tensor *rois, int64_t images, double width, double height) {
    set_images(rois, images);
    case_boxes_spread(rois, 1, width, height);
}

void case_boxes_corners(tensor *rois, int64_t images, double side) {
    set_images(rois, images);
    for (int64_t r = 0; r < rois->shape[0]; r++) {
        for (int64_t low = 5 * r + 1; low < 5 * r + 3; low++) {
            double a = side * tensor_get(rois, low), b = side * tensor_get(rois, low + 2);
            tensor_set(rois, low, fmin(a, b));
            tensor_set(rois, low + 2, fmax(a, b));
        }
    }
}
