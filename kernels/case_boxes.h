/* Boxes as detection has them, for the cases that `bench op` times. */
#ifndef KERNELS_CASE_BOXES_H
#define KERNELS_CASE_BOXES_H

#include "autograd/tensor.h"

/* Turns four values of [0, 1) in each row of `boxes` [...,columns], from column `first` on, into x1 y1 x2 y2 on an image: centres
 * uniform over it, sides e^2..e^6 pixels (7..403) with uniform logarithm, clipped. */
void case_boxes_spread(tensor *boxes, int first, double width, double height);

/* The same for regions [R,5], whose first value of [0, 1) becomes the index of one of `images` images. */
void case_boxes_regions(tensor *rois, int64_t images, double width, double height);

/* Regions [R,5] of values of [0, 1): two corners anywhere on a square map of `side` pixels, on one of `images` images. */
void case_boxes_corners(tensor *rois, int64_t images, double side);

#endif
