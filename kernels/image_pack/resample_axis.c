#include "image_pack/resample_axis.h"

/* The exact value of a weight before it is rounded matters to the last bit, so this follows the order of
 * operations of Pillow's precompute_coeffs and normalize_coeffs_8bpc. */
triangle_tap triangle_tap_of(int32_t *weights, int i, int in, int out) {
    double scale = (double)in / out, support = scale < 1 ? 1 : scale, center = (i + 0.5) * scale, sum = 0;
    double narrow = 1.0 / support;
    int first = (int)(center - support + 0.5), end = (int)(center + support + 0.5);
    if (first < 0) first = 0;
    if (end > in) end = in;
    for (int x = first; x < end; x++) {
        double distance = fabs((x - center + 0.5) * narrow);
        sum += distance < 1 ? 1 - distance : 0;
    }
    for (int x = first; x < end; x++) {
        double distance = fabs((x - center + 0.5) * narrow), w = distance < 1 ? 1 - distance : 0;
        if (sum != 0) w /= sum;
        weights[x - first] = (int32_t)(0.5 + w * (1 << TRIANGLE_BITS));
    }
    return (triangle_tap){first, end - first};
}
