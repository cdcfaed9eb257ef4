/* The annotations of an image as instances to draw. */
#ifndef DRAW_TRUTH_H
#define DRAW_TRUTH_H

#include "data/dataset.h"
#include "draw/picture.h"

/* Memory is kept from image to image; starts as {0}. */
typedef struct truth_list {
    picture_instance
        *items; /* [count], in the file's order; masks and names belong to the list and the dataset */
    int count;
    mask_rle *masks; /* [capacity] */
    int capacity;
    int height, width; /* of the image, as the annotations have it */
} truth_list;

/* Every annotation with a box, crowd regions too; masks where `masks` is set and the annotation has a good one. DATA: a
 * polygon that cannot be drawn; OS. */
status truth_of_image(truth_list *out, const dataset *data, uint32_t image, bool masks);
void truth_release(truth_list *list);

#endif
