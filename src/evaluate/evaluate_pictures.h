/* OUTPUT_DIR/pictures/NNNN_<stem>.png: ground truth beside predictions, of images spread evenly over a test set. */
#ifndef EVALUATE_EVALUATE_PICTURES_H
#define EVALUATE_EVALUATE_PICTURES_H

#include "evaluate/test_pictures.h"

#include <limits.h>

typedef struct evaluate_pictures {
    test_pictures pictures;
    char folder[PATH_MAX];
    int wanted; /* 0: none */
    int ranks;  /* only every so manieth image comes by on this rank */
} evaluate_pictures;

/* `count` pictures (0: none) of the images 0, ranks, 2 x ranks, ... of the set. Makes the folder and removes pictures of
 * earlier evaluations from it. What goes wrong, here and below, is a warning: no number depends on pictures. */
void evaluate_pictures_begin(evaluate_pictures *p, const config *cfg, const test_set *set, int count,
                             int ranks);
void evaluate_pictures_end(evaluate_pictures *p);

/* Draws the picture of this image if it is one of those wanted. */
void evaluate_pictures_draw(evaluate_pictures *p, const loader_sample *sample, const detection_list *found);

#endif
